"""The alerts sensor: what it alerts, and that neither a lost cursor nor two daemons cause duplicates."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any, get_args

import dagster as dg
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.adapters.dagster import FreshnessState, FreshnessStateChange
from ml_assets.alerts.channels import LogChannel
from ml_assets.alerts.outbox import Delivery, Outbox
from ml_assets.automation.alerts import _DECIDED
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import Column, TableContract
from ml_assets.lake.store import Lake
from ml_assets.logic.tables.quarantine import audit
from ml_assets.names import MANAGED
from tests.automation.alerted import DEFS, MODELS, NOTHING, Daemon, Heard, ask, decide, orders, sales, stock
from tests.builders import overwrite
from tests.event_logs import ephemeral_instance

# ---------------------------------------------------------------- runs


def test_a_failed_run_is_alerted_once_with_its_step_and_the_first_sentence_of_its_error(
    daemon: Daemon, heard: Heard
) -> None:
    run = daemon.run(orders, **{"ml_assets/model": "flight_delay", "secret": "not told"})

    first, second = daemon.tick(), daemon.tick()

    [alert] = heard.alerts
    assert ("run_failed", "orders", "orders failed: ValueError: the till is empty") == (
        alert.kind, alert.subject, alert.title,
    )  # fmt: skip
    assert "Fill it.\nAt once." in alert.body
    assert {"run": run, "job": "__ephemeral_asset_job__", "step": "orders", "model": "flight_delay"} == alert.facts
    assert (f"/runs/{run}", "error") == (alert.link, alert.severity)
    assert first.startswith("1 alert sent, 1 new, 0 held or to be sent again; 1 failed run, 0 changes of freshness")
    assert second.startswith("0 alerts sent, 0 new, 0 held or to be sent again; 0 failed runs")


def test_a_failed_blocking_check_is_alerted_as_one(daemon: Daemon, heard: Heard) -> None:
    daemon.run(sales)
    daemon.tick()

    [alert] = heard.alerts
    assert ("check_failed", "shop/sales") == (alert.kind, alert.subject)
    assert "shop/sales: 1 blocking check failed (sold)" == alert.title
    assert "shop/sales: sold. 3 of 10 rows were not sold." in alert.body


def over_the_share() -> str:
    contract = TableContract("orders", columns=(Column("n", pl.Int64(), minimum=0),))
    rows = pl.DataFrame({"n": [1, 2, -3]}, schema={"n": pl.Int64})
    return audit(rows, contract, partition=None, share=0.1).refusal("raw/orders", share=0.1)


@pytest.mark.parametrize(
    "reason",
    [
        over_the_share(),
        "dbt failed:\n- 33.33% of the rows of 2013-01-01 break rules; 10.00% may be quarantined.\nMend.",
    ],
    ids=["a source", "a table that dbt made"],
)
def test_a_quarantine_over_its_share_is_alerted_as_one(daemon: Daemon, heard: Heard, reason: str) -> None:
    @dg.asset(key=["raw", "orders"], tags=dict([MANAGED]))
    def land() -> None:
        raise ContractError(reason)

    daemon.defs = dg.Definitions([land])
    daemon.run(land)
    daemon.tick()

    [alert] = heard.alerts
    assert ("quarantine_over_limit", "raw/orders") == (alert.kind, alert.subject)
    assert alert.title.startswith("raw/orders: 33.33% of the rows ")
    assert alert.title.endswith("break rules; 10.00% may be quarantined.")


def test_a_run_that_dagster_will_try_again_is_reported_as_such(daemon: Daemon, heard: Heard) -> None:
    daemon.run(orders, **{"dagster/will_retry": "true"})
    daemon.tick()

    [alert] = heard.alerts
    assert alert.title.endswith(" (will be retried)")
    assert alert.body.startswith("Dagster will retry this run automatically.")
    assert "warning" == alert.severity


def test_a_run_that_failed_outside_of_any_step_is_reported_too(daemon: Daemon, heard: Heard) -> None:
    job = DEFS.resolve_implicit_global_asset_job_def()
    run = daemon.instance.create_run_for_job(job)
    daemon.instance.report_run_failed(run, "the pod could not be started. No node has a GPU.")

    daemon.tick()

    [alert] = heard.alerts
    assert "__ASSET_JOB failed: the pod could not be started" == alert.title
    assert "none" == alert.facts["step"]


def test_each_step_that_failed_is_reported(daemon: Daemon, heard: Heard) -> None:
    daemon.run(orders, sales)
    daemon.tick()

    assert ["check_failed", "run_failed"] == sorted(it.kind for it in heard.alerts)


def test_failed_runs_over_the_limit_of_a_tick_are_read_by_the_next_ticks(
    daemon: Daemon, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.automation.alerts.MOST_RUNS", 2)
    runs = [daemon.run(orders) for _ in range(5)]

    reason = [daemon.tick() for _ in range(4)]

    assert ["2 failed runs (3 more at the next tick)", "2 failed runs (1 more at the next tick)", "1 failed run",
            "0 failed runs"] == [it.partition("; ")[2].partition(",")[0] for it in reason]  # fmt: skip
    assert sorted(runs) == sorted(it.facts["run"] for it in heard.alerts)


def test_a_host_projects_failures_are_not_alerted_also_in_a_run_with_ours(daemon: Daemon, heard: Heard) -> None:
    @dg.asset
    def theirs() -> None:
        raise ValueError("not ours")

    daemon.defs = dg.Definitions([orders, theirs])
    daemon.run(theirs)
    both = daemon.run(orders, theirs)
    reason = daemon.tick()

    assert [("orders", both)] == [(it.subject, it.facts["run"]) for it in heard.alerts]
    assert "1 failed run," in reason


# ---------------------------------------------------------------- freshness


def became(instance: dg.DagsterInstance, state: FreshnessState, at: datetime, previous: FreshnessState) -> None:
    """Note a change of state, as Dagster's freshness daemon does."""
    instance._report_runless_asset_event(
        FreshnessStateChange(
            key=stock.key, new_state=state, previous_state=previous, state_change_timestamp=at.timestamp()
        )
    )


