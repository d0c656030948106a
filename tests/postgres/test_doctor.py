"""The findings of the doctor about a real PostgreSQL."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from ml_assets.doctor.checks import Finding
from ml_assets.doctor.instance import dagster_instance
from tests.postgres.instances import instance_over, settings_of
from tests.postgres.server import Server


def found(folder: Path, database: Mapping[str, Any]) -> dict[str, Finding]:
    """Return what is found of an instance over a database."""
    (folder / "dagster.yaml").write_text(yaml.safe_dump(settings_of(database)))
    return {one.check: one for one in dagster_instance(str(folder), is_production=False)}


def run(database: Mapping[str, Any], statement: str) -> None:
    connection = psycopg2.connect(
        host=database["hostname"], port=database["port"], user=database["username"], password=database["password"],
        dbname=database["db_name"],
    )  # fmt: skip
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


@pytest.fixture(scope="module")
def used(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A database with Dagster's tables."""
    database = postgres.database()
    with instance_over(database, tmp_path_factory.mktemp("used")):
        return database


def test_a_database_in_use_is_reported(used: Mapping[str, Any], tmp_path: Path) -> None:
    result = found(tmp_path, used)

    assert {"dagster": "ok", "migrations": "ok", "daemon": "warning"} == {name: it.state for name, it in result.items()}


def test_tables_of_another_dagster_are_reported(postgres: Server, tmp_path: Path) -> None:
    database = postgres.database()
    with instance_over(database, tmp_path / "used"):
        run(database, "UPDATE alembic_version SET version_num = '567bc23fd1ac'")

    result = found(tmp_path, database)["migrations"]

    assert "wrong" == result.state
    assert "dagster instance migrate" in result.fix


def test_a_wrong_password_is_reported_and_not_shown(used: Mapping[str, Any], tmp_path: Path) -> None:
    result = found(tmp_path, {**used, "password": "open-sesame"})["dagster"]

    assert "wrong" == result.state
    assert "password authentication failed" in result.text
    assert "open-sesame" not in f"{result}"
