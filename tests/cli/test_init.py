"""What `ml-assets init` writes, and what it refuses to write. Running what it wrote: see tests/test_init_project.py."""

from pathlib import Path, PurePosixPath

import pytest

from ml_assets.cli.init import project_files
from tests.cli.commands import Command


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_writes_the_project_and_the_next_three_commands(tmp_path: Path, command: Command) -> None:
    printed = command("init", str(tmp_path / "shop")).out

    assert {str(path) for path in project_files("shop", is_bare=False)} == set(files_in(tmp_path / "shop"))
    assert [f"cd {tmp_path / 'shop'}", "ml-assets run", "ml-assets ui"] == [
        line.strip() for line in printed.splitlines()[-3:]
    ]


def test_files_that_are_there_are_listed_and_nothing_is_written(tmp_path: Path, command: Command) -> None:
    mine = {"README.md": b"mine", "data/rentals.csv": b"mine too"}
    for path, content in mine.items():
        (tmp_path / "shop" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / path).write_bytes(content)

    printed = command("init", str(tmp_path / "shop"), code=2).err

    assert "nothing was written: README.md, data/rentals.csv." in printed
    assert mine == files_in(tmp_path / "shop")


def test_it_writes_into_a_folder_that_holds_other_files(tmp_path: Path, command: Command) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "notes.txt").write_text("mine", encoding="utf-8")

    command("init", str(tmp_path / "shop"))
    assert "mine" == (tmp_path / "shop" / "notes.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["Shop", "2shops", "my shop", "shop.v2", "-shop", "my__shop", "s" * 41, "ml-assets", "dbt"]
)
def test_a_folder_whose_name_cannot_be_a_project_is_rejected(name: str, tmp_path: Path, command: Command) -> None:
    assert f"'{name}'" in command("init", "--", str(tmp_path / name), code=2).err
    assert not (tmp_path / name).exists()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path, command: Command) -> None:
    (tmp_path / "shop").write_text("", encoding="utf-8")

    assert "shop is a file." in command("init", str(tmp_path / "shop"), code=2).err


def test_a_bare_project_has_no_example() -> None:
    bare, whole = project_files("my-shop", is_bare=True), project_files("my-shop", is_bare=False)

    assert [] == [str(path) for path, content in bare.items() if b"rental" in content or "rental" in str(path)]
    assert set(whole) > {path for path in bare if path.name != ".gitkeep"}


@pytest.mark.parametrize("is_bare", [False, True])
def test_the_name_is_inserted_where_it_is_needed_and_no_placeholder_is_left(is_bare: bool) -> None:  # noqa: FBT001
    files = project_files("my-shop", is_bare=is_bare)

    assert b'name = "my-shop"' in files[PurePosixPath("pyproject.toml")]
    assert b"name: my_shop\n" in files[PurePosixPath("dbt_project", "dbt_project.yml")]
    rendered = {path: content for path, content in files.items() if path.suffix != ".json"}
    assert [] == [str(path) for path, content in rendered.items() if b"[%" in content or b"[[ " in content]


def test_hidden_files_have_their_hidden_names() -> None:
    files = {str(path) for path in project_files("shop", is_bare=True)}

    assert {".gitignore", ".dockerignore", ".github/workflows/ci.yml"} <= files
    assert [] == [path for path in files if "dot_" in path or path.endswith(".jinja")]
