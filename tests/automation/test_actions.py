"""What a person must act on is red and alerted, and what the sensors repair is not red."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.automation.actions import blocked_actions
from ml_assets.automation.waits import Waits
from ml_assets.contracts.periods import DAILY
from ml_assets.orchestration.groups import Group
from ml_assets.orchestration.planner import Waiting
from ml_assets.stages.checks.action import CHECK
from tests.automation.alerted import Heard
from tests.automation.looped import MODEL, World, declared, world

FEATURES = Group("features and labels", MODEL)


@pytest.fixture
def it(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "lake", declared()) as one:
        yield one


def verdict(it: World, stage: str = "drift") -> dg.AssetCheckEvaluation | None:
    key = dg.AssetCheckKey(dg.AssetKey([MODEL, stage]), CHECK)
    record = it.instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    event = None if record is None or record.event is None else record.event.dagster_event
    return None if event is None else event.asset_check_evaluation_data


def drift_until_retrained(it: World) -> None:
    for _ in range(30):
        it.live(is_over=True)
        if it.look("drift"):
            return
    raise AssertionError("no retraining was requested")


def test_drift_that_a_retraining_may_repair_is_not_red(it: World) -> None:
    drift_until_retrained(it)

    found = verdict(it)

    assert found is not None
    assert found.passed


def test_a_check_that_a_run_has_planned_and_not_evaluated_gets_its_verdict_from_the_sensor(it: World) -> None:
    key = dg.AssetKey([MODEL, "drift"])

    @dg.asset(key=key)
    def drift() -> None: ...

    @dg.asset_check(asset=key, name=CHECK)
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    job = dg.Definitions(assets=[drift], asset_checks=[check]).resolve_implicit_global_asset_job_def()
    it.instance.create_run_for_job(job)
    latest = it.instance.event_log_storage.get_latest_asset_check_execution_by_key([dg.AssetCheckKey(key, CHECK)])
    assert ["PLANNED"] == [record.status.value for record in latest.values()]

    it.live()
    it.look("drift")

    found = verdict(it)
    assert found is not None
    assert found.passed


def test_drift_is_red_once_a_challenger_was_rejected_and_green_once_one_is_promoted(it: World) -> None:
    drift_until_retrained(it)
    it.serve(it.train(it.day, rounds=2), "reject")
    it.look("drift")
    red = verdict(it)
    it.serve(it.train(it.day, rounds=3), "promote")
    it.live()
    it.look("drift")
    green = verdict(it)

    assert red is not None
    assert (False, dg.AssetCheckSeverity.ERROR) == (red.passed, red.severity)
    [row] = red.metadata["actions"].value.records  # type: ignore[attr-defined]
    assert "drift within its limits" == row.data["rule"]
    assert "1 challenger rejected or rolled back" in str(row.data["what to do"])
    assert green is not None
    assert green.passed


def waits(*missing: str) -> Waits:
    found = Waits({}, DAILY)
    found.add([Waiting(FEATURES, ("2013-03-05",), "waits", "raw/weather", missing)])
    return found


def test_a_day_that_is_missing_before_a_landed_one_needs_a_person_and_the_newest_day_does_not() -> None:
    newest = {"raw/weather": "2013-03-04"}

    [gap] = blocked_actions(MODEL, waits("2013-03-02", "2013-03-03"), newest)

    assert (2, "2013-03-02") == (gap.count, gap.partition)
    assert [] == blocked_actions(MODEL, waits("2013-03-05"), newest)
    assert [] == blocked_actions("another", waits("2013-03-02"), newest)


def test_drift_is_alerted_once_for_a_champion_and_once_more_for_a_rejected_challenger(it: World, heard: Heard) -> None:
    drift_until_retrained(it)
    it.look("drift", is_lost=True)
    it.serve(it.train(it.day, rounds=2), "reject")
    it.look("drift", is_lost=True)
    it.look("drift", is_lost=True)

    found = [alert for alert in heard.alerts if alert.kind == "drift_over_limits"]

    assert ["warning", "error"] == [alert.severity for alert in found]
