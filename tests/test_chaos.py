"""The chaos bench can fail: what is lost is counted as lost."""

from pathlib import Path
from random import Random

import polars as pl
import pytest

from benchmarks.chaos.damage import reads
from benchmarks.chaos.trials import Scene
from ml_assets.lake.store import Lake
from tests.builders import frame, put
from tests.killing import Undisturbed


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    lake = Lake(str(tmp_path / "lake"))
    put(lake, frame(1, 2), asset="raw/orders")
    flow = Undisturbed(Path(lake.url), [], tmp_path, tmp_path)
    folder = tmp_path / "trials"
    folder.mkdir()
    return Scene(folder, Random(1), 1, flow)  # noqa: S311 - a seeded choice


def test_a_table_damaged_in_any_way_is_noticed(scene: Scene) -> None:
    found = {trial.fault: trial.verdict for trial in reads(scene) if trial.fault.startswith("raw table")}

    assert ["noticed"] * 5 == [*found.values()]


def test_a_table_that_is_silently_read_as_another_counts_as_lost(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_assets.lake.store._check", lambda *_: None)
    monkeypatch.setattr("ml_assets.lake.content.read_part", lambda _, file, **__: pl.read_parquet(file))

    found = {trial.fault: trial.verdict for trial in reads(scene)}

    assert "lost" == found["raw table replaced by another"]
