"""SQL of contracts: names of types, and the row rules, with which the warehouse quarantines rows.

The rules find the same rows as `ml_assets.contracts.checking`. Not here: running SQL (see `ml_assets.warehouse`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ml_assets.contracts.table import Rule, TableContract, Value

_NOT_FINITE: Final = [f"cast('{value}' as double precision)" for value in ("NaN", "Infinity", "-Infinity")]
_NAMES: Final = {
    pl.Int8: "tinyint", pl.Int16: "smallint", pl.Int32: "integer", pl.Int64: "bigint", pl.Int128: "hugeint",
    pl.UInt8: "utinyint", pl.UInt16: "usmallint", pl.UInt32: "uinteger", pl.UInt64: "ubigint", pl.Float32: "real",
    pl.Float64: "double", pl.String: "varchar", pl.Categorical: "varchar", pl.Enum: "varchar", pl.Boolean: "boolean",
    pl.Date: "date", pl.Datetime: "timestamp", pl.Null: "a column without values",
}  # fmt: skip
"""Names of types in contracts, for messages: `bigint`, not `Int64`."""


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


def sql_type(dtype: pl.DataType) -> str:
    """Return a type's name in SQL."""
    if isinstance(dtype, pl.Decimal):
        return f"decimal({dtype.precision}, {dtype.scale})"
    return _NAMES[dtype.base_type()]


def most_exact(dtype: pl.DataType) -> int:
    """Return the limit up to which a floating-point type represents every integer exactly."""
    return 2**53 if dtype == pl.Float64 else 2**24


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"cast({value!r} as double)"  # DuckDB would read the bare number as a decimal
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
