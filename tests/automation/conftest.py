"""Fixtures of the sensors' tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_assets.alerts.outbox import Outbox
from ml_assets.lake.store import Lake
from tests.automation.alerted import Daemon, Heard
from tests.event_logs import ephemeral_instance


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Record each alert that a channel got, as stored in the lake. Sending is tested with the channels."""
    heard = Heard()
    real = Outbox._record_outcome

    def note(self: Outbox, claimed: Any, channel: Any, outcome: Any, *given: Any, **more: Any) -> None:
        if outcome == "sent":
            heard.alerts.extend(it.alert for it in claimed)
        real(self, claimed, channel, outcome, *given, **more)

    monkeypatch.setattr(Outbox, "_record_outcome", note)
    return heard


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with ephemeral_instance() as instance:
        yield Daemon(instance, Lake(str(tmp_path / "lake")))


@pytest.fixture
def lake(folder: Lake) -> Lake:
    return folder
