"""Checks that rebuilt features equal the published ones, because what was known at a moment does not change.

Not here: what counts as a change (see `ml_assets.logic.point_in_time.leak_test`).
"""

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg
import polars as pl

from ml_assets.contracts.table import TableContract
from ml_assets.lake.content import content_version, parts_of
from ml_assets.lake.io_manager import by_partition
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.logic.point_in_time.leak_test import LateChange, changed_after_known
from ml_assets.models.plan import ModelPlan, table_key
from ml_assets.provenance.lineage import code_behind
from ml_assets.stages.asset import as_table
from ml_assets.stages.checks.expectations import artifacts_with_same_columns

UNCHANGED = "features_stay_as_they_were_published"


def unchanged_check_spec(plan: ModelPlan) -> dg.AssetCheckSpec:
    """Return the check of a model's features."""
    return dg.AssetCheckSpec(
        UNCHANGED,
        asset=plan.asset("features"),
        description="Rows that were published have not changed, because what was known at a prediction time is fixed.",
    )


def unchanged_check_result(
    context: dg.AssetExecutionContext, plan: ModelPlan, lake: Lake, rows: pl.DataFrame
) -> dg.AssetCheckResult:
    """Return whether rows that the same code published before are unchanged."""
    days = context.partition_keys
    code_version = context.assets_def.specs_by_key[plan.asset("features")].code_version
    before = artifacts_with_same_columns(lake, _of_the_same_code(plan, lake, rows, days, code_version), rows)
    again = rows.filter(plan.calendar.key_of_row().is_in([ref.partition for ref in before]))
    changes = (
        changed_after_known(again, lake.scan(before).collect(), [*plan.key, *plan.calendar.columns]) if before else ()
    )
    changes = tuple(_shown(change, plan.features_contract) for change in changes)
    found = [
        {
            "partition": _partition(it, plan),
            "column": it.column or "(row)",
            "rows": it.rows,
            "example": it.sentence,
        }
        for it in changes
    ]
    return dg.AssetCheckResult(
        check_name=UNCHANGED,
        asset_key=plan.asset("features"),
        passed=not changes,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "days compared": len(before),
            **({"findings": as_table(pl.DataFrame(found))} if found else {}),
        },
    )


def _partition(change: LateChange, plan: ModelPlan) -> str:
    return str(pl.DataFrame([change.row]).select(plan.calendar.key_of_row()).item())


def _shown(change: LateChange, contract: TableContract) -> LateChange:
    """Return a change without personal values."""
    return replace(
        change,
        row={name: contract.shown(name, value) for name, value in change.row.items()},
        before=contract.shown(change.column, change.before),
        now=contract.shown(change.column, change.now),
    )


def _of_the_same_code(
    plan: ModelPlan, lake: Lake, rows: pl.DataFrame, days: Sequence[str], code_version: str | None
) -> list[ArtifactRef]:
    """Return the published days whose rows differ although all code behind them is the same."""
    asset = plan.asset("features").to_user_string()
    table = table_key(plan.declaration.features.table).to_user_string()
    parts, published = by_partition(rows, days, asset, plan.calendar), lake.newest(asset, days)
    other = {day: ref for day, ref in published.items() if content_version(parts_of(parts[day])) != ref.version}
    now = lake.newest(table, [*other]) if other else {}
    same = []
    for day, ref in other.items():
        manifest = lake.manifest(ref)
        read = [it for it in manifest.inputs if (it.asset, it.partition) == (table, day)]
        if manifest.code_version == code_version and [code_behind(lake, it) for it in read] == [
            code_behind(lake, it) for it in [now.get(day)] if it is not None
        ]:
            same.append(ref)
    return same
