"""The check of assets that may be made though days are missing."""

from pathlib import Path

import dagster as dg

from ml_assets.lake.resource import LakeResource
from ml_assets.stages.checks.gaps import gap_checks
from tests.builders import Note, flights_declared, put
from tests.event_logs import ephemeral_instance

MODEL = "flight_delay"


def node(name: str, *, allow_gaps: bool) -> dict[str, object]:
    return {"resource_type": "model", "name": name, "config": {"meta": {"allow_gaps": allow_gaps}}}


def checked(*, table: bool, model: bool) -> list[str]:
    """Return the assets that are checked where a table or the model allows gaps."""
    nodes = {"nodes": {"a": node("a", allow_gaps=table), "b": node("b", allow_gaps=False)}}
    found = gap_checks(flights_declared(allow_gaps=model), nodes)
    return [key.to_user_string() for check in found for key in check.keys_by_input_name.values()]


def test_only_assets_downstream_of_allowed_gaps_are_checked() -> None:
    assert [] == checked(table=False, model=False)
    assert ["tables/a", f"{MODEL}/predictions"] == checked(table=True, model=False)
    assert [f"{MODEL}/{stage}" for stage in ("labels", "training_set", "predictions")] == checked(
        table=False, model=True
    )


def test_missing_days_are_a_warning_until_they_are_landed(tmp_path: Path) -> None:
    lake = LakeResource(url=str(tmp_path))
    *_, check = gap_checks(flights_declared(allow_gaps=True), {"nodes": {}})
    for day, missing in (("2013-01-04", {"raw/weather": ("2013-01-02",)}), ("2013-01-05", {})):
        put(lake.connect(), Note(text=day), asset=f"{MODEL}/predictions", partition=day, missing_days=missing)

    def result(first: str, last: str) -> dg.AssetCheckEvaluation:
        with ephemeral_instance() as instance:
            run = dg.Definitions(
                asset_checks=[check], resources={"ml_assets_lake": lake}
            ).resolve_implicit_global_asset_job_def()
            done = run.execute_in_process(
                instance=instance,
                tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
            )
        [found] = done.get_asset_check_evaluations()
        return found

    found = result("2013-01-04", "2013-01-05")
    assert (False, dg.AssetCheckSeverity.WARN) == (found.passed, found.severity)
    assert "built without raw/weather of 2013-01-02; rebuilt when it is landed" == found.description
    assert {"2013-01-04": "raw/weather of 2013-01-02"} == found.metadata["missing"].value
    assert result("2013-01-05", "2013-01-05").passed
