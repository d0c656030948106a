"""The dbt plugin: its errors if bindings are missing or wrong, and how it fetches remote files.

Its work inside dbt stays out; see test_dbt_project.py.
"""

import json
import re
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from ml_assets.adapters.dbt import DbtRuntimeError
from ml_assets.adapters.dbt_duckdb import DuckDBCredentials

from ml_assets.warehouse.dbt_lake import VARIABLE, Plugin, read_bindings
from ml_assets.warehouse.duckdb_session import SETTINGS


def bindings(folder: Path, **said: Any) -> str:
    whole = {
        "first": "2013-01-30", "last": "2013-02-01", "scratch": str(folder), "sources": {}, "models": {},
        **said,
    }  # fmt: skip
    path = folder / "bindings.json"
    path.write_text(json.dumps(whole))
    return str(path)


def test_the_days_of_a_run_are_first_to_last(tmp_path: Path) -> None:
    assert ["2013-01-30", "2013-01-31", "2013-02-01"] == read_bindings(bindings(tmp_path)).keys_of("stg_orders")


def test_a_run_of_whole_tables_has_no_days(tmp_path: Path) -> None:
    assert read_bindings(bindings(tmp_path, first=None, last=None)).keys_of("stg_orders") == []


def test_without_bindings_the_message_names_the_variable_and_the_command() -> None:
    with pytest.raises(DbtRuntimeError, match=rf"{VARIABLE} is not set.*ml-assets run"):
        read_bindings(None)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"first": "yesterday"}, "ValueError: Invalid isoformat string: 'yesterday'"),
        ({"last": None}, "one of 'first' and 'last'; expected both, or neither"),
        ({"first": "2013-03-01"}, "end on 2013-02-01, before they begin on 2013-03-01"),
        ({"spans": "all"}, "AttributeError"),
        ({"spans": {"stg_orders": ["2013-02-01", "2013-01-01"]}}, "a range that ends before it begins: ['stg_orders']"),
    ],
)
def test_bindings_that_make_no_sense_are_refused(tmp_path: Path, said: dict[str, Any], message: str) -> None:
    with pytest.raises(DbtRuntimeError, match=re.escape(message)):
        read_bindings(bindings(tmp_path, **said))


def test_bindings_without_a_scratch_folder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bindings.json"
    path.write_text('{"sources": {}, "models": {}}')

    with pytest.raises(DbtRuntimeError, match="KeyError: 'scratch'"):
        read_bindings(str(path))


def test_a_connection_of_dbt_has_the_settings_of_every_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, bindings(tmp_path))
    with duckdb.connect() as connection:  # noqa: TID251 - dbt-duckdb connects by itself
        connection.execute("set global TimeZone = 'Asia/Kolkata'")
        Plugin("lake", {}).configure_connection(connection)
        cursor = connection.cursor()  # dbt works with cursors
        found = {name: cursor.execute(f"select current_setting('{name}')").fetchall()[0][0] for name in SETTINGS}

    assert {**SETTINGS, "default_order": "ASC"} == found


def test_a_row_whose_hour_is_not_the_begin_of_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = {"grain": "hour", "first": "2026-03-29T01", "last": "2026-03-29T02"}
    monkeypatch.setenv(VARIABLE, bindings(tmp_path, **hours))
    config = {"model": "orders", "key": [], "unsplit": "", "is_by_day": True, "view": "orders"}
    with duckdb.connect() as connection:  # noqa: TID251 - dbt-duckdb connects by itself
        plugin = Plugin("lake", {})
        plugin.configure_connection(connection)
        connection.execute("create table built as select timestamp '2026-03-29 02:30:00' as hour, date '2026-03-29' as day")
        with pytest.raises(DbtRuntimeError, match=r"1 row of model 'orders' has an 'hour' that is not .* 02:30:00; expect"):
            plugin.store(SimpleNamespace(config=config, relation="built"))  # type: ignore[arg-type]


def test_a_row_whose_day_is_not_that_of_its_hour_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = {"grain": "hour", "timezone": "Europe/Zurich", "first": "2026-03-28T23", "last": "2026-03-29T00"}
    monkeypatch.setenv(VARIABLE, bindings(tmp_path, **hours))
    config = {"model": "orders", "key": [], "unsplit": "", "is_by_day": True, "view": "orders"}
    message = (
        r"1 row of model 'orders' has a 'day' that is not the one of 'hour' in the declared time zone Europe/Zurich, "
        r"such as 2026-03-28 at 2026-03-28 23:00:00 UTC; expected 2026-03-29\. Compute it as cast\(timezone"
    )
    with duckdb.connect() as connection:  # noqa: TID251 - dbt-duckdb connects by itself
        plugin = Plugin("lake", {})
        plugin.configure_connection(connection)
        rows = "(timestamp '2026-03-28 23:00:00', date '2026-03-28'), (timestamp '2026-03-29', date '2026-03-29')"
        connection.execute(f"create table built as select * from (values {rows}) as it(hour, day)")
        with pytest.raises(DbtRuntimeError, match=message):
            plugin.store(SimpleNamespace(config=config, relation="built"))  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["config_options", "settings"])
def test_a_profile_with_settings_that_change_results_is_rejected(where: str) -> None:
    credentials = DuckDBCredentials(**{where: {"timezone": "Asia/Kolkata", "memory_limit": "1GB"}})

    with pytest.raises(DbtRuntimeError, match=r"the dbt profile sets timezone, .* Remove them from 'config_options'"):
        Plugin("lake", {}).update_connection_config(credentials, dict(credentials.config_options or {}))
