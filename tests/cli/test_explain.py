"""`ml-assets explain`: what it reports before a drift, when drift requests a retraining, and what postpones it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.adapters.dagster import SerializableErrorInfo
from ml_assets.automation.overview import NEWEST, ModelStatus, NextTick, Overview
from ml_assets.contracts.artifacts.monitoring import (
    DriftSummaries,
    DriftSummary,
    PerformanceSummaries,
    PerformanceSummary,
)
from ml_assets.contracts.leaks import FoundLeak, LeakTestRecord
from ml_assets.contracts.shadow import Shadow, ShadowedChallenger
from ml_assets.declaration.budget import BudgetSettings
from ml_assets.declaration.challengers import ChallengersSettings
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.serving import ServingSettings
from ml_assets.lake.manifest import Cost
from ml_assets.models.leaks import proven_leaks, record_asset
from ml_assets.models.monitoring import read_monitoring
from tests.adapters.dagster import (
    GrpcServerCodeLocationOrigin,
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
    SensorInstigatorData,
    SqliteScheduleStorage,
    TickData,
    TickStatus,
)
from tests.automation.looped import FIRST, MODEL, Drifted, Measured, World, declared, world
from tests.builders import frame, put
from tests.cli.commands import Command

GOLDEN = Path(__file__).parent / "golden" / "explained"
PROJECT = declared({"label_growth": 0.8, "performance_limit": 5.0, "floor_days": 20, "cool_down_days": 4})


@pytest.fixture
def it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A small world that the command takes for its project."""
    with world(tmp_path / "lake", PROJECT) as one:

        @contextmanager
        def instance() -> Iterator[dg.DagsterInstance]:
            yield one.instance

        ticks = SqliteScheduleStorage.from_local(str(tmp_path / "ticks"))  # an instance in memory keeps none
        monkeypatch.setattr(one.instance, "_schedule_storage", ticks)
        monkeypatch.setenv("COLUMNS", "120")  # the lines are wrapped
        monkeypatch.setenv("ML_ASSETS_LAKE", one.lake.url)
        monkeypatch.setattr("ml_assets.cli.flow.project.read_all", lambda _: PROJECT)
        monkeypatch.setattr("ml_assets.cli.flow.project.open_instance", instance)
        monkeypatch.setattr("ml_assets.cli.explain.state_of", lambda *_: (overview_of(one), []))
        yield one


def overview_of(it: World, *blocked: str) -> Overview:
    """Return the state that `ml-assets status` shows, without what only a whole project has."""
    state = read_monitoring(it.lake, it.model)
    newest: dict[str, str | None] = dict.fromkeys(NEWEST)
    leaks = tuple(f"a leak is proven: {found}" for found in proven_leaks(it.lake, MODEL))
    status = ModelStatus(
        MODEL, newest, red=leaks, blocked=blocked, drift=None if state is None else "within the limits"
    )
    tick = NextTick(datetime(2026, 11, 24, 5, tzinfo=UTC), "ml_assets_retraining_floor")
    return Overview(it.lake.url, (status,), {}, (), (tick,), has_daemon=True)


def explained(command: Command, *more: str, code: int = 0) -> str:
    """Run the command and return what it printed, each version and run by the order in which it is met."""
    text = command("explain", MODEL, *more, code=code).out
    for number, found in enumerate(dict.fromkeys(re.findall(r"\b[0-9a-f]{32}\b|(?<=run )[0-9a-f]{8}", text)), start=1):
        text = text.replace(found, f"<{number}>")
    return text


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_without_drift_nothing_requests_a_retraining_and_missing_facts_are_reported(
    it: World, command: Command
) -> None:
    for day in range(6):
        it.live(is_over=day == 5)

    assert golden("quiet") == explained(command, "--verbose")


def test_the_answer_is_four_short_blocks_with_the_next_schedules(it: World, command: Command) -> None:
    it.live()

    text = explained(command)

    titles = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert ["now", "why", "blocked by", "next"] == titles
    assert "next\n  2026-11-24 05:00 UTC: ml_assets_retraining_floor\n" in text
    assert max(map(len, text.splitlines())) <= 120


