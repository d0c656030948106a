"""Files of a new model: all or none are written, nothing is overwritten, and undo removes only what is unchanged."""

from pathlib import Path, PurePosixPath

import pytest

from ml_assets.authoring.written import changes, existing, undo, write
from ml_assets.contracts.errors import DataError

FILES = {PurePosixPath("defs", "shop", "defs.yaml"): "a: 1\n", PurePosixPath("tests", "test_shop.py"): "x = 1\n"}


def contents(root: Path) -> dict[str, str]:
    return {str(it.relative_to(root)): it.read_text(encoding="utf-8") for it in root.rglob("*") if it.is_file()}


def test_undo_removes_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "defs").mkdir()
    (tmp_path / "defs" / "other.yaml").write_text("mine\n", encoding="utf-8")
    write(tmp_path, "shop", FILES)

    removed, changed = undo(tmp_path, "shop")

    assert (["defs/shop/defs.yaml", "tests/test_shop.py"], []) == (removed, changed)
    assert {"defs/other.yaml": "mine\n"} == contents(tmp_path)
    assert ["defs"] == [it.name for it in tmp_path.iterdir()]


def test_undo_leaves_a_file_that_was_changed(tmp_path: Path) -> None:
    write(tmp_path, "shop", FILES)
    (tmp_path / "tests" / "test_shop.py").write_text("x = 2\n", encoding="utf-8")

    assert (["defs/shop/defs.yaml"], ["tests/test_shop.py"]) == undo(tmp_path, "shop")
    assert {"tests/test_shop.py": "x = 2\n"} == contents(tmp_path)


def test_undo_of_what_was_not_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no record of a model 'shop' that `ml-assets new` wrote"):
        undo(tmp_path, "shop")


def test_if_one_file_cannot_be_written_none_is(tmp_path: Path) -> None:
    (tmp_path / "tests").write_text("a file, not a folder\n", encoding="utf-8")

    with pytest.raises(DataError, match="Nothing was written"):
        write(tmp_path, "shop", FILES)

    assert {"tests": "a file, not a folder\n"} == contents(tmp_path)


def test_a_diff_shows_what_would_change(tmp_path: Path) -> None:
    write(tmp_path, "shop", FILES)
    (tmp_path / "tests" / "test_shop.py").write_text("x = 2\n", encoding="utf-8")

    assert [*FILES] == existing(tmp_path, FILES)
    assert [
        "--- tests/test_shop.py (in the project)", "+++ tests/test_shop.py (new)", "@@ -1 +1 @@", "-x = 2", "+x = 1"
    ] == changes(tmp_path, FILES).splitlines()  # fmt: skip
