import stat
from pathlib import Path

import pytest

from ml_assets.cli.main import main
from ml_assets.declaration.schema import PATH

TABLES = "type: ml_assets.DbtTables\nattributes:\n  days: {first: 2024-01-01}  # opened\n"
VERSIONED = TABLES.replace("  days", "  version: 1\n  days")
ADDS = "adds 'version: 1'. A declaration states the version of its format, so that a later ml-assets can upgrade it."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.ml-assets]\n", encoding="utf-8")
    monkeypatch.setenv("ML_ASSETS_PROJECT", str(tmp_path))
    (tmp_path / "defs").mkdir()
    return tmp_path / "defs"


def declare(folder: Path, name: str, text: str) -> Path:
    path = folder / name / "defs.yaml"
    path.parent.mkdir()
    path.write_bytes(text.encode())
    return path


def test_declarations_are_rewritten_each_with_its_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, current = declare(folder, "old", "\ufeff" + TABLES), declare(folder, "current", VERSIONED)
    old.chmod(0o600)

    assert 0 == main(["upgrade"])

    assert f"{old}:3: {ADDS}\n1 file rewritten for version 1\n" == capsys.readouterr().out
    assert ("\ufeff" + VERSIONED, VERSIONED) == (old.read_bytes().decode(), current.read_bytes().decode())
    assert 0o600 == stat.S_IMODE(old.stat().st_mode)
    assert ["defs.yaml"] == [path.name for path in old.parent.iterdir()]


def test_check_reports_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = declare(folder, "old", TABLES)

    assert 1 == main(["upgrade", "--check"])

    assert f"{path}:3: {ADDS}\n1 file would change; rewrite with: ml-assets upgrade\n" == capsys.readouterr().out
    assert TABLES == path.read_text()


@pytest.mark.parametrize("arguments", [["upgrade"], ["upgrade", "--check"]])
def test_an_upgraded_project_has_nothing_to_change(
    folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    declare(folder, "current", VERSIONED)

    assert 0 == main(arguments)
    assert "nothing to change: every declaration has version 1\n" == capsys.readouterr().out


def test_the_projects_copy_of_the_json_schema_is_that_of_the_installed_version(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(folder, "current", VERSIONED)
    copy = folder / "schema.json"
    copy.write_text("{}")

    assert (1, "{}") == (main(["upgrade", "--check"]), copy.read_text())
    assert (0, PATH.read_text()) == (main(["upgrade"]), copy.read_text())
    assert 0 == main(["upgrade", "--check"])
    assert "nothing to change: every declaration has version 1" == capsys.readouterr().out.splitlines()[-1]


def test_nothing_is_written_if_one_declaration_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = declare(folder, "old", TABLES)
    newer = declare(folder, "newer", VERSIONED.replace("version: 1", "version: 2"))
    broken = declare(folder, "text", "just text")

    assert 2 == main(["upgrade"])

    assert (
        f"ml-assets: {newer}: version: got 2, expected a whole number from 1 to 1, the version of the installed "
        "ml-assets. Upgrade ml-assets, or correct the number.\n"
        f"{broken}:1: expected 'type:' and 'attributes:', got str.\n"
    ) == capsys.readouterr().err
    assert TABLES == path.read_text()
