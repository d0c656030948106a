import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ml_assets.lake.errors import WarehouseError
from ml_assets.warehouse.dbt_package import LINK, PACKAGE, is_linked, link_package


def dangling(link: Path) -> None:
    link.symlink_to(link.parent / "gone")


def of_another_engine(link: Path) -> None:
    link.symlink_to(shutil.copytree(PACKAGE, link.parents[1] / "other" / "dbt"))


def former_copy(link: Path) -> None:
    shutil.copytree(PACKAGE, link)
    (link / "macros" / "days.sql").write_text("as it was")


def packages(project: Path) -> list[str]:
    return [path.name for path in (project / LINK.parent).iterdir()]


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)


def test_the_package_is_linked_into_a_project_that_has_none(tmp_path: Path) -> None:
    link_package(tmp_path)

    assert PACKAGE == (tmp_path / LINK).readlink()
    assert is_linked(tmp_path)


@pytest.mark.parametrize("before", [dangling, of_another_engine, former_copy])
def test_a_link_or_copy_that_is_not_of_this_engine_is_replaced(tmp_path: Path, before: Callable[[Path], None]) -> None:
    (tmp_path / LINK).parent.mkdir()
    before(tmp_path / LINK)
    assert not is_linked(tmp_path)

    link_package(tmp_path)

    assert PACKAGE == (tmp_path / LINK).readlink()
    assert ["ml_assets"] == packages(tmp_path)


def test_where_links_are_impossible_the_package_is_copied_once(tmp_path: Path, without_links: None) -> None:
    link_package(tmp_path)
    first = (tmp_path / LINK).stat().st_ino
    link_package(tmp_path)

    assert not (tmp_path / LINK).is_symlink()
    assert is_linked(tmp_path)
    assert first == (tmp_path / LINK).stat().st_ino


def test_a_former_copy_is_replaced_by_a_copy(tmp_path: Path, without_links: None) -> None:
    (tmp_path / LINK).parent.mkdir()
    former_copy(tmp_path / LINK)

    link_package(tmp_path)

    assert is_linked(tmp_path)
    assert ["ml_assets"] == packages(tmp_path)


@pytest.mark.parametrize("before", [dangling, former_copy])
@pytest.mark.parametrize("can_link", [True, False])
def test_many_processes_may_link_at_once(
    tmp_path: Path, request: pytest.FixtureRequest, before: Callable[[Path], None], *, can_link: bool
) -> None:
    (tmp_path / LINK).parent.mkdir()
    before(tmp_path / LINK)
    if not can_link:
        request.getfixturevalue("without_links")

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(link_package, tmp_path) for _ in range(8)]:
            done.result()

    assert is_linked(tmp_path)
    assert ["ml_assets"] == packages(tmp_path)


def test_a_project_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / LINK.parent).write_text("a file where the folder should be")

    with pytest.raises(WarehouseError, match=rf"cannot be linked into {tmp_path / LINK}: .*File exists"):
        link_package(tmp_path)
