"""The outbox: each alert is sent once to each of its channels, despite concurrency, repetitions and faults."""

import itertools
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.alerts.alert import KINDS, Alert, Redactor
from ml_assets.alerts.channels import ChannelError, LogChannel, Message
from ml_assets.alerts.outbox import LOST_AFTER, MOST_TRIES, Outbox, Taken, alert_digest
from ml_assets.lake.sealing import unseal
from ml_assets.lake.store import Lake
from tests.builders import overwrite

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LOG = logging.getLogger("ml_assets.alerts")
NOTHING = Redactor([], {})


class DiedError(RuntimeError):
    """Simulates a killed process: nothing after it happens."""


@dataclass
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Bell:
    """A channel that stores what it got, and fails on request."""

    name: str = "bell"
    kinds: frozenset[str] = frozenset(KINDS)
    is_limited: bool = True
    service: str = "Bell"
    secrets: tuple[str, ...] = ()
    got: list[Message] = field(default_factory=list)
    before: Callable[[Message], None] = lambda _: None
    after: Callable[[Message], None] = lambda _: None

    def send(self, message: Message) -> None:
        self.before(message)
        self.got.append(message)
        self.after(message)

    @property
    def titles(self) -> list[str]:
        """The titles of the alerts it got, those within a digest too."""
        lines = [it.body.splitlines() if it.kind == "digest" else [f"- {it.title}"] for it in self.got]
        return [line.removeprefix("- ") for group in lines for line in group]


def refuse(_: Message) -> None:
    raise ChannelError("it answered 503")


def go_silent(_: Message) -> None:
    raise ChannelError("it did not respond: TimeoutError", may_have_arrived=True)


def die(_: Message) -> None:
    raise DiedError


def alert(name: str, **changes: Any) -> Alert:
    given: dict[str, Any] = {"kind": "run_failed", "subject": "shop/orders", "title": f"<{name}>", "body": "It failed."}
    return Alert(**{**given, "key": f"run/{name}", "occurred_at": NOON, **changes})


def outbox(lake: Lake, *channels: Any, clock: Clock, per_hour: int = 20, base_url: str = "") -> Outbox:
    return Outbox(
        Lake(lake.url, lake.options), channels, redact=NOTHING, per_hour=per_hour, base_url=base_url, log=LOG,
        clock=clock,
    )  # fmt: skip


def test_an_alert_is_sent_once_even_if_it_is_raised_several_times(lake: Lake) -> None:
    bell, clock = Bell(), Clock()

    first = outbox(lake, bell, clock=clock).send([alert("a")])
    again = outbox(lake, bell, clock=clock).send([alert("a"), alert("b")])

    assert ["<a>", "<b>"] == bell.titles
    assert (1, 1, 0) == (first.new, first.sent, first.waiting)
    assert (1, 1, 0) == (again.new, again.sent, again.waiting)


def test_the_record_lists_the_channels_that_received_it_and_nothing_is_pending(folder: Lake) -> None:
    outbox(folder, Bell(), Bell("whistle", kinds=frozenset({"rolled_back"})), clock=Clock()).send([alert("a")])

    record = folder.read(folder.path("alerts", "2026-11-21", f"{alert_digest('run/a')}.json"))
    assert {"bell": "sent"} == unseal(record, Taken, where="", what="").channels
    assert [] == folder.names(folder.path("alerts", "open"))


def test_of_ticks_at_once_one_sends(folder: Lake) -> None:
    bell, clock, start = Bell(), Clock(), Barrier(8, timeout=30)
    alerts = [alert(str(n)) for n in range(5)]

    def tick(_: int) -> None:
        start.wait()
        outbox(folder, bell, clock=clock).send(alerts)

    with ThreadPoolExecutor(8) as pool:
        [*pool.map(tick, range(8))]

    assert sorted(it.title for it in alerts) == sorted(bell.titles)


def test_an_event_of_yesterday_that_is_seen_again_today_is_the_same_event(folder: Lake) -> None:
    bell, clock = Bell(), Clock(NOON.replace(hour=23, minute=59))

    outbox(folder, bell, clock=clock).send([alert("a")])
    clock.pass_by(minutes=2)
    outbox(folder, bell, clock=clock).send([alert("a")])

    assert ["<a>"] == bell.titles


def test_a_kind_without_a_channel_is_recorded_and_completed(folder: Lake) -> None:
    delivery = outbox(folder, Bell(kinds=frozenset()), clock=Clock()).send([alert("a")])

    assert (1, 0, 0) == (delivery.new, delivery.sent, delivery.waiting)


