"""A champion as a folder of plain LightGBM."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import Objective
from ml_assets.lake.store import Lake
from ml_assets.logic.training.booster import predict
from ml_assets.notebook import export as export_module
from ml_assets.notebook.champion import load_champion
from ml_assets.notebook.export import export_champion, files_of_export
from tests.cli.commands import Command

CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import loader
assert not [name for name in sys.modules if name.startswith(("ml_assets", "polars"))]
print(json.dumps(loader.scores(json.load(sys.stdin)).tolist()))
"""
ROWS = pl.DataFrame({"shop": ["a", None, "d", "b"], "items": [3, None, 0, 2**40], "weight kg": [5.0, 1.0, None, -0.0]})


def scored(folder: Path, rows: pl.DataFrame) -> list[float]:
    """Score rows with the loader, in a process that imports nothing else."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", CODE, str(folder)], input=json.dumps(rows.to_dicts()), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return list(json.loads(done.stdout))


def test_the_loader_needs_lightgbm_only_and_gives_the_scores_of_the_model_bit_for_bit(
    shop_lake: Lake, tmp_path: Path
) -> None:
    champion, folder = load_champion("returns", lake=shop_lake), tmp_path / "inner" / "returns"

    found = export_champion("returns", folder, lake=shop_lake)

    assert (champion.version, 1_000) == (found.version, found.rows)
    assert ["loader.py", "model.json", "model.txt"] == sorted(it.name for it in folder.iterdir())
    assert ["returns"] == [it.name for it in folder.parent.iterdir()]
    assert predict(champion.model, ROWS)["score"].to_list() == scored(folder, ROWS)
    assert champion.version == json.loads((folder / "model.json").read_text("utf-8"))["version"]


@pytest.mark.parametrize("smearing", [None, 1.25])
def test_a_transformed_target_is_transformed_back(shop_lake: Lake, tmp_path: Path, smearing: float | None) -> None:
    model = load_champion("returns", lake=shop_lake).model
    update = {"objective": Objective(loss="mse", transform="log1p"), "smearing": smearing}
    raw = np.array(predict(model, ROWS)["score"].to_list())
    for name, text in files_of_export(replace(model, spec=model.spec.model_copy(update=update)), "a").items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    expected = np.exp(raw) - 1 if smearing is None else np.exp(raw) * smearing - 1

    assert np.allclose(expected, scored(tmp_path, ROWS), rtol=1e-12)


def test_nothing_is_written_if_the_loader_gives_other_scores_or_fails(
    shop_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files_of_export

    def wrong(model: Model, version: str) -> dict[str, str]:
        found = whole(model, version)
        return {**found, "loader.py": found["loader.py"].replace("return raw", "return raw / 2")}

    monkeypatch.setattr(export_module, "files_of_export", wrong)
    with pytest.raises(DataError, match="gives 1000 of 1000 rows other scores than model 'returns', so nothing is"):
        export_champion("returns", tmp_path / "a", lake=shop_lake)

    monkeypatch.setattr(export_module, "files_of_export", lambda *_: {**whole(*_), "loader.py": "import nothing_there"})
    with pytest.raises(DataError, match="the exported loader fails, so nothing is written: ModuleNotFoundError"):
        export_champion("returns", tmp_path / "a", lake=shop_lake)

    assert [] == [*tmp_path.iterdir()]


def test_the_command_refuses_a_folder_that_exists_and_says_what_it_wrote(
    shop_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ML_ASSETS_LAKE", shop_lake.url)
    run, folder = Command(capsys), tmp_path / "a"

    assert "its loader gives 1,000 rows of the training set the scores of the model, bit for bit" in (
        run("export", "returns", "--to", str(folder)).out
    )
    assert f"'{folder}' exists; expected a folder that does not" in (
        run("export", "returns", "--to", str(folder), code=2).err
    )


@pytest.mark.parametrize(("to", "why"), [("/dev/null/x", "cannot be written"), ("", "has no name")])
def test_the_command_says_why_a_folder_cannot_be_written(
    to: str, why: str, shop_lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ML_ASSETS_LAKE", shop_lake.url)

    assert why in Command(capsys)("export", "returns", "--to", to, code=2).err
