"""Performance: metrics on matured labels, beside what was expected before the labels came.

Acting on it stays out; see `sensors`.
"""

import dagster as dg
import polars as pl

from ml_assets.contracts.artifacts import Performance, PerformanceSummary
from ml_assets.contracts.frames import check_frames, performance_table
from ml_assets.logic.performance import measure_performance
from ml_assets.stages.common.asset import image, stage
from ml_assets.stages.common.former import former_champion
from ml_assets.stages.common.plan import ModelPlan
from resources.lake_resource import LakeResource


def performance(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's performance."""
    declared = plan.declaration
    mapping = dg.TimeWindowPartitionMapping(
        start_offset=0, end_offset=declared.labels.wait_days, allow_nonexistent_upstream_partitions=True
    )

    @stage(
        plan,
        "performance",
        [measure_performance, former_champion],
        kinds={"polars"},
        by_day=True,
        ins={
            "predictions": dg.AssetIn(plan.asset("predictions")),
            "labels": dg.AssetIn(plan.asset("labels"), partition_mapping=mapping),
        },
    )
    def performance(
        context: dg.AssetExecutionContext, predictions: pl.DataFrame, labels: pl.DataFrame, lake: LakeResource
    ) -> dict[str, Performance]:
        """How good the predictions of a day turned out, on the labels known so far."""
        from ml_assets.logic.plots.monitoring import performance_plot

        opened = lake.open()
        former = former_champion(opened, plan)
        measured = {}
        for day in context.partition_keys:
            of_day = predictions.filter(pl.col("day").cast(pl.String) == day)
            others = None if former is None else former.scores(opened, plan, day, of_day)
            measured[day] = measure_performance(
                of_day,
                labels,
                model=plan.name,
                task=declared.task,
                key=plan.key,
                target=declared.labels.target,
                known_time=declared.labels.known_time,
                day=day,
                former=None if former is None or others is None else (former.version, others),
            )
        check_frames([one.table for one in measured.values()], performance_table())
        for day, one in measured.items():
            summary = one.summary
            context.add_asset_metadata(
                {
                    **dict(summary.metrics),
                    **{f"expected {name}": value for name, value in summary.expected.items()},
                    "predictions": summary.predictions,
                    "labelled": summary.labelled,
                    **_told_of_former(summary),
                    "verdict": summary.sentence,
                },
                partition_key=day,
            )
        summaries = [one.summary for one in measured.values()]
        history = image(performance_plot(summaries, declared.metric), f"{declared.metric} by day")
        context.add_asset_metadata({"history": history}, partition_key=list(measured)[-1])
        return measured

    return performance


def _told_of_former(summary: PerformanceSummary) -> dict[str, float]:
    former = summary.former
    return {} if former is None else {f"{name} of the champion before": it for name, it in former.metrics.items()}
