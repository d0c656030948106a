"""The drift and performance sensors and the maximum age: requests, postponements, and no duplicate requests."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest

from ml_assets.alerts.resource import Alerts
from ml_assets.automation.retraining import AT_DRIFT, FORGOTTEN, TAKEN_OVER, drift_sensor, request_retrainings
from ml_assets.contracts.decisions import Retraining
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.errors import LakeError
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.logic.monitoring.retraining import RetrainingFinding
from ml_assets.models.monitoring import MonitoringState
from ml_assets.orchestration.groups import TRAINING
from tests.automation.looped import BEGIN, MODEL, World, beside, declared, world
from tests.builders import frame, put
from tests.event_logs import ephemeral_instance

KEY = f"retraining/{MODEL}/2013-03-09/1"
Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a world whose loop is declared by the test."""
    with ExitStack() as stack:
        yield lambda **retraining: stack.enter_context(world(tmp_path / "lake", declared(retraining)))


def drifted(make: Make, **retraining: Any) -> World:
    """Return a world in which nine days after the last training two in a row are over their limits."""
    one = make(**retraining)
    for day in range(9):
        one.live(is_over=day >= 7)
    return one


# ---------------------------------------------------------------- requests


def test_a_model_that_is_no_longer_declared_is_not_checked(make: Make) -> None:
    it = drifted(make)
    it.launch(it.look())
    it.sensors = {"drift": drift_sensor(Declared(), clock=lambda: it.now)}

    assert [] == it.look()
    assert "no model is declared." == it.reason


def test_drift_requests_a_run_of_the_training_stages_as_of_the_newest_day(make: Make) -> None:
    it = drifted(make, trials=5, split={"train_days": 40, "validation_days": 3, "test_days": 4})

    [request] = it.look()

    assert KEY == request.run_key
    assert {dg.AssetKey([MODEL, stage]) for stage in TRAINING} == {*request.asset_selection}
    assert {
        "ml_assets/cause": "drift",
        "ml_assets/model": MODEL,
        "ml_assets/retraining": "2013-03-09/1",
    }.items() <= request.tags.items()
    assert {
        "m__training_set": {
            "config": {"as_of": "2013-03-09", "split": {"train_days": 40, "validation_days": 3, "test_days": 4}}
        },
        "m__tuning": {"config": {"first_parameters": {"num_leaves": 31, "learning_rate": 0.1}, "trials": 5}},
    } == request.run_config["ops"]
    [record] = it.records()
    assert (it.champion, "drift", "drift", BEGIN) == (
        record.champion,
        record.cause,
        record.requested_by,
        record.requested_at,
    )
    assert "2 of the last 3 judged days are over" in record.sentence


def test_performance_below_expectation_requests_a_retraining(make: Make) -> None:
    it = make()
    for _ in range(9):
        it.live(auc=0.7)

    [request] = it.look("performance")

    assert "performance" == request.tags["ml_assets/cause"]
    assert [] == it.look("drift", is_lost=True)
    assert "0 of the last" in it.reason


def test_the_maximum_age_requests_a_retraining_of_an_old_model(make: Make) -> None:
    it = make(floor_days=8, cool_down_days=8)
    for _ in range(7):
        it.live()
    assert [] == it.look_at_the_floor()
    assert "the maximum age is 8 days" in it.reason
    it.live()

    [request] = it.look_at_the_floor()

    assert ("floor", f"retraining/{MODEL}/2013-03-08/1") == (request.tags["ml_assets/cause"], request.run_key)
    assert ["retraining_floor"] == [record.requested_by for record in it.records()]


def test_without_champion_or_predictions_the_tick_gives_that_reason(make: Make) -> None:
    it = make()
    assert [] == it.look()
    assert "m: there are no predictions yet" == it.reason
    for path in (Path(it.lake.url) / "promotions" / MODEL).iterdir():
        path.unlink()

    assert [] == it.look(is_lost=True)
    assert "m: it has no champion yet" == it.reason


def test_a_champion_that_is_damaged_fails_the_tick_and_is_named(make: Make) -> None:
    it = drifted(make)
    for path in (Path(it.lake.url) / "artifacts" / MODEL / "model" / it.champion).glob("spec*"):
        path.write_text("{}")

    with pytest.raises(LakeError, match=f"m: .*{it.champion}.* is damaged"):
        it.look()