def test_facts_that_cannot_be_judged_are_reported_and_request_nothing(it: World, command: Command) -> None:
    for _ in range(6):
        it.live(is_over=True, rows=24)

    text = explained(command, "--verbose")

    assert "  sees            Drift is not judged on any of 6 days of this champion; 2013-03-06: " in text
    assert "  sees            Performance is not judged: none of 6 days has enough labels." in text
    assert 2 == text.count("  decides         cannot judge, so it requests nothing")
    assert [] == it.look("drift") == it.look("performance")
    assert "Drift is not judged" in it.reason or "Performance is not judged" in it.reason


def test_drift_that_requests_a_retraining_is_reported_with_what_postpones_it(it: World, command: Command) -> None:
    for day in range(6):
        it.live(is_over=day >= 4)
    assert golden("asks") == explained(command, "--verbose")

    it.launch(it.look())
    assert golden("under_way") == explained(command, "--verbose")
    it.end()
    it.live(is_over=True)
    assert golden("cool_down") == explained(command, "--verbose")


def test_a_new_champion_is_reported_with_its_predecessor(it: World, command: Command) -> None:
    first = it.champion
    it.serve(it.train(it.day - timedelta(days=1), rounds=2))
    for auc in (0.772, 0.771, 0.769, 0.77, 0.768):
        it.live(auc=auc, former=(first, 0.8))

    assert golden("watched") == explained(command, "--verbose")


def test_a_program_reads_the_same_as_json(it: World, command: Command) -> None:
    it.live()

    answer = command.json("explain", MODEL)
    assert (MODEL, {}) == (answer["model"], answer["ticks"])
    assert ["drift", "performance", "labels", "floor", "watch"] == [it["name"] for it in answer["answers"]]
    assert {"name", "sees", "decides", "otherwise"} == answer["answers"][0].keys()


def test_without_a_champion_the_command_explains_what_to_do_and_ends_with_1(it: World, command: Command) -> None:
    for path in (Path(it.lake.url) / "promotions" / MODEL).iterdir():
        path.unlink()

    assert "  m: there is no champion yet. Run: ml-assets run m\n" in explained(command, code=1)


def test_missing_data_is_reported_with_the_assets_that_wait_for_it(
    it: World, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    it.live()
    sentence = "tables (2013-01-05): waits for raw/a of 2013-01-05, which is missing"
    monkeypatch.setattr("ml_assets.cli.explain.state_of", lambda *_: (overview_of(it, sentence), []))

    assert f"\nblocked by\n  {sentence}\n" in explained(command)


def test_a_proven_leak_is_reported_as_blocking_training(it: World, command: Command) -> None:
    it.live()
    found = FoundLeak(
        column="rain", day="2013-01-05", sentence="'rain' is a leak.",
        prediction_at=datetime(2013, 1, 5),  # noqa: DTZ001
    )  # fmt: skip
    put(it.lake, LeakTestRecord(model=MODEL, samples=1, rows=1, leaks=(found,)), asset=record_asset(MODEL))

    assert "\nblocked by\n  a leak is proven: 'rain' is a leak.\n" in explained(command)


def ticked(it: World, status: TickStatus, **more: Any) -> None:
    """Let the drift sensor have ticked once."""
    place = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("localhost", 1), "flows")
    state = InstigatorState(
        RemoteInstigatorOrigin(place, "ml_assets_drift"),
        InstigatorType.SENSOR,
        InstigatorStatus.RUNNING,
        SensorInstigatorData(),
    )
    it.instance.add_instigator_state(state)
    it.instance.create_tick(
        TickData(
            state.instigator_origin_id, "ml_assets_drift", InstigatorType.SENSOR, status, 1_763_700_000.0,
            selector_id=state.selector_id, **more,
        )
    )  # fmt: skip


def test_the_last_ticks_of_the_daemon_are_reported(it: World, command: Command) -> None:
    ticked(it, TickStatus.SKIPPED, skip_reason="m: all is well\nn: too")

    assert explained(command, "--verbose").endswith(
        "last ticks of the daemon\n"
        "  ml_assets_drift           2025-11-21 04:40 UTC: m: all is well\n                            n: too\n"
    )


def test_the_runs_of_the_last_tick_are_reported_with_days_and_status(it: World, command: Command) -> None:
    days = {"dagster/asset_partition_range_start": "2013-05-01", "dagster/asset_partition_range_end": "2013-05-03"}
    keys = frozenset({dg.AssetKey(["raw", "weather"]), dg.AssetKey(["raw", "flights"])})
    run = dg.DagsterRun("__ASSET_JOB", status=dg.DagsterRunStatus.FAILURE, asset_selection=keys, tags=days)
    it.instance.add_run(run)
    ticked(it, TickStatus.SUCCESS, run_ids=[run.run_id])

    *_, requested, what = explained(command, "--verbose").splitlines()
    assert "  ml_assets_drift           2025-11-21 04:40 UTC: requested" == requested
    assert "failure: raw/flights, raw/weather over 2013-05-01 to 2013-05-03" == what.partition(", ")[2]


