"""What tests of commands share: the command, with a home and a lake of its own."""

from pathlib import Path

import dagster as dg
import pytest

from ml_assets.lake.store import Lake
from tests.cli.commands import Command


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for Dagster's home and the lake; what the command sets for its process is reset."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("ML_ASSETS_LAKE", str(tmp_path / "lake"))
    return tmp_path


@pytest.fixture
def lake(home: Path) -> Lake:
    """The lake of the command."""
    return Lake(str(home / "lake"))


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare a command that executes nothing the definitions of the example: a second."""
    monkeypatch.setattr("ml_assets.orchestration.location.load_definitions", lambda _: dg.Definitions())


@pytest.fixture
def command(home: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """`ml-assets`, over its own home and lake."""
    return Command(capsys)
