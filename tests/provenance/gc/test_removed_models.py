"""Garbage collection after a model was removed from the declarations, which it does not read."""

import shutil
from pathlib import Path
from typing import get_args

from ml_assets.declaration.parts import Stage
from ml_assets.lake.steps import StepRecord, store_step
from ml_assets.lake.store import Lake
from tests.provenance.gc.test_mark import ago, collected, decide, gone, judged, keys, made, trained

FOLDERS = ("artifacts", "order", "promotions", "retrainings", "reproductions", "studies")
"""The folders with a part for each model; docs/upgrade.md lists them too."""


def delete(lake: Lake, model: str) -> None:
    root = Path(lake.url)
    steps = (path for path in root.glob(f"runs/*/{model}__*") if path.name.partition("__")[2] in get_args(Stage))
    for path in (*(root / folder / model for folder in FOLDERS), *steps):
        shutil.rmtree(path, ignore_errors=True)


def test_a_removed_model_is_kept_with_its_lineage_until_its_folders_are_deleted(lake: Lake) -> None:
    removed = trained(lake, 1, 900)
    decide(lake, 1, 899, removed)
    made(lake, "raw/flights", 2, 800, partition="2013-01-01")
    other = made(lake, "other/model", 3, 700, removed["raw"])

    assert set() == gone(lake)

    delete(lake, "flight_delay")

    assert keys(other, removed["raw"]) <= judged(lake).kept.keys()
    collected(lake)
    assert [] == judged(lake).removed


def test_artifacts_that_only_a_deleted_model_used_are_removed(lake: Lake) -> None:
    removed = trained(lake, 1, 900)
    decide(lake, 1, 899, removed)
    made(lake, "raw/flights", 2, 800, partition="2013-01-01")
    delete(lake, "flight_delay")

    assert keys(removed["raw"]) == gone(lake)


def test_a_recent_run_of_a_deleted_model_does_not_stop_garbage_collection(lake: Lake) -> None:
    removed = trained(lake, 1, 900)
    decide(lake, 1, 899, removed)
    store_step(
        lake,
        StepRecord(
            run_id="run-9", step="flight_delay__model", retry_number=0, assets=("flight_delay/model",),
            inputs=(removed["training_set"],), started_at=ago(1),
        ),
    )  # fmt: skip
    delete(lake, "flight_delay")

    assert keys(removed["raw"]) == judged(lake).kept.keys()


def test_the_guide_names_the_folders_of_a_model() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "upgrade.md").read_text(encoding="utf-8")

    assert [] == [folder for folder in FOLDERS if f"{folder}/MODEL" not in guide]
