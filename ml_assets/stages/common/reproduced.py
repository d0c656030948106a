"""Whether the champion was reproduced, as a check of the champion: the newest verdict of `ml-assets reproduce`.

Not here: training it again; see `ml_assets.provenance.reproduction` and `sensors.reproduction`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import dagster as dg

from ml_assets.provenance.reproduction import last_verdict
from ml_assets.stages.common.groups import promotions
from resources.lake import Lake
from resources.lake_resource import LakeResource

CHECK: Final = "champion_is_reproduced"


def reproduction_checks(models: Sequence[str]) -> list[dg.AssetChecksDefinition]:
    """Return the checks of all models' champions, as one definition: one a model would make loading slow."""
    specs = [
        dg.AssetCheckSpec(
            CHECK, asset=dg.AssetKey([model, "champion"]),
            description="Trained again from its manifest, the champion comes out with the same hash.",
        )
        for model in models
    ]  # fmt: skip

    @dg.multi_asset_check(name="reproduction_verdicts", specs=specs, can_subset=True)
    def reproduction_verdicts(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> Iterator[dg.AssetCheckResult]:
        opened = lake.connect()
        for key in context.selected_asset_check_keys:
            yield dg.AssetCheckResult(**reproduction_result(opened, key.asset_key.path[0]))

    return [reproduction_verdicts] if specs else []


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
