import shutil
from pathlib import Path

import pytest

from ml_assets.contracts.yaml_lines import problems
from ml_assets.lake.errors import WarehouseError
from ml_assets.warehouse import dbt_manifest as dbt
from ml_assets.warehouse import dbt_package
from ml_assets.warehouse.dbt_package import PACKAGE


def project(folder: Path) -> Path:
    (folder / "models").mkdir()
    (folder / "models" / "orders.sql").write_text("select 1")
    (folder / "dbt_project.yml").write_text(
        "name: shop\ndispatch: [{macro_namespace: dbt, search_order: [shop, ml_assets, dbt]}]"
    )
    return folder


@pytest.fixture
def no_dbt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbt.Dbt, "parse", lambda *_: pytest.fail("dbt was started"))


@pytest.mark.parametrize(
    ("name", "is_another"),
    [
        ("models/orders.sql", True), ("dbt_project.yml", True), ("models/new.yml", True), ("macros.md", True),
        ("target/compiled.sql", False), ("logs/dbt.md", False), ("models/notes.txt", False),
    ],
)  # fmt: skip
def test_a_project_is_another_one_if_a_file_that_dbt_reads_is_changed_or_new(
    tmp_path: Path, name: str, *, is_another: bool
) -> None:
    before = dbt.project_digest(project(tmp_path))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("changed")

    assert is_another == (before != dbt.project_digest(tmp_path))


def test_a_moved_file_is_another_project(tmp_path: Path) -> None:
    before = dbt.project_digest(project(tmp_path))
    (tmp_path / "models" / "orders.sql").rename(tmp_path / "models" / "sales.sql")

    assert before != dbt.project_digest(tmp_path)


def test_a_project_parsed_before_is_not_parsed_again(tmp_path: Path, no_dbt: None) -> None:
    project(tmp_path)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "manifest.json").write_text("{}")
    (tmp_path / "target" / "parsed_from").write_text(dbt.project_digest(tmp_path))

    assert not dbt.prepare_manifest(tmp_path)


def test_a_missing_dbt_project_is_named_with_its_folder_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match=rf"no dbt project in {tmp_path}/dbt_project: dbt_project\.yml is missing"):
        dbt.prepare_manifest(tmp_path / "dbt_project")

    assert [] == [*tmp_path.iterdir()]


def test_files_that_are_not_utf_8_are_named_with_the_line_before_dbt_is_started(tmp_path: Path, no_dbt: None) -> None:
    project(tmp_path)
    for name in ("_shop.yml", "shop.sql"):
        (tmp_path / "models" / name).write_bytes("a\n# café\n".encode("latin-1"))

    with pytest.raises(WarehouseError) as caught:
        dbt.prepare_manifest(tmp_path)

    expected = [f"{tmp_path}/models/{name}:2: it has bytes that are not UTF-8" for name in ("_shop.yml", "shop.sql")]
    assert expected == [line.partition(";")[0] for line in str(caught.value).splitlines()]


def test_problems_of_yaml_files_are_named_with_their_lines_before_dbt_is_started(tmp_path: Path, no_dbt: None) -> None:
    project(tmp_path)
    (tmp_path / "models" / "_shop.yml").write_text("a: 2023-02-30\nb: 1\nb: 2\n")
    (tmp_path / "models" / "shop.sql").write_text("b: 1\nb: 2")

    with pytest.raises(WarehouseError) as caught:
        dbt.prepare_manifest(tmp_path, problems)

    assert (
        f"{tmp_path}/models/_shop.yml:1: there is no date '2023-02-30': day is out of range for month.\n"
        f"{tmp_path}/models/_shop.yml:3: b: is given twice; remove one."
    ) == str(caught.value)


@pytest.mark.parametrize("order", ["", "[shop, dbt]", "[shop, dbt, ml_assets]"])
def test_a_project_in_which_dbt_would_not_call_the_packages_own_macro_is_refused(tmp_path: Path, order: str) -> None:
    dispatch = f"\ndispatch: [{{macro_namespace: dbt, search_order: {order}}}]" if order else ""
    (project(tmp_path) / "dbt_project.yml").write_text(f"name: shop{dispatch}")

    with pytest.raises(WarehouseError) as caught:
        dbt.prepare_manifest(tmp_path)

    assert (
        f"{tmp_path}/dbt_project.yml: dispatch does not name ml_assets before dbt, so tests of a table by day would "
        "read more than the days of the run; add: "
        "dispatch: [{macro_namespace: dbt, search_order: [shop, ml_assets, dbt]}]."
    ) == str(caught.value)


def test_an_edited_file_of_the_engines_package_is_another_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(shutil.copytree(PACKAGE, tmp_path / "engine" / "dbt"))
    for module in (dbt, dbt_package):
        monkeypatch.setattr(module, "PACKAGE", package)
    (shop := tmp_path / "shop").mkdir()
    before = dbt.project_digest(project(shop))
    (package / "macros" / "days.sql").write_text("changed")

    assert before != dbt.project_digest(shop)


def test_linking_the_package_does_not_change_the_project(tmp_path: Path) -> None:
    before = dbt.project_digest(project(tmp_path))
    dbt_package.link_package(tmp_path)

    assert before == dbt.project_digest(tmp_path)
