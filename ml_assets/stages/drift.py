"""Drift: each feature and the score of a day against the champion's reference, weighted by importance.

Acting on it stays out; see `sensors`.
"""

import dagster as dg
import polars as pl

from ml_assets.contracts.artifacts import Drift
from ml_assets.contracts.frames import check_frames, drift_table
from ml_assets.logic.drift import DriftLimits, measure_drift
from ml_assets.logic.reference import Reference
from ml_assets.stages.common.asset import image, stage
from ml_assets.stages.common.champions import serving_champion
from ml_assets.stages.common.plan import ModelPlan
from resources.lake_resource import LakeResource


def drift(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's drift."""
    limits = DriftLimits(**plan.declaration.drift.model_dump())

    @stage(
        plan,
        "drift",
        measure_drift,
        kinds={"polars"},
        by_day=True,
        parameters={"limits": vars(limits)},
        ins={"predictions": dg.AssetIn(plan.asset("predictions"))},
    )
    def drift(context: dg.AssetExecutionContext, predictions: pl.DataFrame, lake: LakeResource) -> dict[str, Drift]:
        """PSI, Kolmogorov-Smirnov, Wasserstein, missing values and new categories, in one pass over each day."""
        from ml_assets.logic.plots.monitoring import drift_history_plot, drift_plot

        champion = serving_champion(lake.open(), plan)
        reference = Reference.of(champion.model.reference, model=plan.name)
        measured = {
            day: measure_drift(
                predictions.filter(pl.col("day").cast(pl.String) == day).unnest("features"),
                reference,
                weights=champion.model.spec.weights,
                limits=limits,
                model=plan.name,
                model_version=champion.version,
                day=day,
            )
            for day in context.partition_keys
        }
        check_frames([one.table for one in measured.values()], drift_table())
        summaries = [one.summary for one in measured.values()]
        for day, one in measured.items():
            figures = {"weighted PSI": one.summary.weighted_psi, "score PSI": one.summary.score_psi}
            context.add_asset_metadata(
                {
                    **{name: figure for name, figure in figures.items() if figure is not None},
                    "is over the limits": one.summary.is_over,
                    "verdict": one.summary.sentence,
                },
                partition_key=day,
            )
        last_day, last = list(measured.items())[-1]
        context.add_asset_metadata(
            {
                "per feature": image(drift_plot(last), f"drift on {last_day}"),
                **({"history": image(drift_history_plot(summaries), "drift by day")} if len(summaries) > 1 else {}),
            },
            partition_key=last_day,
        )
        return measured

    return drift
