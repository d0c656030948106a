"""A champion as a folder that plain LightGBM reads, verified before it is there.

model.txt    LightGBM's text
model.json   features in their order with their categories, and what the model is
loader.py    `scores(rows)`, which needs lightgbm and numpy only
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.contracts.errors import DataError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.golden_rows import check_golden_rows
from ml_assets.notebook.artifacts import model_of_champion, open_lake

VERIFIED_ROWS: Final = 1_000
_READS_ROWS: Final = (
    "import json, sys; sys.path.insert(0, sys.argv[1]); import loader; "
    "print(json.dumps(loader.scores(json.load(sys.stdin)).tolist()))"
)


@dataclass(frozen=True)
class ExportedModel:
    """What was exported.

    Attributes:
        rows: on how many rows of its training set the loader gave the scores of the model, bit for bit.
    """

    version: str
    rows: int


def export_champion(name: str, folder: Path, *, lake: str | Lake | None = None) -> ExportedModel:
    """Write the current champion of a model to a new folder, once the loader in it gives the scores of the model.

    Raises:
        DataError: the folder exists or cannot be written, there is no champion, it is not of LightGBM, or the loader
            gives other scores.
        ContractError: the model cannot be read.
        LakeError: the lake cannot be read, or its training set is not there.
    """
    if not folder.name:
        raise DataError(f"'{folder}' has no name; expected a folder that does not exist yet, such as export/{name}.")
    if os.path.lexists(folder):
        raise DataError(f"'{folder}' exists; expected a folder that does not. Name another one, or remove it.")
    place = open_lake(lake)
    ref = model_of_champion(place, name)
    model: Model = place.get(ref, Model)
    if model.spec.estimator is not None:
        raise DataError(
            f"model '{name}' is trained by {model.spec.estimator}, and an export needs a model of LightGBM. Use "
            "ml_assets.load_champion in your own service instead."
        )
    check_golden_rows(model, version=ref.version)
    rows = _rows(place, model, ref)
    try:
        _write(folder, model, ref.version, rows)
    except OSError as error:
        raise DataError(
            f"'{folder}' cannot be written: {error.strerror or error}. Name a folder that can be created."
        ) from error
    return ExportedModel(ref.version, rows.height)


def _write(folder: Path, model: Model, version: str, rows: pl.DataFrame) -> None:
    """Write the folder as a whole, once its loader gives the scores of the model."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as unfinished:
        whole = Path(unfinished, folder.name)
        whole.mkdir()
        for file, text in files_of_export(model, version).items():
            whole.joinpath(file).write_text(text, encoding="utf-8", newline="\n")
        _check_scores(whole, model, rows)
        shutil.rmtree(whole / "__pycache__", ignore_errors=True)
        whole.rename(folder)


def files_of_export(model: Model, version: str) -> dict[str, str]:
    """Return the files of a model of LightGBM, by name."""
    spec = model.spec
    described: dict[str, Any] = {
        "model": spec.model, "version": version, "task": spec.task, "target": spec.target, "classes": spec.classes,
        "trained_as_of": str(spec.as_of), "lightgbm_version": spec.lightgbm_version,
        "unseen_categories": spec.unseen_categories,
        "transform": None if spec.objective is None else spec.objective.transform, "smearing": spec.smearing,
        "features": [
            {"name": it.name, "categories": spec.vocabularies[it.name] if it.is_categorical else None}
            for it in spec.features
        ],
    }  # fmt: skip
    loader = files("ml_assets").joinpath("templates/export/loader.py.jinja").read_text(encoding="utf-8")
    text = json.dumps(described, indent=1, ensure_ascii=False) + "\n"
    return {"model.txt": model.text, "model.json": text, "loader.py": loader}


def _rows(lake: Lake, model: Model, ref: ArtifactRef) -> pl.DataFrame:
    """Return the last rows of the training set, with the features of the model.

    Raises:
        DataError: the model does not name its training set.
        LakeError: the training set is not in the lake.
    """
    inputs = lake.manifest(ref).inputs
    frozen = next((it for it in inputs if it.asset == f"{model.spec.model}/training_set"), None)
    if frozen is None:
        raise DataError(
            f"{ref.asset}@{ref.version[:12]} names no training set, on whose rows an export is verified. Train again."
        )
    training: TrainingSet = lake.get(frozen, TrainingSet)
    return training.rows.select(it.name for it in model.spec.features).tail(VERIFIED_ROWS)


def _check_scores(folder: Path, model: Model, rows: pl.DataFrame) -> None:
    """Score rows with the loader in a process of its own, and compare.

    Raises:
        DataError: the loader fails, or gives other scores.
    """
    command = [sys.executable, "-c", _READS_ROWS, str(folder)]
    done = subprocess.run(command, input=json.dumps(rows.to_dicts()), capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"the exported loader fails, so nothing is written: {done.stderr.strip().splitlines()[-1]}.")
    found, scored = np.array(json.loads(done.stdout), dtype=np.float64), predict(model, rows)
    classes = [f"score_{it}" for it in model.spec.classes] if model.spec.task == "multiclass" else ["score"]
    expected = scored.select(classes).to_numpy().reshape(found.shape)
    if not np.array_equal(found.view(np.uint64), np.ascontiguousarray(expected).view(np.uint64)):
        differ = int((found != expected).reshape(rows.height, -1).any(axis=1).sum())
        raise DataError(
            f"the exported loader gives {differ} of {rows.height} rows other scores than model '{model.spec.model}', "
            "so nothing is written."
        )
