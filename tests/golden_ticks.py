"""Ticks of every sensor and schedule in a few recorded states, for the golden files.

What a tick requests is one thing, and the sentences that it says another: those are rewritten now and then.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest

from ml_assets.alerts.alert import Alert
from ml_assets.alerts.outbox import Outbox
from ml_assets.automation.reproduction import reproduction_schedule
from ml_assets.automation.schedules import clean_up, daily_landing
from ml_assets.automation.watch import rollback_drill, rollback_drill_job
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.models.plan import Plans
from tests.automation import alerted, arriving, looped, updated
from tests.builders import flights_declared, frame, put
from tests.event_logs import ephemeral_instance

Facts = dict[str, Any]
_OF_THIS_RUN: Final = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "RUN"),
    (re.compile(r"\brun [0-9a-f]{8}\b"), "run RUN"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?"), "MOMENT"),
    (re.compile(r"since \d{4}-\d\d-\d\d \d\d:\d\d UTC"), "since MOMENT"),
)


@dataclass
class Ticks:
    """What ticks request, and what they say, by the state that they found."""

    requested: dict[str, list[Facts]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def take(self, state: str, requests: Sequence[dg.RunRequest], reason: str | None) -> None:
        """Note one tick."""
        assert state not in self.requested, state
        self.requested[state] = [_request(it) for it in requests]
        # Sentences about several models and tables come in the order of a set.
        self.texts[state] = ["\n".join(sorted(_steady(reason).splitlines()))] if reason else []

    def take_alerts(self, state: str, alerts: Sequence[Alert], reason: str) -> None:
        """Note one tick of the alerts."""
        self.requested[state] = [_alert(it) for it in alerts]
        self.texts[state] = [_steady(reason), *(_steady(f"{it.title}\n{it.body}") for it in alerts)]

    def messages(self) -> str:
        """Return all messages."""
        return "\n".join(
            f"# {state}\n\n" + "\n\n".join(texts) + "\n" for state, texts in sorted(self.texts.items()) if texts
        )


def recorded_ticks(folder: Path) -> Ticks:
    """Evaluate every sensor and schedule, in lakes under a folder."""
    ticks = Ticks()
    for record in (_arrivals, _updates, _drift, _performance, _watch, _floor, _alerts, _schedules):
        record(ticks, folder / record.__name__)
    return ticks


def _steady(text: str) -> str:
    for pattern, name in _OF_THIS_RUN:
        text = pattern.sub(name, text)
    return text


def _request(request: dg.RunRequest) -> Facts:
    found = {
        "assets": sorted(key.to_user_string() for key in request.asset_selection or ()),
        "checks": sorted(f"{key.asset_key.to_user_string()}: {key.name}" for key in request.asset_check_keys or ()),
        "job": request.job_name,
        "key": request.run_key,
        "partition": request.partition_key,
        "config": request.run_config,
        "tags": dict(sorted(request.tags.items())),
    }
    return {name: value for name, value in found.items() if value}


def _alert(alert: Alert) -> Facts:
    return {
        "facts": sorted(alert.facts),
        "key": _steady(alert.key),
        "kind": alert.kind,
        "link": _steady(alert.link or ""),
        "severity": alert.severity,
        "subject": alert.subject,
    }


# ---------------------------------------------------------------- files that arrive


def _arrivals(ticks: Ticks, folder: Path) -> None:
    with ephemeral_instance() as instance:
        shop = arriving.Landing(folder / "in", LakeResource(url=str(folder / "lake")), instance)

        def look(state: str) -> None:
            found = shop.look(shop.cursor)
            ticks.take(
                f"arrivals: {state}", found.run_requests or (), found.skip_reason and found.skip_reason.skip_message
            )

        look("no file has come")
        for day in (0, 1, 2, 5):
            shop.write(day, day)
        look("three days in a row and one more have come")
        for run in shop.tick():
            assert shop.land(run)
        look("all days are landed")
        shop.write(1, 7)
        shop.write(3, 8)
        shop.write("2023-12-31", 1)
        shop.write("tomorrow", 1)
        look("a day is corrected, one is late, one lies outside the declared days and one is no day")


# ---------------------------------------------------------------- what is out of date


def _updates(ticks: Ticks, folder: Path) -> None:
    with updated.world(folder) as it:

        def until_quiet(state: str) -> None:
            for number in range(1, 20):
                requests = it.look()
                ticks.take(f"updates: {state}, tick {number}", requests, it.reason)
                if not requests:
                    return
                it.launch(requests)
                for run in [*it.queue]:
                    it.end(run)
            raise AssertionError("it never ends")

        days = updated.DAYS
        for day in days[:3]:
            for table in ("a", "b"):
                it.land(table, day, "one")
        until_quiet("three days and no champion")
        it.serve()
        until_quiet("a champion")
        it.land("a", days[3], "one")
        until_quiet("a day of one of two sources")
        it.land("b", days[3], "one")
        it.land("b", days[1], "other")
        until_quiet("the other source, and a corrected day")
        it.deploy(code="2")
        until_quiet("other code of a table")
        it.land("a", days[4], "one")
        requests = it.look()
        it.launch(requests)
        ticks.take("updates: a run is under way", it.look(), it.reason)
        it.end(it.queue[0], made=0)
        ticks.take("updates: a run has failed", it.look(), it.reason)


# ---------------------------------------------------------------- the loop


def _drift(ticks: Ticks, folder: Path) -> None:
    with looped.world(folder, looped.declared({"trials": 5, "cool_down_days": 2})) as it:
        _look(ticks, it, "drift", "nothing was predicted")
        for _ in range(7):
            it.live()
        _look(ticks, it, "drift", "seven quiet days")
        it.live(is_over=True)
        it.live(is_over=True)
        requests = _look(ticks, it, "drift", "two days over the limit")
        it.launch(requests)
        _look(ticks, it, "drift", "its run is under way", is_lost=True)
        it.end()
        it.serve(it.train(it.day - timedelta(days=1), rounds=3), "reject")
        it.live(is_over=True)
        _look(ticks, it, "drift", "the challenger was refused a day ago")
        for _ in range(4):
            it.live(is_over=True)
        _look(ticks, it, "drift", "the cool-down is over")


def _performance(ticks: Ticks, folder: Path) -> None:
    with looped.world(folder) as it:
        for _ in range(9):
            it.live(auc=0.8)
        _look(ticks, it, "performance", "as good as expected")
        for _ in range(9):
            it.live(auc=0.7)
        _look(ticks, it, "performance", "worse than expected")


def _watch(ticks: Ticks, folder: Path) -> None:
    with looped.world(folder) as it:
        it.live()
        _look(ticks, it, "watch", "the first champion")
        first = it.champion
        it.serve(it.train(it.day - timedelta(days=1), rounds=2))
        for number in range(4):
            it.live(auc=0.75 - 0.002 * number, former=(first, 0.8))
        _look(ticks, it, "watch", "a worse champion for four days")
        it.live(auc=0.74, former=(first, 0.8))
        _look(ticks, it, "watch", "a worse champion for five days")
        _look(ticks, it, "drift", "a champion that is about to be rolled back")


def _look(
    ticks: Ticks, it: looped.World, name: looped.Name, state: str, *, is_lost: bool = False
) -> list[dg.RunRequest]:
    requests = it.look(name, is_lost=is_lost)
    ticks.take(f"{name}: {state}", requests, it.reason)
    return requests


def _floor(ticks: Ticks, folder: Path) -> None:
    with looped.world(folder, looped.declared({"floor_days": 8, "cool_down_days": 8})) as it:
        for _ in range(7):
            it.live()
        ticks.take("retraining_floor: trained seven days ago", it.look_at_the_floor(), it.reason)
        it.live()
        ticks.take("retraining_floor: trained eight days ago", it.look_at_the_floor(), it.reason)


# ---------------------------------------------------------------- alerts


def _alerts(ticks: Ticks, folder: Path) -> None:
    with ephemeral_instance() as instance, _heard() as heard:
        daemon = alerted.Daemon(instance, Lake(str(folder)))

        def tick(state: str) -> None:
            reason = daemon.tick()
            ticks.take_alerts(f"alerts: {state}", sorted(heard, key=lambda it: (it.kind, it.subject)), reason)
            heard.clear()

        tick("nothing has happened")
        daemon.run(alerted.orders, model="flight_delay")
        tick("a run has failed")
        daemon.run(alerted.sales)
        tick("a blocking check has failed")
        daemon.run(alerted.stock)
        tick("a run went well")
        for action in ("promote", "reject", "rollback", "request_approval"):
            alerted.decide(daemon.lake, action)
            tick(f"the gate's entry '{action}'")
        alerted.ask(daemon.lake, 1)
        tick("a retraining was requested")


@contextmanager
def _heard() -> Iterator[list[Alert]]:
    """Collect each alert that a channel got."""
    heard: list[Alert] = []
    real: Callable[..., None] = Outbox._record_outcome

    def note(outbox: Outbox, claimed: Any, channel: Any, outcome: Any, *given: Any, **more: Any) -> None:
        if outcome == "sent":
            heard.extend(it.alert for it in claimed)
        real(outbox, claimed, channel, outcome, *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, "_record_outcome", note)
        yield heard


# ---------------------------------------------------------------- schedules


def _schedules(ticks: Ticks, folder: Path) -> None:
    by_day = {"file": "orders.csv", "partition_by": {"column": "day"}}
    tables = {"orders": by_day, "returns": {**by_day, "quarantine": 0.1}, "shops": {"file": "shops.csv"}}
    raw = RawDeclaration.model_validate({"days": Days(first=date(2026, 1, 1), last=None), "tables": tables})
    declared = Declared(models=flights_declared().models, raw=(raw,))
    lake = Lake(str(folder))
    for day in ("2026-02-27", "2026-02-28", "2026-03-02"):
        put(lake, frame(1), asset="raw/orders", partition=day)
    _scheduled(ticks, "days of both tables are missing", daily_landing(declared), lake)
    for name in ("orders", "returns"):
        for day in ("2026-03-01", "2026-03-03", "2026-03-04"):
            put(lake, frame(1), asset=f"raw/{name}", partition=day)
    _scheduled(ticks, "all days are there", daily_landing(declared), lake)
    drill = rollback_drill(declared, rollback_drill_job(Plans(declared, {}).of))
    for schedule in (clean_up(declared), reproduction_schedule(declared), drill):
        _scheduled(ticks, "one model", schedule, lake)


def _scheduled(ticks: Ticks, state: str, schedule: dg.ScheduleDefinition, lake: Lake) -> None:
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 3, 5, 5, 30, tzinfo=UTC),
        resources={"ml_assets_lake": LakeResource(url=lake.url)},
    )
    found = schedule.evaluate_tick(context)
    ticks.take(f"{schedule.name}: {state}", found.run_requests or (), found.skip_message)
