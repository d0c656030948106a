"""DuckDB's settings for every connection, so that SQL results do not depend on the machine or its dbt profile.

Connections come from `connect`, or from dbt, whose connections `ml_assets.warehouse.dbt_lake` pins. A setting has a
comment if its value is not DuckDB's default, or if DuckDB would take it from the machine.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SETTINGS: Final[Mapping[str, str | bool | int]] = {
    "TimeZone": "UTC",  # default: the machine's; affects casts between timestamp and timestamptz
    "Calendar": "gregorian",
    "threads": 1,  # sums of floating-point numbers depend on the order in which threads finish
    "default_collation": "",
    "default_null_order": "NULLS_LAST",
    "default_order": "ASCENDING",
    "ieee_floating_point_ops": True,
    "integer_division": False,
    "preserve_insertion_order": True,
    "python_enable_replacements": False,  # otherwise SQL could read Python variables
    "autoinstall_known_extensions": False,  # nothing is downloaded at run time
    "autoload_known_extensions": False,
}


def connect() -> "DuckDBPyConnection":
    """Return a connection to an in-memory database with these settings."""
    import duckdb

    connection = duckdb.connect()  # noqa: TID251 - the only place that pins it
    pin(connection)
    return connection


def pin(connection: "DuckDBPyConnection", *, threads: int = 1) -> None:
    """Apply these settings to all connections of a database."""
    for name, value in {**SETTINGS, "threads": threads}.items():
        connection.execute(f"set global {name} = '{value}'")


def literal(value: object) -> str:
    """Return a value as a quoted SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def set_elsewhere(names: Iterable[str]) -> list[str]:
    """Return which of these settings are pinned here."""
    pinned = {name.lower() for name in SETTINGS}
    return sorted(name for name in names if name.lower() in pinned)
