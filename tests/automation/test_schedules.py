"""The schedules: which raw days the daily one requests, and what the garbage collection runs."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from ml_assets.automation.reproduction import reproduction_schedule
from ml_assets.automation.retraining import retraining_floor
from ml_assets.automation.schedules import clean_up, clean_up_job, daily_landing
from ml_assets.automation.watch import rollback_drill
from ml_assets.contracts.periods import Grain
from ml_assets.declaration.automation import AutomationDeclaration, SchedulesSettings
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.lake.lock import Lock
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from tests.builders import failure, frame, put
from tests.provenance.gc.test_mark import made

BY_DAY = {"file": "orders.csv", "partition_by": {"column": "day"}}


def declared(last: date | None = None, grain: Grain = "day") -> Declared:
    """Return two sources by day, and one that is landed whole."""
    tables = {"orders": BY_DAY, "returns": BY_DAY, "shops": {"file": "shops.csv"}}
    raw = RawDeclaration.model_validate(
        {"days": Days(first=date(2026, 1, 1), last=last, grain=grain), "tables": tables}
    )
    return Declared(raw=(raw,))


def tick(lake: Path, found: Declared) -> Any:
    schedule = daily_landing(found)
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 3, 5, 5, 30, tzinfo=UTC),
        resources={"ml_assets_lake": LakeResource(url=str(lake))},
    )
    return schedule.evaluate_tick(context)


def test_each_morning_requests_yesterday_of_each_table_that_has_not_landed_it(tmp_path: Path) -> None:
    put(Lake(str(tmp_path)), frame(1), asset="raw/returns", partition="2026-03-04")

    [request] = tick(tmp_path, declared()).run_requests

    assert "daily landing/raw/orders/2026-03-04" == request.run_key
    assert [dg.AssetKey(["raw", "orders"])] == request.asset_selection
    assert ("daily landing", "2026-03-04") == (
        request.tags["ml_assets/cause"],
        request.tags["dagster/asset_partition_range_start"],
    )


def test_days_that_no_tick_has_landed_of_a_table_in_one_file_are_requested_too(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for day in ("2026-02-27", "2026-02-28", "2026-03-02"):
        put(lake, frame(1), asset="raw/orders", partition=day)
    put(lake, frame(1), asset="raw/returns", partition="2026-03-04")

    requests = tick(tmp_path, declared()).run_requests

    assert [
        "daily landing/raw/orders/2026-03-01/2026-03-04", "daily landing/raw/orders/2026-03-03 to 2026-03-04",
    ] == [request.run_key for request in requests]  # fmt: skip
    assert "2026-03-04" == requests[1].tags["dagster/asset_partition_range_end"]


def test_a_month_is_requested_once_it_is_over(tmp_path: Path) -> None:
    put(Lake(str(tmp_path)), frame(1), asset="raw/returns", partition="2026-02-01")

    [request] = tick(tmp_path, declared(grain="month")).run_requests

    assert ("daily landing/raw/orders/2026-02-01", "2026-02-01") == (
        request.run_key, request.tags["dagster/asset_partition_range_end"],
    )  # fmt: skip
    put(Lake(str(tmp_path)), frame(1), asset="raw/orders", partition="2026-02-01")
    assert [] == (tick(tmp_path, declared(grain="month")).run_requests or [])


def test_days_that_are_not_declared_are_not_requested(tmp_path: Path) -> None:
    found = tick(tmp_path, declared(last=date(2026, 3, 3)))

    assert [] == found.run_requests
    assert "every raw table has 2026-03-04 (2 tables by day)." == found.skip_message


def schedules(found: Declared) -> list[dg.ScheduleDefinition]:
    """Return all schedules."""
    drill = rollback_drill(found, clean_up_job)
    return [daily_landing(found), clean_up(found), retraining_floor(found), reproduction_schedule(found), drill]


def test_times_come_from_the_declaration() -> None:
    given = {
        "ml_assets_daily_landing": "15 6 * * *", "ml_assets_clean_up_lake": "0 1 * * 1",
        "ml_assets_retraining_floor": "0 2 1 * *",
        "ml_assets_reproduce_champions": "0 */6 * * *", "ml_assets_drill_rollbacks": "5 4 * * 3",
    }  # fmt: skip
    clean = {name.removeprefix("ml_assets_").removesuffix("_lake"): cron for name, cron in given.items()}
    times = SchedulesSettings.model_validate({"timezone": "Europe/Zurich", **clean})
    found = schedules(Declared(raw=declared().raw, automation=AutomationDeclaration(schedules=times)))

    assert {name: (cron, "Europe/Zurich") for name, cron in given.items()} == {
        it.name: (it.cron_schedule, it.execution_timezone) for it in found
    }


def test_times_that_are_not_declared_are_as_they_always_were() -> None:
    assert {
        "ml_assets_daily_landing": "30 5 * * *", "ml_assets_clean_up_lake": "0 3 * * 6",
        "ml_assets_retraining_floor": "0 3 * * 1",
        "ml_assets_reproduce_champions": "0 4 * * 0", "ml_assets_drill_rollbacks": "0 5 * * 0",
    } == {it.name: it.cron_schedule for it in schedules(declared())}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SchedulesSettings.model_fields.keys() - {"timezone"}))
def test_a_time_that_is_no_cron_is_rejected(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}\n.*99 in the cron's field '99' lies outside 0 to 59"):
        SchedulesSettings.model_validate({name: "99 1 * * *"})


def test_the_clean_up_removes_nothing_before_a_person_starts_it() -> None:
    assert dg.DefaultScheduleStatus.STOPPED == clean_up(declared()).default_status
    assert "removal is permanent" in (clean_up(declared()).description or "")


def cleaned_up(lake: Lake) -> dg.ExecuteInProcessResult:
    return clean_up_job.execute_in_process(
        resources={"ml_assets_lake": LakeResource(url=lake.url)}, raise_on_error=False
    )


def test_a_clean_up_removes_what_nothing_has_needed_for_90_days(lake: Lake) -> None:
    first, second = made(lake, "raw/orders", 1, days=100), made(lake, "raw/orders", 2, days=95)

    done = cleaned_up(lake)

    assert done.success
    assert [True, False] == [lake.removal(it) is not None for it in (first, second)]


def test_a_clean_up_beside_another_removes_nothing_and_fails(lake: Lake) -> None:
    with Lock(lake, "gc", now=datetime.now(tz=UTC)):
        done = cleaned_up(lake)

    assert "nothing was removed: " in failure(done)[1]