def test_an_asset_that_became_too_old_is_alerted_once_each_time(daemon: Daemon, heard: Heard) -> None:
    now = datetime.now(tz=UTC)
    steps = [FreshnessState.PASS, FreshnessState.FAIL, FreshnessState.FAIL, FreshnessState.PASS, FreshnessState.FAIL]
    for number, (before, state) in enumerate(zip([FreshnessState.UNKNOWN, *steps], steps, strict=False)):
        if state is not before:
            became(daemon.instance, state, now + timedelta(seconds=number), before)
        daemon.tick()

    assert ["shop/stock is older than its freshness policy allows"] * 2 == [it.title for it in heard.alerts]
    assert ["/assets/shop/stock"] * 2 == [it.link for it in heard.alerts]
    assert [now + timedelta(seconds=1), now + timedelta(seconds=4)] == [it.occurred_at for it in heard.alerts]


# ---------------------------------------------------------------- promotions


def test_each_decision_is_alerted_once_with_its_reasons(daemon: Daemon, heard: Heard) -> None:
    daemon.tick()
    entries = [decide(daemon.lake, action) for action in ("promote", "reject", "rollback", "request_approval")]
    reason = daemon.tick()
    daemon.tick()

    assert [
        ("challenger_promoted", "info", "flight_delay: cccccccccccc is the champion now"),
        ("challenger_rejected", "warning", "flight_delay: challenger cccccccccccc was rejected"),
        ("rolled_back", "error", "flight_delay: rolled back to aaaaaaaaaaaa"),
        ("challenger_pending", "warning", "flight_delay: challenger cccccccccccc waits for approval"),
    ] == [(it.kind, it.severity, it.title) for it in heard.alerts]
    assert "it is better\nDecided by gate. The champion is aaaaaaaaaaaa." == heard.alerts[0].body
    assert [entry.decided_at for entry in entries] == [it.occurred_at for it in heard.alerts]
    assert "4 promotion entries and 0 retrainings read since" in reason


def test_a_decision_whose_clock_was_behind_is_reported_and_a_copied_lake_alerts_nothing_old(
    daemon: Daemon, heard: Heard
) -> None:
    now = datetime.now(tz=UTC)
    daemon.tick()
    decide(daemon.lake, "promote", at=now - timedelta(days=40))
    decide(daemon.lake, "reject", at=now - timedelta(hours=2))
    daemon.tick()

    assert ["challenger_rejected"] == [it.kind for it in heard.alerts]


def stale_long_ago(daemon: Daemon) -> None:
    became(daemon.instance, FreshnessState.FAIL, datetime.now(tz=UTC) - timedelta(days=3), FreshnessState.PASS)


@pytest.mark.parametrize(
    "happens",
    [
        lambda daemon: daemon.run(stock),
        stale_long_ago,
        lambda daemon: decide(daemon.lake, "promote", model="someone_elses"),
    ],
    ids=["a run that succeeds", "an asset that has been too old for days", "a decision on a model of another project"],
)
def test_what_is_no_news_is_not_alerted(daemon: Daemon, heard: Heard, happens: Callable[[Daemon], object]) -> None:
    happens(daemon)
    daemon.tick()

    assert [] == heard.alerts


