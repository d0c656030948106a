"""The schedules: which raw days the daily one asks for, and what the clean-up runs."""

import subprocess
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.declaration import AutomationDeclaration, Days, Declared, RawDeclaration, SchedulesSettings
from resources.lake import Lake
from resources.lake_resource import LakeResource
from sensors.schedules import clean_up, clean_up_job, daily_landing
from tests.builders import failure, frame, put

BY_DAY = {"file": "orders.csv", "by": {"column": "day"}}


def declared(last: date | None = None) -> Declared:
    """Return two sources by day, and one that is landed whole."""
    tables = {"orders": BY_DAY, "returns": BY_DAY, "shops": {"file": "shops.csv"}}
    raw = RawDeclaration.model_validate({"days": Days(first=date(2026, 1, 1), last=last), "tables": tables})
    return Declared(raw=(raw,))


def asked(lake: Path, found: Declared) -> Any:
    schedule = daily_landing(found)
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 3, 5, 5, 30, tzinfo=UTC),
        resources={"lake": LakeResource(url=str(lake))},
    )
    return schedule.evaluate_tick(context)


def test_each_morning_asks_for_yesterday_of_each_table_that_has_not_come(tmp_path: Path) -> None:
    put(Lake(str(tmp_path)), frame(1), asset="raw/returns", partition="2026-03-04")

    [request] = asked(tmp_path, declared()).run_requests

    assert "daily landing/raw/orders/2026-03-04" == request.run_key
    assert [dg.AssetKey(["raw", "orders"])] == request.asset_selection
    assert ("daily landing", "2026-03-04") == (
        request.tags["cause"],
        request.tags["dagster/asset_partition_range_start"],
    )


def test_days_that_are_not_declared_are_not_asked_for(tmp_path: Path) -> None:
    found = asked(tmp_path, declared(last=date(2026, 3, 3)))

    assert [] == found.run_requests
    assert "2026-03-04 is there for every raw table that has such a day (2 tables by day)." == found.skip_message


def test_times_come_from_the_declaration() -> None:
    times = SchedulesSettings(daily_landing="15 6 * * *", clean_up="0 1 * * 1", timezone="Europe/Zurich")
    found = Declared(raw=declared().raw, automation=AutomationDeclaration(schedules=times))

    assert [("15 6 * * *", "Europe/Zurich"), ("0 1 * * 1", "Europe/Zurich")] == [
        (it.cron_schedule, it.execution_timezone) for it in (daily_landing(found), clean_up(found))
    ]


def test_the_clean_up_removes_nothing_before_a_person_starts_it() -> None:
    assert dg.DefaultScheduleStatus.STOPPED == clean_up(declared()).default_status
    assert "what it removes is gone" in (clean_up(declared()).description or "")


@pytest.mark.parametrize("code", [0, 2])
def test_a_clean_up_runs_the_command_over_its_lake_and_fails_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls: dict[str, Any] = {}

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> "subprocess.CompletedProcess[str]":
        calls.update(command=command[3:], lake=env["ML_ASSETS_LAKE"])
        return subprocess.CompletedProcess(command, code, stdout="removed 3 artifacts\n", stderr="the lake is locked\n")

    monkeypatch.setattr("sensors.schedules.subprocess.run", run)
    done = clean_up_job.execute_in_process(resources={"lake": LakeResource(url=str(tmp_path))}, raise_on_error=False)

    assert {"command": ["gc", "--yes"], "lake": str(tmp_path)} == calls
    assert (code == 0) == done.success
    if code:
        assert "the lake was not cleaned up: the lake is locked" in failure(done)[1]
