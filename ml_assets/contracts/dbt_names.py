"""Check names of tables and columns: some would be changed, confused or rejected by a library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ml_assets.contracts.checking import BROKEN_RULES
from ml_assets.contracts.days import DAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ml_assets.contracts.dbt_yaml import ErrorCollector, Table

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDED = ("__quarantine", "__rejected", "__released", "__built", "__unsplit")
"""Suffixes of what is stored or built for a table."""


def check_names(tables: Sequence[Table], errors: ErrorCollector) -> None:
    """Report names that cannot be used."""
    seen: dict[str, str] = {}
    for table in tables:
        what = f"table '{table.name}'"
        if not _PLAIN.fullmatch(str(table.node["name"])):
            errors.add(table.place(), f"{what} has a name with more than letters, digits and _; rename it.")
        for ending in (one for one in _ADDED if table.name.endswith(one)):
            errors.add(table.place(), f"{what} ends in {ending}, a suffix that is reserved; rename it.")
        other = seen.setdefault(table.name.lower(), table.name)
        if other != table.name:
            errors.add(
                table.place(), f"{what} and table '{other}' differ only in case, which DuckDB ignores; rename one."
            )
        for name, sentence in _wrong_columns(table):
            errors.add(table.place("columns", name), f"column '{name}' of {what} {sentence}.")


def _wrong_columns(table: Table) -> Iterator[tuple[str, str]]:
    yield from wrong_names(table.columns)
    for name, node in table.columns.items():
        is_quoted = bool(node.get("quote")) or name != name.strip() or not name.isprintable() or '"' in name
        if not table.is_source and not _PLAIN.fullmatch(name) and not is_quoted:
            yield name, "has a name that SQL must quote; add 'quote: true' to it"
    dtype = str(table.columns.get(DAY, {}).get("data_type") or "").lower()
    if not table.is_source and table.is_by_day and dtype != "date":
        yield DAY, "is missing or not a date, but the table is built by day; add it with data_type date"


def wrong_names(columns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the names of a table's columns that no table may have, and what is wrong with each."""
    seen: dict[str, str] = {}
    for name in columns:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            yield name, f"differs from column '{other}' only in case, which DuckDB ignores; rename one"
        if name.startswith("__") or name.lower() == BROKEN_RULES:
            yield name, f"has a name that is reserved (__..., {BROKEN_RULES}); rename it"
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            yield name, "has a name that polars reads as a pattern; rename it"
        if re.search(r"\{[{%#]", name):
            yield name, "has a name that dbt reads as a template; rename it"
        if name != name.strip() or not name.isprintable() or '"' in name:
            yield name, "has a name with a double quote, a blank at an end, or an unprintable character; rename it"
