"""The check that the prediction service scored as the batch path does, by day.

It passes only if all rows were compared and none differs. Rows that cannot be compared cause a warning. A difference is
an error, because one of the two paths is wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import dagster as dg
import polars as pl

from ml_assets.contracts.words import counted
from ml_assets.logic.monitoring.parity import Mismatch
from ml_assets.stages.asset import as_table
from ml_assets.stages.checks.verdicts import spec_by_day

PARITY: Final = "scores_are_those_of_the_batch_path"
_SCHEMA: Final = pl.Schema(
    {
        "partition": pl.String, "column": pl.String, "rows": pl.Int64, "finding": pl.String, "model_version": pl.String,
    }
)  # fmt: skip


def parity_spec(asset: dg.AssetKey, partitions: dg.PartitionsDefinition[str]) -> dg.AssetCheckSpec:
    """Return the check of a model's requests."""
    description = (
        "The logged rows, scored again by the same version in the batch path, have the scores that were answered, bit "
        "for bit, and rows by key have the features that the lake had. Fails if one differs, and as a warning if rows "
        "cannot be compared."
    )
    return spec_by_day(PARITY, asset, partitions, description)


def parity_result(
    asset: dg.AssetKey, rows: Mapping[str, int], differences: Mapping[str, Sequence[Mismatch]]
) -> dg.AssetCheckResult:
    """Return the check result for days, from their numbers of rows and what differs."""
    found = [(key, it) for key in rows for it in differences[key]]
    differing = [it for _, it in found if not it.reason]
    left_out = [it for _, it in found if it.reason]
    total = sum(rows.values())
    words = [f"{it.column} of version {it.version[:12]}: {it.sentence}" for it in (*differing, *left_out)]
    table = pl.DataFrame(
        [(key, it.column, it.rows, it.sentence, it.version) for key, it in found], schema=_SCHEMA, orient="row"
    )
    return dg.AssetCheckResult(
        check_name=PARITY,
        asset_key=asset,
        passed=not found and total > 0,
        severity=dg.AssetCheckSeverity.ERROR if differing else dg.AssetCheckSeverity.WARN,
        description=". ".join(words) or (f"{counted(total, 'row')} compared." if total else "there are no requests."),
        metadata={"rows": total, **({"findings": as_table(table)} if found else {})},
    )