def test_a_damaged_model_is_checked_again_after_a_tick_in_which_another_requested_a_retraining(tmp_path: Path) -> None:
    one = declared()
    project = Declared(models=(*one.models, one.models[0].model_copy(update={"name": "n"})))
    with world(tmp_path / "lake", project) as damaged:
        other = beside(damaged, project, "n")
        damaged.look()
        for it in (damaged, other):
            for day in range(9):
                it.live(is_over=day >= 7)
        [path] = (Path(it.lake.url) / "artifacts" / MODEL / "model" / damaged.champion).glob("spec*")
        whole = path.read_bytes()
        path.write_text("{}")
        assert ["retraining/n/2013-03-09/1"] == [it.run_key for it in damaged.look()]
        path.write_bytes(whole)

        assert [KEY] == [it.run_key for it in damaged.look()]


# ---------------------------------------------------------------- once


def test_the_same_state_requests_one_retraining_even_after_a_restart_or_a_lost_cursor(make: Make) -> None:
    it = drifted(make)
    it.launch(it.look())

    for is_lost in (False, True, False):
        assert [] == it.look(is_lost=is_lost)
    assert f"It is postponed: run {it.under_way()[0].run_id[:8]} is training it." in it.reason
    it.end(well=False)
    for is_lost in (False, True, False):
        assert [] == it.look(is_lost=is_lost)
    assert 1 == len(it.records())