def test_why_the_last_tick_failed_is_reported(it: World, command: Command) -> None:
    error = SerializableErrorInfo("LakeError: the lake is gone\n", [], "LakeError")
    ticked(it, TickStatus.FAILURE, error=error)

    assert explained(command, "--verbose").endswith(
        "  ml_assets_drift           2025-11-21 04:40 UTC: failed. LakeError: the lake is gone\n"
    )


def test_a_spent_budget_is_reported_with_what_it_postpones(
    it: World, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    budget = BudgetSettings(cpu_hours_per_month=1, when_exceeded="block")
    model = PROJECT.models[0].model_copy(update={"budget": budget})
    monkeypatch.setattr("ml_assets.cli.flow.project.read_all", lambda _: Declared(models=(model,)))
    put(it.lake, frame(1), asset=f"{MODEL}/training_set", cost=Cost(seconds=1.0, cpu_seconds=7200.0))
    for day in range(6):
        it.live(is_over=day >= 4)

    text = explained(command, "--verbose")

    assert (
        "decides         would request a retraining. It is postponed to the next month: spent 2.00 of 1.00 CPU hours"
        in text
    )
    assert "decides         holds retrainings back" in text
    assert "next month, or a higher budget.cpu_hours_per_month" in text


def test_drift_and_performance_of_requests_are_reported_apart_from_those_of_the_batch(
    it: World, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    it.live()
    [model] = PROJECT.models
    monkeypatch.setattr(
        "ml_assets.cli.flow.project.read_all",
        lambda _: Declared(models=(model.model_copy(update={"serving": ServingSettings()}),)),
    )
    assert "No request was measured yet." in explained(command, "--verbose")
    days = [FIRST, FIRST + timedelta(days=1)]
    for day, labelled in zip(days, (5, 0), strict=True):
        drift = DriftSummary(
            model=MODEL, model_version="v", day=day, first_day=day, rows=9, weighted_excess_psi=0.0,
            score_excess_psi=0.0, is_over=False, drifted_features=(), sentence=f"Drift of {day}.",
        )  # fmt: skip
        performance = PerformanceSummary(
            model=MODEL, model_version="v", day=day, predictions=9, labelled=labelled, measured={}, expected={},
            expected_labelled={}, sentence=f"Performance of {day}.",
        )  # fmt: skip
        reports: dict[str, object] = {
            "drift": Drifted(DriftSummaries(day=day, versions=(drift,))),
            "performance": Measured(PerformanceSummaries(day=day, versions=(performance,))),
        }
        for stage, report in reports.items():
            put(it.lake, report, asset=f"{MODEL}/served_{stage}", partition=str(day))

    [answer] = [it for it in command.json("explain", MODEL)["answers"] if it["name"] == "served"]

    assert f"within the limits: Drift of {days[1]}. Performance of {days[0]}." == answer["sees"]
    assert answer["decides"].startswith("does nothing")


def test_challengers_in_shadow_are_reported_with_the_gates_reasons(
    it: World, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    it.live()
    [model] = PROJECT.models
    shadowing = model.model_copy(update={"challengers": ChallengersSettings(shadow=True, satisfies_gate=True)})
    monkeypatch.setattr("ml_assets.cli.flow.project.read_all", lambda _: Declared(models=(shadowing,)))
    assert "No challenger was compared yet." in explained(command)
    challenger = ShadowedChallenger(
        version="b" * 32, verdict="better", sentence="Is not worse.", scored_days=14, refused=("It is too large.",)
    )
    report = Shadow(model=MODEL, champion="c", days=14, sentence="In shadow: b.", challengers=(challenger,))
    put(it.lake, report, asset=f"{MODEL}/shadow")

    [answer] = [it for it in command.json("explain", MODEL)["answers"] if it["name"] == "shadow"]

    assert (
        "In shadow: b. bbbbbbbbbbbb is better: Is not worse. The gate does not promote it: It is too large."
        == answer["sees"]
    )
    assert "lets the gate judge each once it is compared" == answer["decides"]
