"""Performance: metrics on matured labels, beside what was expected before the labels came.

Acting on it stays out; see `sensors`.
"""

import dagster as dg
import polars as pl

from ml_assets.contracts.artifacts import Performance
from ml_assets.contracts.frames import check_frames, performance_table
from ml_assets.logic.performance import measure_performance
from ml_assets.stages.common.asset import image, stage
from ml_assets.stages.common.plan import ModelPlan


def performance(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's performance."""
    declared = plan.declaration
    mapping = dg.TimeWindowPartitionMapping(
        start_offset=0, end_offset=declared.labels.wait_days, allow_nonexistent_upstream_partitions=True
    )

    @stage(
        plan,
        "performance",
        measure_performance,
        kinds={"polars"},
        by_day=True,
        ins={
            "predictions": dg.AssetIn(plan.asset("predictions")),
            "labels": dg.AssetIn(plan.asset("labels"), partition_mapping=mapping),
        },
    )
    def performance(
        context: dg.AssetExecutionContext, predictions: pl.DataFrame, labels: pl.DataFrame
    ) -> dict[str, Performance]:
        """How good the predictions of a day turned out, on the labels known so far."""
        from ml_assets.logic.plots.monitoring import performance_plot

        measured = {
            day: measure_performance(
                predictions.filter(pl.col("day").cast(pl.String) == day),
                labels,
                model=plan.name,
                task=declared.task,
                key=plan.key,
                target=declared.labels.target,
                known_time=declared.labels.known_time,
                day=day,
            )
            for day in context.partition_keys
        }
        check_frames([one.table for one in measured.values()], performance_table())
        for day, one in measured.items():
            summary = one.summary
            context.add_asset_metadata(
                {
                    **dict(summary.metrics),
                    **{f"expected {name}": value for name, value in summary.expected.items()},
                    "predictions": summary.predictions,
                    "labelled": summary.labelled,
                    "verdict": summary.sentence,
                },
                partition_key=day,
            )
        summaries = [one.summary for one in measured.values()]
        history = image(performance_plot(summaries, declared.metric), f"{declared.metric} by day")
        context.add_asset_metadata({"history": history}, partition_key=list(measured)[-1])
        return measured

    return performance
