"""What `ml-assets init` writes is a project: its declarations and contracts agree, and its dbt models pass their tests.

What is written where is not tested here.
"""

from pathlib import Path

import dagster as dg
import pytest

from ml_assets.cli.init import project_files, write_new
from ml_assets.contracts.yaml_lines import problems
from ml_assets.declaration.reading import read_all
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.unit_tests import failed_unit_tests
from tests.flights import build


def written(folder: Path) -> Path:
    """Return the folder of a new project whose dbt manifest is prepared."""
    write_new(folder, project_files(folder.name, is_bare=False))
    prepare_manifest(folder / "dbt_project", problems)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("projects") / "shop")


def test_its_definitions_load_with_its_sources_and_tables(project: Path) -> None:
    defs = build(declared=read_all(project / "defs"), project_dir=project / "dbt_project")

    dg.Definitions.validate_loadable(defs)
    found = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert {"raw/holidays", "raw/rentals", "tables/rental_features", "rental_demand/champion"} <= found


def test_the_unit_tests_of_its_models_pass(project: Path) -> None:
    assert [] == failed_unit_tests(project / "dbt_project")


def test_a_unit_test_that_fails_is_named_with_what_was_expected(tmp_path: Path) -> None:
    folder = written(tmp_path / "shop")
    sql = folder / "dbt_project" / "models" / "staging" / "stg_rentals.sql"
    sql.write_text(sql.read_text(encoding="utf-8").replace("temp * 47 - 8", "temp * 47"), encoding="utf-8")

    [failed] = failed_unit_tests(folder / "dbt_project")

    assert failed.startswith("readings_come_in_plain_units_and_are_known_when_the_hour_is_over: ")
    assert "15.5" in failed
