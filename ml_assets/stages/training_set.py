"""The training set: features joined to the labels known by the as-of day, split and frozen.

Features with a proven leak, or not covered by a declared leak test, are not used for training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field, JsonValue, field_validator

from ml_assets.contracts.artifacts.training import TrainingSet, TrainingSetSummary
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.training_set import Split
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import EXCLUDED_ROWS
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.inspection.lone_columns import LonePredictor, lone_predictors
from ml_assets.logic.point_in_time.suspects import LeakFindings
from ml_assets.models.leaks import LONE, findings_on, refuse_leaks
from ml_assets.models.plan import ModelPlan, newest_day
from ml_assets.models.training import refuse_gaps, training_set_as_of
from ml_assets.orchestration.groups import INPUTS
from ml_assets.stages.asset import stage

CHECK = "no_feature_predicts_the_target_alone"
LOOKED_AT = 20_000  # random train rows; all 245,000 of a year take 4 s and show the same


class WindowConfig(dg.Config):
    """Windows in days, counted back from the as-of day; see `Split` in `ml_assets.declaration.training_set`."""

    train_days: int | None = Field(
        default=None, gt=0, description=("days of the train window; all available days if absent")
    )
    validation_days: int = Field(gt=0)
    test_days: int = Field(gt=0)


class TrainingSetConfig(dg.Config):
    """The as-of day of the training set, and its split."""

    as_of: str | None = Field(
        default=None,
        description=(
            "Day (YYYY-MM-DD) by the end of which a label must be known; if absent, the newest day of features."
        ),
    )
    split: WindowConfig | None = Field(default=None, description="The windows; the declared ones if absent.")

    @field_validator("as_of")
    @classmethod
    def _is_day(cls, text: str | None) -> str | None:
        if text is not None:
            date.fromisoformat(text)
        return text


def training_set(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's training set."""
    declared = plan.declaration
    up_to = {"up_to": "as_of", "calendar": dg.MetadataValue.json(asdict(plan.calendar))}

    suspicion = dg.AssetCheckSpec(
        CHECK, asset=plan.asset("training_set"),
        description="A column that alone predicts the target far better than any other is often a copy of it.",
    )  # fmt: skip

    @stage(
        plan, "training_set", training_set_as_of, kinds={"polars", "parquet"}, parameters={
            "split": declared.split, "target": declared.labels.target, "features": [f.name for f in plan.features],
            "task": declared.task, "timezone": declared.days.timezone,
            **({} if declared.labels.positive is None else {"positive": declared.labels.positive}),
            **({} if declared.labels.weight is None else {"weight": declared.labels.weight}),
            **({} if declared.objective is None else {"objective": declared.objective}),
            **({} if declared.ranking is None else {"ranking": declared.ranking}),
        },
        ins={
            "features": dg.AssetIn(plan.asset("features"), metadata=up_to),
            "labels": dg.AssetIn(plan.asset("labels"), metadata=up_to),
        },
        check_specs=[suspicion],
    )  # fmt: skip
    def training_set(
        config: TrainingSetConfig, features: pl.LazyFrame, labels: pl.LazyFrame, ml_assets_lake: LakeResource
    ) -> Iterator[Any]:
        """Features joined to the labels known by the as-of day; train, validation and test."""
        as_of = date.fromisoformat(config.as_of) if config.as_of else newest_day(features)
        split = _windows(plan, config)
        ledger = ml_assets_lake.ledger()
        there = {name: ledger.days_of(name) for name in (plan.asset(stage).to_user_string() for stage in INPUTS)}
        ledger.note_missing(refuse_gaps(plan, there, as_of, split or declared.split))
        refuse_leaks(plan.name, _findings(plan, ledger, ()))
        result = training_set_as_of(plan, features, labels, as_of=as_of, split=split)
        lone, rows = _lone_predictors(plan, result)
        noted: list[JsonValue] = [asdict(it) for it in lone]
        ledger.note(**{LONE: noted})
        yield _suspicion(plan, _findings(plan, ledger, lone).suspects, lone, rows)
        yield dg.Output(result, metadata=_metadata(result.summary))

    return training_set


def _windows(plan: ModelPlan, config: TrainingSetConfig) -> Split | None:
    """Return the windows of the run's config; None for the declared split.

    Raises:
        DataError: the model is not split by time.
    """
    if config.split is None:
        return None
    if not plan.declaration.split.is_by_time:
        raise DataError(
            f"the run's config has windows in days, but the split of {plan.name} is 'by: {plan.declaration.split.by}'. "
            "Remove 'split' from the config."
        )
    return Split(**config.split.model_dump())


def _metadata(summary: TrainingSetSummary) -> dict[str, Any]:
    windows = [dg.TableRecord({k: str(v) for k, v in w.model_dump().items()}) for w in summary.windows]
    return {
        "as of": str(summary.as_of),
        **({} if summary.split is None else {"split": summary.split.words}),
        "windows": dg.MetadataValue.table(windows),
        **{f"{w.split} rows": w.rows for w in summary.windows},
        EXCLUDED_ROWS: dg.MetadataValue.json(summary.excluded_rows),
        "labels without features": summary.labels_without_features,
    }


def _findings(plan: ModelPlan, ledger: StepLedger, lone: Sequence[LonePredictor]) -> LeakFindings:
    """Return the known leaks in the days of features that the step has read."""
    days = [ref for ref in ledger.refs if ref.asset == plan.asset("features").to_user_string()]
    return findings_on(ledger.lake, plan.declaration, days, lone, runs=ledger.runs)


def _lone_predictors(plan: ModelPlan, frozen: TrainingSet) -> tuple[tuple[LonePredictor, ...], int]:
    """Return the features that alone predict the target almost perfectly, and the number of examined rows."""
    rows = frozen.part("train")
    places = np.random.default_rng(plan.declaration.seed).permutation(rows.height)[:LOOKED_AT]
    names = [feature.name for feature in frozen.summary.features]
    found = lone_predictors(
        rows[np.sort(places)],
        names,
        frozen.summary.target,
        frozen.summary.task,
        event_time=frozen.summary.event_time,
    )
    return found, len(places)


def _suspicion(
    plan: ModelPlan, suspects: Sequence[LonePredictor], lone: Sequence[LonePredictor], rows: int
) -> dg.AssetCheckResult:
    """Return the check for features that alone predict the target almost perfectly."""
    cleared = [it.column for it in lone if it not in suspects]
    found = [
        dg.TableRecord({"column": it.column, "power": it.power, "rest": it.rest, "finding": it.sentence})
        for it in suspects
    ]
    return dg.AssetCheckResult(
        check_name=CHECK,
        asset_key=plan.asset("training_set"),
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "rows": rows,
            **({"cleared by the leak test, or acknowledged": ", ".join(cleared)} if cleared else {}),
            **({"findings": dg.MetadataValue.table(found)} if found else {}),
        },
    )