def test_without_new_reports_only_the_models_whose_turn_it_is_are_checked(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.automation.changed.IN_TURN", 0)
    it = drifted(make)
    it.launch(it.look())
    it.end()
    it.look()

    assert [] == it.look()
    assert "1 of 1 models have nothing new" == it.reason

    monkeypatch.setattr("ml_assets.automation.changed.IN_TURN", 1)
    assert [] == it.look()
    assert it.reason.startswith("m: ")


def test_a_retraining_waits_while_days_that_it_would_learn_from_are_missing(make: Make) -> None:
    it = drifted(make)
    days = [date(2013, 1, 1) + timedelta(days=n) for n in range((it.day - date(2013, 1, 1)).days)]
    for day in days:
        for stage in ("features", "labels"):
            if (stage, day) != ("features", date(2013, 3, 3)):
                put(it.lake, frame(1), asset=f"{MODEL}/{stage}", partition=str(day))

    assert [] == it.look()
    assert "It is postponed: m/features of 2013-03-03 is missing" in it.reason

    put(it.lake, frame(1), asset=f"{MODEL}/features", partition="2013-03-03")
    [request] = it.look()
    assert "drift" == request.tags["ml_assets/cause"]


def test_drift_requests_a_retraining_even_if_its_event_was_lost(make: Make) -> None:
    it = make()
    for _ in range(7):
        it.live()
    assert [] == it.look()
    with mock.patch.object(it, "_told"):
        for _ in range(2):
            it.live(is_over=True)

    [request] = it.look()
    assert "drift" == request.tags["ml_assets/cause"]


def test_a_tick_looks_at_so_many_models_and_the_next_ones_at_the_others_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.automation.changed.MOST_LOOKS", 2)
    monkeypatch.setattr("ml_assets.automation.changed.IN_TURN", 0)
    models = tuple(declared().models[0].model_copy(update={"name": name}) for name in "abc")
    sensor, lake = drift_sensor(Declared(models=models)), LakeResource(url=str(tmp_path))
    repository, cursor, reasons = dg.Definitions().get_repository_def(), None, []
    with ephemeral_instance() as instance:
        for _ in range(3):
            with dg.build_sensor_context(
                instance=instance, repository_def=repository, cursor=cursor,
                resources={"ml_assets_lake": lake, "ml_assets_alerts": Alerts(lake=lake)},
            ) as context:  # fmt: skip
                found = sensor.evaluate_tick(context)
            cursor = found.cursor
            reasons.append(str(found.skip_message))

    assert [
        "a: it has no champion yet\nb: it has no champion yet\n1 models are checked at the next ticks",
        "c: it has no champion yet\n2 of 3 models have nothing new",
        "3 of 3 models have nothing new",
    ] == reasons


def test_concurrent_daemons_that_decide_before_any_has_claimed_request_one_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = drifted(make, max_per_day=2, cool_down_days=0)
    together, requested, claim = threading.Barrier(4), [], RetrainingLog.claim

    def claimed(log: RetrainingLog, record: Retraining) -> bool:
        together.wait(60)
        return claim(log, record)

    monkeypatch.setattr(RetrainingLog, "claim", claimed)

    def one(name: str) -> None:
        look = dataclasses.replace(AT_DRIFT, name=name)
        requested.extend(request_retrainings(it.instance, it.lake, [it.model], look, now=it.now).requests)

    threads = [threading.Thread(target=one, args=[name]) for name in ("drift", "performance", "drift", "performance")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [KEY] == [request.run_key for request in requested]
    assert 1 == len(it.records())


def test_a_request_of_a_daemon_that_crashed_before_its_run_started_is_repeated(make: Make) -> None:
    it = drifted(make)
    [lost] = it.look(dies=True)

    it.now += TAKEN_OVER
    assert [] == it.look()
    assert "It is postponed: the run that drift requested as of 2013-03-09 is about to start" in it.reason
    it.now += timedelta(minutes=1)
    [again] = it.look()

    assert lost == again
    it.launch([again])
    assert [] == it.look()
    assert 1 == len(it.records())


def test_a_request_of_another_sensor_postpones_a_retraining_before_its_run_exists(make: Make) -> None:
    it = make(cool_down_days=0, max_per_day=2)
    for _ in range(9):
        it.live(is_over=True, auc=0.7)
    requested = it.look("drift")

    assert [] == it.look("performance")
    assert "It is postponed: the run that drift requested as of 2013-03-09 is about to start." in it.reason
    it.launch(requested)
    it.end()
    assert [f"retraining/{MODEL}/2013-03-09/2"] == [request.run_key for request in it.look("performance")]


def test_only_the_drift_sensor_repeats_a_request_of_the_maximum_age_schedule(make: Make) -> None:
    it = make(floor_days=5, cool_down_days=5)
    for _ in range(6):
        it.live()
    [lost] = it.look_at_the_floor()
    it.now += TAKEN_OVER * 2

    assert [] == it.look("performance")
    assert [] == it.look_at_the_floor()
    assert [lost.run_key] == [request.run_key for request in it.look("drift")]


def test_a_record_that_is_old_has_had_its_run_though_dagster_has_forgotten_it(make: Make) -> None:
    it = drifted(make)
    it.look(dies=True)
    it.now += FORGOTTEN

    assert [] == it.look()
    assert "It is postponed: 1 retraining as of 2013-03-09, and max_per_day allows 1." in it.reason


# ---------------------------------------------------------------- what holds back


def test_any_running_training_of_the_model_postpones_a_retraining_until_it_ends(make: Make) -> None:
    it = drifted(make)
    run = dg.DagsterRun(
        "__ASSET_JOB", status=dg.DagsterRunStatus.STARTED, asset_selection=frozenset([dg.AssetKey([MODEL, "tuning"])])
    )
    it.instance.add_run(run)

    assert [] == it.look()
    assert f"It is postponed: run {run.run_id[:8]} is training it." in it.reason
    it.end(well=False)
    assert [KEY] == [request.run_key for request in it.look()]


def test_an_unfinished_run_of_hours_does_not_matter_to_a_retraining(make: Make) -> None:
    it = drifted(make)
    hours = {
        "dagster/asset_partition_range_start": "2026-03-29T02",
        "dagster/asset_partition_range_end": "2026-03-29T03",
    }
    selected = frozenset([dg.AssetKey([MODEL, "predictions"])])
    it.instance.add_run(
        dg.DagsterRun("__ASSET_JOB", status=dg.DagsterRunStatus.STARTED, asset_selection=selected, tags=hours)
    )

    assert [KEY] == [request.run_key for request in it.look()]


def test_each_rejected_challenger_doubles_the_cool_down(make: Make) -> None:
    it = drifted(make, cool_down_days=2)
    requested: list[date] = []
    for _ in range(16):
        if requests := it.look():
            requested.append(it.day - timedelta(days=1))
            it.launch(requests)
            it.end()
            it.serve(it.train(requested[-1], rounds=len(requested)), "reject")
        it.live(is_over=True)

    assert [date(2013, 3, 9), date(2013, 3, 13), date(2013, 3, 21)] == requested


def test_a_sensor_overtaken_by_another_as_of_another_day_requests_no_second_training(make: Make) -> None:
    it = drifted(make)
    later = Retraining(
        model=MODEL, as_of=date(2013, 3, 10), number=1, cause="performance", sentence="It falls behind.", figures={},
        champion=it.champion, requested_at=BEGIN, requested_by="performance",
    )  # fmt: skip

    def find(loop: MonitoringState, declared: ModelDeclaration) -> list[RetrainingFinding]:
        RetrainingLog(it.lake, MODEL).claim(later)
        return AT_DRIFT.find(loop, declared)

    tick = request_retrainings(it.instance, it.lake, [it.model], dataclasses.replace(AT_DRIFT, find=find), now=BEGIN)

    assert [] == tick.requests
    assert {MODEL} == tick.waiting
    assert [later] == it.records()
