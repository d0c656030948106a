"""Garbage collection of alerts: old sent ones are removed, pending ones are kept, and none is sent twice."""

import logging
import os
from datetime import timedelta
from pathlib import Path

from ml_assets.alerts.alert import KINDS, Alert, Redactor
from ml_assets.alerts.channels import ChannelError, Message
from ml_assets.alerts.outbox import Outbox, alert_digest
from ml_assets.lake.store import Lake
from tests.builders import files_of
from tests.provenance.gc.test_mark import NOW, ago, collected, judged


class Bell:
    """A channel that keeps what it got, unless it is down."""

    name, kinds, is_limited, service, secrets = "bell", frozenset(KINDS), True, "", ()

    def __init__(self) -> None:
        self.got: list[str] = []
        self.is_down = False

    def send(self, message: Message) -> None:
        if self.is_down:
            raise ChannelError("it is down")
        self.got.append(message.title)


def tell(lake: Lake, bell: Bell, key: str, days: float) -> None:
    """Send an alert of something that happened some days ago, then."""
    alert = Alert(kind="run_failed", subject="m", title=key, body="Why.", key=key, occurred_at=ago(days))
    log = logging.getLogger("ml_assets.alerts")
    Outbox(lake, [bell], Redactor([], {}), 20, "", log, clock=lambda: ago(days)).send([alert])
    for path in files_of(lake, "alerts"):
        if alert_digest(key) in path or path.startswith("alerts/rate"):
            os.utime(lake.path(path), (ago(days).timestamp(),) * 2)


def stored_days(lake: Lake) -> set[str]:
    """Return the days with stored alerts."""
    return {path.split("/")[1] for path in files_of(lake, "alerts")} - {"open", "rate"}


def test_alerts_sent_before_the_window_are_removed_with_their_attempts_after_a_dry_run(lake: Lake) -> None:
    bell = Bell()
    for days in (400, 100, 80):
        tell(lake, bell, f"failed {days} days ago", days)
    before = files_of(lake)
    old = {path for path in before if f"{ago(80):%Y-%m-%d}" not in path and not path.startswith("alerts/rate")}

    found = judged(lake).loose["alerts"]

    assert old == set(found)
    assert 4 == len(found)
    assert sum(len(before[path]) for path in found) == sum(found.values()) == judged(lake).bytes
    assert before == files_of(lake)
    assert sum(found.values()) == collected(lake).bytes
    assert before.keys() - old == files_of(lake).keys()


def test_a_pending_alert_is_never_removed(lake: Lake) -> None:
    bell = Bell()
    bell.is_down = True
    tell(lake, bell, "waits", 200)
    before = files_of(lake, "alerts")

    collected(lake)
    assert before == files_of(lake, "alerts")
    assert "alerts" not in judged(lake).loose

    bell.is_down = False
    tell(lake, bell, "another", 1)
    assert ["waits", "another"] == sorted(bell.got, reverse=True)
    tries = [Path(path).name for path in files_of(lake, f"alerts/{ago(200):%Y-%m-%d}") if "bell" in path]
    assert ["bell-01.json", "bell-02.json"] == sorted(tries)


def test_alerts_that_the_sensor_may_see_again_are_kept_with_any_window(lake: Lake) -> None:
    bell = Bell()
    tell(lake, bell, "long ago", 3.5)
    tell(lake, bell, "lately", 2.5)

    collected(lake, days=0)
    tell(lake, bell, "lately", 2.5)

    assert {f"{ago(2.5):%Y-%m-%d}"} == stored_days(lake)
    assert ["long ago", "lately"] == bell.got


def test_empty_days_are_removed_and_other_folders_are_unchanged(lake: Lake) -> None:
    tell(lake, Bell(), "failed", 100)
    collected(lake)
    collected(lake, now=NOW + timedelta(days=2))

    assert ["open", "rate"] == sorted(it.name for it in Path(lake.path("alerts")).iterdir())
