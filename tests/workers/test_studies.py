"""Where a study lies, and that no message shows the password of its database."""

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from ml_assets.settings import SettingsError
from ml_assets.workers.studies import STUDIES, delete_studies, file_url, open_storage, studies_url


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", None),
        ("postgresql://me:pw@db/studies", "postgresql://me:pw@db/studies"),
        ("postgres://me:pw@db/studies", "postgresql://me:pw@db/studies"),
        (" postgresql+psycopg2://me@db:5432/studies ", "postgresql+psycopg2://me@db:5432/studies"),
    ],
)
def test_the_database_is_the_one_that_is_set(given: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STUDIES, given)

    assert expected == studies_url()


@pytest.mark.parametrize("given", ["mysql://me:pw-1234@db/studies", "me:pw-1234@db", "postgresql://me:pw-1234@db"])
def test_an_address_that_is_not_postgres_is_rejected_without_being_shown(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STUDIES, given)

    with pytest.raises(SettingsError, match="is not a Postgres database; expected postgresql://") as caught:
        studies_url()

    assert "pw-1234" not in str(caught.value)


def test_an_unreachable_database_is_reported_without_its_password() -> None:
    with pytest.raises(SettingsError, match="cannot be reached") as caught:
        open_storage("postgresql://me:pw-1234@127.0.0.1:9/studies")

    assert "pw-1234" not in str(caught.value)
    assert "pw-1234" not in repr(caught.value.__cause__)


def test_dagsters_own_database_is_rejected_before_a_table_is_created_in_it(tmp_path: Path) -> None:
    file = tmp_path / "dagster.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    with pytest.raises(SettingsError, match=r"another program.*Create one with CREATE DATABASE"):
        open_storage(file_url(file))

    with closing(sqlite3.connect(file)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
    assert ["alembic_version"] == tables


def test_a_database_of_studies_is_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        storage = open_storage(file_url(tmp_path / "study.db"))
        assert [] == optuna.get_all_study_names(storage)
        storage.engine.dispose()


def test_a_transaction_that_has_only_read_keeps_other_workers_from_fetching_the_same_trial(tmp_path: Path) -> None:
    storage = open_storage(file_url(tmp_path / "study.db"))

    with storage.engine.begin(), closing(sqlite3.connect(tmp_path / "study.db", timeout=0)) as other:
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            other.execute("BEGIN IMMEDIATE")

    storage.engine.dispose()


def test_the_studies_of_earlier_attempts_are_deleted_and_no_others(tmp_path: Path) -> None:
    storage = open_storage(file_url(tmp_path / "study.db"))
    for name in ("shop/1/run-a/x", "shop/1/run-a/y", "shop/1/run-b/x"):
        optuna.create_study(storage=storage, study_name=name)

    delete_studies(storage, "shop/1/run-a/")

    assert ["shop/1/run-b/x"] == optuna.get_all_study_names(storage)
    storage.engine.dispose()
