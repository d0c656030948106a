"""The check of the champion with the newest verdict of `ml-assets reproduce`.

Not here: the reproduction (see `ml_assets.provenance.reproduction` and `ml_assets.automation.reproduction`).
"""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.provenance.reproduction import last_verdict

CHECK: Final = "champion_is_reproduced"


def reproduction_check(model: str) -> dg.AssetChecksDefinition:
    """Return the check of a model's champion, which has no result before the first reproduction."""
    spec = dg.AssetCheckSpec(
        CHECK,
        asset=dg.AssetKey([model, "champion"]),
        description="A training from its manifest results in the same hash as the champion's. Not evaluated before "
        "`ml-assets reproduce` or its schedule has run.",
    )

    @dg.multi_asset_check(name=f"{model}__{CHECK}", specs=[spec], can_subset=True)  # without it, a result is required
    def champion_is_reproduced(ml_assets_lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        result = reproduction_result(ml_assets_lake.connect(), model)
        if result is not None:
            yield dg.AssetCheckResult(**result)

    return champion_is_reproduced


def reproduction_result(lake: Lake, model: str) -> dict[str, Any] | None:
    """Return the verdict on the current champion, as the fields that a check's result and evaluation share.

    Returns:
        None if there is no champion or no verdict yet, which means neither passed nor failed.
    """
    last = PromotionLog(lake, model).last()
    verdict = None if last is None or last.champion is None else last_verdict(lake, model, last.champion)
    if verdict is None:
        return None
    rows = [
        dg.TableRecord(
            {"asset": it.asset, "artifacts": it.artifacts, "equal": it.equal, "differs": "; ".join(it.differences)}
        )
        for it in verdict.outcomes
    ]
    return {
        "asset_key": dg.AssetKey([model, "champion"]),
        "check_name": CHECK,
        "passed": verdict.is_reproduced,
        "severity": dg.AssetCheckSeverity.ERROR,
        "metadata": {
            "version": verdict.version,
            "reproduced at": verdict.decided_at.isoformat(timespec="seconds"),
            "seconds": verdict.seconds,
            **({"outcomes": dg.MetadataValue.table(rows)} if rows else {}),
            **({"changed since": dg.MetadataValue.json([*verdict.changes])} if verdict.changes else {}),
        },
    }
