import shutil
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.cli.flow.project import open_instance
from ml_assets.orchestration.location import Overrides, load_definitions
from ml_assets.project import PROJECT, ProjectError


def test_a_copied_dagster_home_has_a_history_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, copy = tmp_path / "checkout" / ".dagster", tmp_path / "copy" / ".dagster"
    shop = dg.AssetKey("shop")

    def materializations(home: Path, *, add: int) -> int:
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        with open_instance() as opened:
            for _ in range(add):
                opened.report_runless_asset_event(dg.AssetMaterialization(shop))
            return len(opened.fetch_materializations(shop, limit=100).records)

    materializations(original, add=1)
    shutil.copytree(original, copy)

    assert str(tmp_path) not in (copy / "dagster.yaml").read_text(encoding="utf-8")
    assert 3 == materializations(copy, add=2)
    assert 1 == materializations(original, add=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nimport no_such_module\n", ":2: ModuleNotFoundError: No module named 'no_such_module'. Correct"),
        ("x = (\n", ":1: SyntaxError: '(' was never closed (definitions.py, line 1). Correct"),
        ("def defs():\n    return 1 / 0\n", ":2: ZeroDivisionError: division by zero. Correct"),
        ("x = 1\n", " defines no `defs`; expected Definitions"),
    ],
)
def test_an_error_in_the_projects_own_code_is_named_with_its_file_and_line(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ml-assets]\n", encoding="utf-8")
    (tmp_path / "definitions.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv(PROJECT, str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(ProjectError) as error:
        load_definitions(Overrides())

    assert str(error.value).startswith(f"{tmp_path / 'definitions.py'}{expected}")


def test_an_error_outside_the_projects_own_code_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ml-assets]\n", encoding="utf-8")
    (tmp_path / "definitions.py").write_text("from ml_assets.names import prefixed\nprefixed()\n", encoding="utf-8")
    monkeypatch.setenv(PROJECT, str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("ml_assets.names.prefixed", lambda: int("x"))

    with pytest.raises(ValueError, match="invalid literal"):
        load_definitions(Overrides())
