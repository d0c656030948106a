"""The check that lists missing days among an asset's inputs, if its declaration allows gaps.

Not here: refusal of gaps that are not allowed (see `ml_assets.warehouse.warehouse`, `ml_assets.lake.io_manager` and
`ml_assets.stages.training_set`).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import dagster as dg

from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.declaration.reading import Declared
from ml_assets.lake.days import days_by_asset, merge_days
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.run_tags import range_of
from ml_assets.models.plan import table_key
from ml_assets.warehouse.nodes import is_gap_allowed

CHECK: Final = "no_day_is_missing"


def gap_checks(declared: Declared, manifest: Mapping[str, Any]) -> list[dg.AssetChecksDefinition]:
    """Return the checks of tables and models that may be built over missing days."""
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    tables = [table_key(node["name"]) for node in models if is_gap_allowed(node)] if declared.tables else []
    stages = [
        dg.AssetKey([model.name, stage])
        for model in declared.models
        for stage in (("labels", "training_set", "predictions") if model.allow_gaps else ("predictions",))
        if model.allow_gaps or tables
    ]
    return [_check(key, declared.calendar) for key in (*tables, *stages)]


def _check(key: dg.AssetKey, calendar: Calendar) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=key, name=CHECK, description="No day of its inputs is missing.")
    def no_day_is_missing(context: dg.AssetCheckExecutionContext, ml_assets_lake: LakeResource) -> dg.AssetCheckResult:
        opened, span = ml_assets_lake.connect(), range_of(context.run.tags)
        days = [""] if span is None else ["", *calendar.between(*span)]
        missing = {
            day: opened.manifest(ref).missing_days for day, ref in opened.newest(key.to_user_string(), days).items()
        }
        return gap_result(key, missing, calendar)

    return no_day_is_missing


def gap_result(
    key: dg.AssetKey, missing: Mapping[str, Mapping[str, Iterable[str]]], calendar: Calendar = DAILY
) -> dg.AssetCheckResult:
    """Return the check's result from the missing inputs of each partition."""
    affected = {day: days_by_asset(found, calendar) for day, found in missing.items() if found}
    everything = days_by_asset(merge_days(missing.values()), calendar)
    return dg.AssetCheckResult(
        check_name=CHECK,
        asset_key=key,
        passed=not affected,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"built without {everything}; rebuilt when it is landed" if affected else None,
        metadata={
            "partitions with missing days": len(affected),
            **({"missing": dg.MetadataValue.json(affected)} if affected else {}),
        },
    )
