"""What `ml-assets init` writes is a project: it parses, its definitions load, and its own tests pass.

What is written where, and what is refused: see tests/cli/test_init.py. `.ci/wheel` runs the example's model.
"""

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from ml_assets.cli.init import project_files, write_new
from ml_assets.cli.main import main
from ml_assets.contracts.yaml_lines import problems
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.unit_tests import failed_unit_tests

ROOT = Path(__file__).parent.parent


def written(folder: Path, *, is_bare: bool = False) -> Path:
    """Return the folder of a new project."""
    write_new(folder, project_files(folder.name, is_bare=is_bare))
    return folder


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_new_project_parses_and_its_tests_pass(
    is_bare: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = written(tmp_path / "shop", is_bare=is_bare)
    monkeypatch.chdir(project)
    monkeypatch.setenv("ML_ASSETS_PROJECT", str(project))

    assert 0 == main(["parse"])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr


def test_a_unit_test_that_fails_is_named_with_what_was_expected(tmp_path: Path) -> None:
    project = written(tmp_path / "shop")
    sql = project / "dbt_project" / "models" / "staging" / "stg_rentals.sql"
    sql.write_text(sql.read_text(encoding="utf-8").replace("temp * 47 - 8", "temp * 47"), encoding="utf-8")
    prepare_manifest(project / "dbt_project", problems)

    [failed] = failed_unit_tests(project / "dbt_project")

    assert failed.startswith("readings_come_in_plain_units_and_are_known_when_the_hour_is_over: ")
    assert "15.5" in failed


def test_a_new_project_has_the_resources_and_sensors_of_this_one() -> None:
    modules = {
        PurePosixPath(path.relative_to(ROOT).as_posix()): path.read_bytes()
        for folder in ("resources", "sensors")
        for path in (ROOT / folder).glob("*.py")
    }

    files = project_files("shop", is_bare=True)
    assert modules == {path: content for path, content in files.items() if path.parts[0] in {"resources", "sensors"}}
