"""Whether the champion was reproduced, as a check of the champion: the newest verdict of `ml-assets reproduce`.

Not here: training it again; see `ml_assets.provenance.reproduction` and `sensors.reproduction`.
"""

from typing import Any, Final

import dagster as dg

from ml_assets.provenance.reproduction import last_verdict
from ml_assets.stages.common.groups import promotions
from resources.lake import Lake
from resources.lake_resource import LakeResource

CHECK: Final = "champion_is_reproduced"


def reproduction_check(model: str) -> dg.AssetChecksDefinition:
    """Return the check of a model's champion."""

    @dg.asset_check(
        asset=dg.AssetKey([model, "champion"]),
        name=CHECK,
        description="Trained again from its manifest, the champion comes out with the same hash.",
    )
    def champion_is_reproduced(lake: LakeResource) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(**reproduction_result(lake.connect(), model))

    return champion_is_reproduced


def reproduction_result(lake: Lake, model: str) -> dict[str, Any]:
    """Return the verdict on the current champion, as the fields that a check's result and evaluation share.

    What was never reproduced does not pass: it is reported as not measured, as a warning.
    """
    last = promotions(lake, model).last()
    champion = None if last is None else last.champion
    verdict = None if champion is None else last_verdict(lake, model, champion)
    shared = {"asset_key": dg.AssetKey([model, "champion"]), "check_name": CHECK}
    if verdict is None:
        what = "there is no champion" if champion is None else f"champion {champion[:12]} was not reproduced yet"
        return {
            **shared,
            "passed": False,
            "severity": dg.AssetCheckSeverity.WARN,
            "description": f"Not measured: {what}. Run: ml-assets reproduce {model}",
        }
    rows = [
        dg.TableRecord(
            {"asset": it.asset, "artifacts": it.artifacts, "equal": it.equal, "differs": "; ".join(it.differences)}
        )
        for it in verdict.outcomes
    ]
    return {
        **shared,
        "passed": verdict.is_reproduced,
        "severity": dg.AssetCheckSeverity.ERROR,
        "metadata": {
            "version": verdict.version,
            "reproduced at": verdict.decided_at.isoformat(timespec="seconds"),
            "seconds": verdict.seconds,
            **({"outcomes": dg.MetadataValue.table(rows)} if rows else {}),
            **({"changed since": dg.MetadataValue.json([*verdict.changed])} if verdict.changed else {}),
        },
    }
