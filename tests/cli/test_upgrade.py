import stat
from pathlib import Path

import pytest

from ml_assets.declaration.schema import PATH
from tests.cli.commands import Command

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


def test_declarations_are_rewritten_each_with_its_reason(folder: Path, command: Command) -> None:
    old, current = declare(folder, "old", "\ufeff" + TABLES), declare(folder, "current", VERSIONED)
    old.chmod(0o600)

    assert f"{old}:3: {ADDS}\n1 file rewritten for version 1\n" == command("upgrade").out
    assert ("\ufeff" + VERSIONED, VERSIONED) == (old.read_bytes().decode(), current.read_bytes().decode())
    assert 0o600 == stat.S_IMODE(old.stat().st_mode)
    assert ["defs.yaml"] == [path.name for path in old.parent.iterdir()]


def test_check_reports_and_writes_nothing(folder: Path, command: Command) -> None:
    path = declare(folder, "old", TABLES)

    assert (
        f"{path}:3: {ADDS}\n1 file would change; rewrite with: ml-assets upgrade\n"
        == command("upgrade", "--check", code=1).out
    )
    assert TABLES == path.read_text()


@pytest.mark.parametrize("arguments", [["upgrade"], ["upgrade", "--check"]])
def test_an_upgraded_project_has_nothing_to_change(folder: Path, arguments: list[str], command: Command) -> None:
    declare(folder, "current", VERSIONED)

    assert "nothing to change: every declaration has version 1\n" == command(*arguments).out


def test_the_projects_copy_of_the_json_schema_is_that_of_the_installed_version(folder: Path, command: Command) -> None:
    declare(folder, "current", VERSIONED)
    copy = folder / "schema.json"
    copy.write_text("{}")

    command("upgrade", "--check", code=1)
    assert "{}" == copy.read_text()
    command("upgrade")
    assert PATH.read_text() == copy.read_text()
    assert "nothing to change: every declaration has version 1" == command("upgrade", "--check").out.splitlines()[-1]


def test_nothing_is_written_if_one_declaration_cannot_be_read(folder: Path, command: Command) -> None:
    path = declare(folder, "old", TABLES)
    newer = declare(folder, "newer", VERSIONED.replace("version: 1", "version: 2"))
    broken = declare(folder, "text", "just text")

    assert (
        f"ml-assets: {newer}: version: got 2, expected a whole number from 1 to 1, the version of the installed "
        "ml-assets. Upgrade ml-assets, or correct the number.\n"
        f"{broken}:1: expected 'type:' and 'attributes:', got str.\n"
    ) == command("upgrade", code=2).err
    assert TABLES == path.read_text()
