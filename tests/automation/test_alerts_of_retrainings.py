"""Alerts of requested retrainings: each is sent once, even if records are lost, damaged or incomplete."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.automation.alerted import MODELS, Daemon, Heard, ask
from tests.builders import overwrite


def test_a_retraining_that_was_requested_is_alerted_once_with_its_cause(daemon: Daemon, heard: Heard) -> None:
    daemon.tick()
    first = ask(daemon.lake, 7)
    reason = daemon.tick()
    daemon.tick()
    ask(daemon.lake, 7, number=2)
    ask(daemon.lake, 8, model=MODELS[1])
    daemon.tick()

    alert = heard.alerts[0]
    assert ("retraining_requested", "info", "flight_delay is trained again as of 2013-03-07: drift") == (
        alert.kind, alert.severity, alert.title,
    )  # fmt: skip
    assert ("2 of 3 days are over.", {"days over": 2.0}, first.requested_at) == (
        alert.body,
        alert.facts,
        alert.occurred_at,
    )
    assert "1 retraining read since" in reason
    assert [
        "retraining/flight_delay/2013-03-07/1", "retraining/flight_delay/2013-03-07/2",
        "retraining/flight_minutes/2013-03-08/1",
    ] == sorted(it.key for it in heard.alerts)  # fmt: skip


def test_with_the_cursor_lost_no_retraining_is_alerted_twice_and_a_copied_lake_alerts_nothing_old(
    daemon: Daemon, heard: Heard
) -> None:
    ask(daemon.lake, 6, at=datetime.now(tz=UTC) - timedelta(days=40))
    ask(daemon.lake, 7)
    daemon.tick()
    daemon.cursor = None
    reason = daemon.tick()

    assert ["retraining/flight_delay/2013-03-07/1"] == [it.key for it in heard.alerts]
    assert "1 retraining read" in reason


def test_an_invalid_file_does_not_hide_later_records(daemon: Daemon, heard: Heard) -> None:
    ask(daemon.lake, 6, at=datetime.now(tz=UTC) - timedelta(days=40))
    Path(daemon.lake.path("retrainings", MODELS[0], "2013-03-08.txt")).write_bytes(b"a person's note")
    daemon.tick()
    ask(daemon.lake, 7)
    daemon.tick()

    assert ["retraining/flight_delay/2013-03-07/1"] == [it.key for it in heard.alerts]


def test_a_retraining_log_that_cannot_be_read_is_reported_at_each_tick_stops_nothing_and_is_read_when_restored(
    daemon: Daemon, heard: Heard
) -> None:
    now = datetime.now(tz=UTC)
    daemon.at = now - timedelta(days=3)
    ask(daemon.lake, 7, at=daemon.at)
    path = daemon.lake.path("retrainings", MODELS[0], "2013-03-07.01.json")
    whole = daemon.lake.read(path)
    overwrite(daemon.lake, path, b"{}")

    reason = [daemon.tick()]
    ask(daemon.lake, 8, model=MODELS[1], at=now)
    daemon.at = now
    reason.append(daemon.tick())
    assert [MODELS[1]] == [it.subject for it in heard.alerts]
    assert all("The retraining log of flight_delay cannot be read: " in it for it in reason)

    overwrite(daemon.lake, path, whole)
    assert "cannot be read" not in daemon.tick()
    assert [MODELS[1], MODELS[0]] == [it.subject for it in heard.alerts]
