"""DuckDB's settings, in one place: what SQL results in depends on nothing of the machine and of its profile.

Every connection comes from `connect`, or is one of dbt's, which `ml_assets.warehouse.dbt_lake` pins. What is pinned at
a value other than DuckDB's default, or that DuckDB takes from the machine, carries its reason.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SETTINGS: Final[Mapping[str, str | bool | int]] = {
    "TimeZone": "UTC",  # of the machine otherwise: it decides what a cast between timestamp and timestamptz gives
    "Calendar": "gregorian",
    "threads": 1,  # sums of floating-point numbers differ with the order in which threads finish
    "default_collation": "",
    "default_null_order": "NULLS_LAST",
    "default_order": "ASCENDING",
    "ieee_floating_point_ops": True,
    "integer_division": False,
    "preserve_insertion_order": True,
    "python_enable_replacements": False,  # SQL could name variables of the program otherwise
    "autoinstall_known_extensions": False,  # nothing is downloaded at run time
    "autoload_known_extensions": False,
}


def connect() -> "DuckDBPyConnection":
    """Return a connection to a database in memory with these settings."""
    import duckdb

    connection = duckdb.connect()  # noqa: TID251 - the one place where it is pinned
    pin(connection)
    return connection


def pin(connection: "DuckDBPyConnection", *, threads: int = 1) -> None:
    """Give a database these settings, for all its connections."""
    for name, value in {**SETTINGS, "threads": threads}.items():
        connection.execute(f"set global {name} = '{value}'")


def identifier(name: str) -> str:
    """Return a name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """Return a value as text that SQL quotes."""
    return "'" + str(value).replace("'", "''") + "'"


def set_elsewhere(names: Iterable[str]) -> list[str]:
    """Return which of some settings are pinned here."""
    pinned = {name.lower() for name in SETTINGS}
    return sorted(name for name in names if name.lower() in pinned)