def test_a_channel_that_is_down_does_not_delay_the_others_and_gets_its_alerts_later(folder: Lake) -> None:
    down, up, clock = Bell("down", before=refuse), Bell("up"), Clock()

    first = outbox(folder, down, up, clock=clock).send([alert("a"), alert("b")])
    assert {"down": "it answered 503"} == first.failures
    assert (2, 2) == (first.sent, first.waiting)
    down.before = lambda _: None
    for _ in range(4):
        clock.pass_by(seconds=30)
        outbox(folder, down, up, clock=clock).send([])

    assert ["<a>", "<b>"] == sorted(down.titles)
    assert ["<a>", "<b>"] == sorted(up.titles)
    assert not any(it.is_repeat for it in down.got)


def test_attempts_are_repeated_with_growing_waits_and_a_final_failure_is_reported(
    folder: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[datetime] = []
    clock = Clock()

    def note(message: Message) -> None:
        tried.append(clock.now)
        refuse(message)

    bell = Bell(before=note)
    outbox(folder, bell, clock=clock).send([alert("a")])
    for _ in range(MOST_TRIES * 3):
        clock.pass_by(minutes=30)
        outbox(folder, bell, clock=clock).send([])

    waits = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert MOST_TRIES == len(tried)
    assert sorted(waits) == waits
    assert timedelta(hours=1) == waits[-1]
    assert [] == folder.names(folder.path("alerts", "open"))
    assert f"bell (Bell) did not receive «<a>» in {MOST_TRIES} attempts; no more follow" in caplog.messages[-1]


def test_an_alert_that_may_have_arrived_is_sent_again_with_the_same_id_and_marked_as_a_repeat(folder: Lake) -> None:
    bell, clock = Bell(after=go_silent), Clock()

    outbox(folder, bell, clock=clock).send([alert("a")])
    bell.after = lambda _: None
    clock.pass_by(seconds=30)
    outbox(folder, bell, clock=clock).send([])

    assert [False, True] == [it.is_repeat for it in bell.got]
    assert 1 == len({it.id for it in bell.got})
    assert "(may be a repeat)" in bell.got[1].line


def test_an_attempt_of_a_crashed_process_is_taken_over_only_after_some_minutes(folder: Lake) -> None:
    bell, clock = Bell(before=die), Clock()
    with pytest.raises(DiedError):
        outbox(folder, bell, clock=clock).send([alert("a")])

    bell.before = lambda _: None
    clock.pass_by(minutes=1)
    outbox(folder, bell, clock=clock).send([alert("a")])
    assert [] == bell.got

    clock.pass_by(seconds=LOST_AFTER.seconds)
    outbox(folder, bell, clock=clock).send([])
    assert ["<a>"] == bell.titles


@pytest.mark.parametrize("after", range(1, 8))
def test_after_a_crash_at_any_point_the_alert_is_sent_once_or_marked_as_a_possible_repeat(
    folder: Lake, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    bell, clock = Bell(), Clock()
    mortal = outbox(folder, bell, clock=clock)
    left = Counter(calls=after)

    def dies(real: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            left["calls"] -= 1
            if left["calls"] == 0:
                raise DiedError
            return real(*given, **more)

        return call

    for name in ("create", "write", "remove"):
        monkeypatch.setattr(mortal.lake, name, dies(getattr(mortal.lake, name)))
    with pytest.raises(DiedError):
        mortal.send([alert("a")])
    for _ in range(3):
        clock.pass_by(minutes=6)
        outbox(folder, bell, clock=clock).send([alert("a")])

    assert ["<a>"] == [it.title for it in bell.got if not it.is_repeat]
    # At 5 it crashed after the channel had accepted it and before that was recorded.
    assert (2 if after == 5 else 1) == len(bell.got)
    assert [] == folder.names(folder.path("alerts", "open"))


def test_alerts_over_the_hourly_limit_are_sent_in_one_message_in_the_next_hour(folder: Lake) -> None:
    bell, clock = Bell(), Clock()
    alerts = [alert(f"{n:02d}", occurred_at=NOON + timedelta(seconds=n)) for n in range(20)]

    now = outbox(folder, bell, clock=clock, per_hour=3).send(alerts)
    assert (20, 3, 17) == (now.new, now.sent, now.waiting)
    clock.pass_by(minutes=59)
    assert 17 == outbox(folder, bell, clock=clock, per_hour=3).send([]).waiting
    clock.pass_by(minutes=1)
    later = outbox(folder, bell, clock=clock, per_hour=3).send([alert("new", occurred_at=clock.now)])

    assert ["<00>", "<01>", "<02>"] == [it.title for it in bell.got[:3]]
    assert "17 alerts that were delayed: <03>, and 16 more" == bell.got[3].title
    assert "- and 5 more; all are in " in bell.got[3].body
    assert {"run_failed": 17} == bell.got[3].facts
    assert "<new>" == bell.got[4].title
    assert (18, 0) == (later.sent, later.waiting)


def test_a_single_delayed_alert_is_sent_unchanged(folder: Lake) -> None:
    bell, clock = Bell(), Clock()

    outbox(folder, bell, clock=clock, per_hour=1).send([alert("a"), alert("b")])
    clock.pass_by(hours=1)
    outbox(folder, bell, clock=clock, per_hour=1).send([])

    assert ["run_failed", "run_failed"] == [it.kind for it in bell.got]
    assert ["<a>", "<b>"] == sorted(bell.titles)


def test_the_log_channel_gets_all_alerts_without_a_rate_limit(folder: Lake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log, bell = LogChannel(frozenset(KINDS), LOG), Bell()

    for n in range(5):
        outbox(folder, log, bell, clock=Clock(), per_hour=2).send([alert(str(n), severity="info")])

    assert [f"<{n}> | It failed." for n in range(5)] == caplog.messages
    assert 2 == len(bell.got)


def test_messages_of_past_hours_are_not_counted_for_ever(folder: Lake) -> None:
    bell, clock = Bell(), Clock()
    for n in range(5):
        outbox(folder, bell, clock=clock).send([alert(str(n))])
        clock.pass_by(hours=1)

    hours = {name.partition("/")[0] for name in folder.tree(folder.path("alerts", "rate", "bell"))}
    assert {"2026-11-21T14", "2026-11-21T15", "2026-11-21T16"} == hours


def test_concurrent_ticks_respect_the_hourly_limit(folder: Lake) -> None:
    bell, clock, start = Bell(), Clock(), Barrier(6, timeout=30)

    def tick(number: int) -> None:
        start.wait()
        outbox(folder, bell, clock=clock, per_hour=4).send([alert(f"{number}-{n}") for n in range(3)])

    with ThreadPoolExecutor(6) as pool:
        [*pool.map(tick, range(6))]

    assert 4 == len(bell.got)


def test_a_link_leads_into_the_web_ui_where_its_address_is_known(folder: Lake) -> None:
    with_ui, without, clock = Bell(), Bell(), Clock()

    outbox(folder, with_ui, clock=clock, base_url="https://dagster.example").send([alert("a", link="/runs/1")])
    outbox(folder, without, clock=clock).send([alert("b", link="/runs/2")])

    assert "https://dagster.example/runs/1" == with_ui.got[0].link
    assert None is without.got[0].link


def test_an_unreadable_alert_is_reported_and_does_not_stop_the_others(
    folder: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    bell = Bell()
    overwrite(folder, folder.path("alerts", "open", "0" * 32 + ".json"), b'{"half')

    delivery = outbox(folder, bell, clock=Clock()).send([alert("a")])

    assert ["<a>"] == bell.titles
    assert 1 == delivery.waiting
    assert ["a pending alert cannot be sent"] == caplog.messages
    assert "is not the record of an alert as it was written" in str(caplog.records[0].exc_info)


NAMES = st.sampled_from("abcdefgh")
STEP = st.tuples(
    st.lists(NAMES, max_size=4), st.sampled_from(["up", "up", "refuses", "silent", "dies before"]), st.integers(0, 90)
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Lake]:
    return lambda: Lake(str(tmp_path_factory.mktemp("lake")))


@given(steps=st.lists(STEP, max_size=8), per_hour=st.integers(1, 5))
@settings(max_examples=15)
def test_over_any_ticks_each_key_reaches_each_channel_once(
    scratch: Callable[[], Lake], steps: list[tuple[list[str], str, int]], per_hour: int
) -> None:
    lake, clock, sound, odd = scratch(), Clock(), Bell("sound"), Bell("odd")
    seen: set[str] = set()
    for names, state, minutes in steps:
        odd.before = {"refuses": refuse, "silent": go_silent, "dies before": die}.get(state, lambda _: None)
        seen |= set(names)
        try:
            outbox(lake, odd, sound, clock=clock, per_hour=per_hour).send([alert(name) for name in names])
        except DiedError:
            assert "dies before" == state
        clock.pass_by(minutes=minutes)
    odd.before = lambda _: None
    for _ in range(12):
        clock.pass_by(hours=1, minutes=1)
        outbox(lake, odd, sound, clock=clock, per_hour=per_hour).send([])

    assert {f"<{name}>": 1 for name in seen} == Counter(odd.titles) == Counter(sound.titles)
    assert [] == lake.names(lake.path("alerts", "open"))