def test_a_log_that_cannot_be_read_is_reported_at_each_tick_stops_nothing_and_is_read_when_restored(
    daemon: Daemon, heard: Heard
) -> None:
    decide(daemon.lake, "promote")
    decide(daemon.lake, "promote", model=MODELS[1])
    path = daemon.lake.path("promotions", MODELS[0], "000001.json")
    whole = daemon.lake.read(path)
    overwrite(daemon.lake, path, b"{}")

    reason = [daemon.tick(), daemon.tick()]
    assert [MODELS[1]] == [it.subject for it in heard.alerts]
    assert all("The promotion log of flight_delay cannot be read: " in it for it in reason)

    overwrite(daemon.lake, path, whole)
    assert "cannot be read" not in daemon.tick()
    assert [MODELS[1], MODELS[0]] == [it.subject for it in heard.alerts]


# ---------------------------------------------------------------- never twice


@pytest.mark.parametrize("cursor", [None, "", "not one", json.dumps({"at": "2026-01-01"})])
def test_without_its_cursor_the_last_day_is_read_again_and_nothing_is_alerted_twice(
    daemon: Daemon, heard: Heard, cursor: str | None
) -> None:
    daemon.run(orders)
    decide(daemon.lake, "promote")
    became(daemon.instance, FreshnessState.FAIL, datetime.now(tz=UTC), FreshnessState.PASS)
    daemon.tick()
    daemon.cursor = cursor
    reason = daemon.tick()

    assert reason.startswith("0 alerts sent, 0 new, 0 held or to be sent again; 1 failed run, ")
    assert ["challenger_promoted", "freshness_missed", "run_failed"] == sorted(it.kind for it in heard.alerts)


def test_two_concurrent_daemons_alert_each_event_once(tmp_path: Path, heard: Heard) -> None:
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        daemons = [Daemon(instance, Lake(str(tmp_path / "lake"))) for _ in range(3)]
        daemons[0].run(orders)
        for _ in range(3):
            decide(daemons[0].lake, "promote")
        start = Barrier(3, timeout=30)

        def tick(daemon: Daemon) -> str:
            start.wait()
            return daemon.tick()

        with ThreadPoolExecutor(3) as pool:
            [*pool.map(tick, daemons)]

    assert 4 == len({it.key for it in heard.alerts}) == len(heard.alerts)


def test_a_lake_that_is_down_fails_the_tick_and_the_next_tick_alerts(
    daemon: Daemon, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.run(orders)

    def down(*_: Any, **__: Any) -> Delivery:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(Outbox, "send", down)
        with pytest.raises(OSError, match="the disk is gone"):
            daemon.tick()
    assert None is daemon.cursor
    daemon.tick()

    assert 1 == len(heard.alerts)


@pytest.fixture(scope="module")
def quiet() -> Iterator[dg.DagsterInstance]:
    """An instance in which nothing ever runs."""
    with ephemeral_instance() as instance:
        yield instance


EVENTS = st.lists(
    st.sampled_from(["decide 0", "decide 1", "ask 0", "ask 1", "tick", "tick", "lose", "other daemon"]), max_size=7
)


@given(events=EVENTS)
@settings(max_examples=10)
def test_over_any_events_and_ticks_each_is_alerted_once(
    tmp_path_factory: pytest.TempPathFactory, quiet: dg.DagsterInstance, events: list[str]
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    with pytest.MonkeyPatch.context() as patch:
        sent: list[str] = []
        patch.setattr(LogChannel, "send", lambda _, message: sent.append(message.id))
        one, other = (Daemon(quiet, lake, defs=NOTHING) for _ in range(2))
        days = count(1)
        acts: dict[str, Callable[[], Any]] = {
            "ask 0": lambda: ask(lake, next(days)), "ask 1": lambda: ask(lake, next(days), model=MODELS[1]),
            "decide 0": lambda: decide(lake, "promote", model=MODELS[0]),
            "decide 1": lambda: decide(lake, "reject", model=MODELS[1]),
            "tick": one.tick, "lose": lambda: setattr(one, "cursor", None), "other daemon": other.tick,
        }  # fmt: skip
        for event in [*events, "tick"]:
            acts[event]()

    happened = sum(event.startswith(("decide", "ask")) for event in events)
    assert happened == len(sent) == len(set(sent))


def test_every_action_of_the_promotion_log_has_an_alert() -> None:
    actions = get_args(Promotion.model_fields["action"].annotation)

    assert len(actions) >= 3
    assert set(actions) <= set(_DECIDED)
