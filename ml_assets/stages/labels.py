"""Labels: entity, label and known time, by the day the label became known.

Not here: the meaning of a label (see dbt's mart).
"""

import dagster as dg
import polars as pl

from ml_assets.contracts import frames
from ml_assets.lake.manifest import EXCLUDED_ROWS
from ml_assets.lake.partitions import key_range
from ml_assets.logic.tables.labels import labels_left_out, select_labels
from ml_assets.models.plan import ModelPlan, table_key
from ml_assets.stages.asset import stage


def labels(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's labels.

    A day reads the outcomes of the declared waiting days before it. Later corrections do not change the labels.
    """
    wanted, timezone = plan.declaration.labels, plan.declaration.days.timezone
    mapping = dg.TimeWindowPartitionMapping(
        start_offset=-plan.calendar.periods_for(wanted.maturity_days), allow_nonexistent_upstream_partitions=True
    )

    @stage(
        plan,
        "labels",
        [select_labels, labels_left_out],
        kinds={"polars", "parquet"},
        by_day=True,
        parameters={
            "key": plan.key,
            "known_time": wanted.known_time,
            "target": wanted.target,
            "reason": wanted.reason,
            "timezone": timezone,
            **({} if wanted.positive is None else {"positive": wanted.positive}),
            **({} if wanted.weight is None else {"weight": wanted.weight}),
        },
        ins={"table": dg.AssetIn(table_key(wanted.table), partition_mapping=mapping)},
    )
    def labels(context: dg.AssetExecutionContext, table: pl.DataFrame) -> pl.DataFrame:
        """The outcomes, by the day they could first be known."""
        span = key_range(context)
        rows = select_labels(table, plan.columns, span=span, reason=wanted.reason)
        schema = frames.labels_table(plan.columns, has_reason=wanted.reason is not None)
        frames.check_frames([rows], schema, personal=plan.personal)
        left_out = labels_left_out(table, plan.columns, span=span, maturity_days=wanted.maturity_days)
        context.add_output_metadata(
            {
                "rows": rows.height,
                "without a label": rows[wanted.target].null_count(),
                EXCLUDED_ROWS: dg.MetadataValue.json({day: left_out.get(day, {}) for day in context.partition_keys}),
            }
        )
        return rows

    return labels
