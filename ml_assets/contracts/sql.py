"""Translate a contract's row rules into SQL, with which the warehouse quarantines rows.

The SQL finds the same rows as `ml_assets.contracts.checking`. Not here: running it (see `ml_assets.warehouse`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ml_assets.contracts.table import Rule, TableContract, Value


_NOT_FINITE = [f"cast('{value}' as double precision)" for value in ("NaN", "Infinity", "-Infinity")]


def broken_predicates(contract: TableContract, *, relations: Mapping[str, str]) -> dict[str, str]:
    """Return SQL for each blocking row rule, by name. It is true if a row breaks the rule, and never null.

    `relations` has the SQL names of tables; relationships to other tables are omitted.
    """
    return {
        rule.name: _predicate(rule, relations)
        for rule in contract.rules
        if rule.is_row_rule and rule.is_blocking and (rule.relationship is None or rule.relationship.table in relations)
    }


def _predicate(rule: Rule, relations: Mapping[str, str]) -> str:
    """Return the SQL of a broken rule. As in dbt, a missing value breaks only `not_null`."""
    column = identifier(rule.columns[0])
    if rule.kind == "finite":
        return f"coalesce({column} in ({', '.join(_NOT_FINITE)}), false)"
    if rule.kind == "not_null":
        return f"{column} is null"
    if rule.kind == "accepted_values":
        return f"({column} is not null and {column} not in ({', '.join(map(_literal, rule.accepted_values))}))"
    if rule.kind == "relationship" and rule.relationship is not None:
        other = identifier(rule.relationship.column)
        known = f"select {other} from {relations[rule.relationship.table]} where {other} is not null"  # noqa: S608 - dbt's own names
        return f"({column} is not null and {column} not in ({known}))"
    low = [f"{column} < {_literal(rule.minimum)}"] if rule.minimum is not None else []
    high = [f"{column} > {_literal(rule.maximum)}"] if rule.maximum is not None else []
    return f"coalesce({' or '.join([*low, *high])}, false)"


def identifier(name: str) -> str:
    """Return a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"cast({value!r} as double)"  # DuckDB would read the bare number as a decimal
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
