"""The training set: features joined to the labels known by the day asked for, split by time and frozen.

What is trained on it stays out.
"""

from datetime import date

import dagster as dg
import polars as pl
from pydantic import Field

from ml_assets.contracts.artifacts import TrainingSet
from ml_assets.logic.training_set import assemble_training_set
from ml_assets.stages.common import ModelPlan, newest_day, stage


class TrainingSetConfig(dg.Config):
    """As of when the training set is assembled."""

    as_of: str | None = Field(
        default=None,
        description="Day (YYYY-MM-DD) by whose end a label must be known; the newest day of the features if absent.",
    )


def training_set(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's training set."""
    declared = plan.declaration

    @stage(
        plan, "training_set", assemble_training_set, kinds={"polars", "parquet"}, parameters={
            "split": declared.split, "target": declared.labels.target, "features": [f.name for f in plan.features],
        },
        ins={
            "features": dg.AssetIn(plan.asset("features"), metadata={"up_to": "as_of"}),
            "labels": dg.AssetIn(plan.asset("labels"), metadata={"up_to": "as_of"}),
        },
    )  # fmt: skip
    def training_set(
        context: dg.AssetExecutionContext, config: TrainingSetConfig, features: pl.LazyFrame, labels: pl.LazyFrame
    ) -> TrainingSet:
        """Features joined to the labels known by the as-of day; train, validation and test in time order."""
        result = assemble_training_set(
            features,
            labels,
            model=plan.name,
            task=declared.task,
            target=declared.labels.target,
            key=plan.key,
            event_time=declared.features.event_time,
            prediction_time=declared.features.prediction_time,
            known_time=declared.labels.known_time,
            feature_list=plan.features,
            as_of=date.fromisoformat(config.as_of) if config.as_of else newest_day(features),
            **declared.split.model_dump(),
        )
        summary = result.summary
        context.add_output_metadata(
            {
                "as of": str(summary.as_of),
                "windows": dg.MetadataValue.table(
                    [dg.TableRecord({k: str(v) for k, v in w.model_dump().items()}) for w in summary.windows]
                ),
                **{f"{w.split} rows": w.rows for w in summary.windows},
                **{f"left out: {reason}": rows for reason, rows in summary.excluded.items()},
            }
        )
        return result

    return training_set
