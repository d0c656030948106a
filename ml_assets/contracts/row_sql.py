"""Check the SQL over rows of a source: known times, columns that landing computes, and the day of a row.

Not here: parsing SQL (see `ml_assets.landing.row_sql`, which uses the warehouse's engine).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ml_assets.contracts.dbt_yaml import ErrorCollector, Table, YamlPlace
from ml_assets.contracts.errors import near
from ml_assets.contracts.table import ALWAYS, TableContract


@dataclass(frozen=True)
class RowSql:
    """An SQL expression over the rows of a source.

    Attributes:
        what: the field that contains it, for messages.
    """

    what: str
    table: str
    sql: str
    columns: Mapping[str, pl.DataType]
    dtype: pl.DataType


@dataclass(frozen=True)
class SqlProblem:
    """The reason why an expression is not valid.

    Attributes:
        reason: a clause whose subject is the expression.
        column: the missing column that the expression uses, if that is the reason.
    """

    reason: str
    column: str | None = None


SqlProblems = Callable[[Sequence[RowSql]], Sequence[SqlProblem | None]]


def check_row_sql(
    tables: Sequence[Table], contracts: Mapping[str, TableContract], sql_problems: SqlProblems, errors: ErrorCollector
) -> None:
    """Report the expressions of the sources that are not valid."""
    found = [it for table in tables if table.is_source for it in _expressions(table, contracts[table.name])]
    for (place, one), problem in zip(found, sql_problems([one for _, one in found]), strict=True):
        if problem is not None:
            errors.add(place, f"{one.what} {problem_clause(one, problem, contracts[one.table])}.")


def own_columns(contract: TableContract) -> dict[str, pl.DataType]:
    """Return the columns that a source contains, without those that landing computes."""
    return {column.name: column.dtype for column in contract.columns if column.expression is None}


def _expressions(table: Table, contract: TableContract) -> Iterator[tuple[YamlPlace, RowSql]]:
    names = {name.lower() for name in contract.names}
    if pl.Null() in contract.schema.values() or len(names) < len(contract.names):  # reported separately
        return
    of_source = own_columns(contract)
    time = pl.Datetime("us")
    if contract.known_time not in (None, ALWAYS):
        what, place = f"known_time of table '{contract.name}'", table.place("meta", "known_time")
        yield place, RowSql(what, contract.name, str(contract.known_time), contract.schema, time)
    for column in contract.columns:
        what, loc = f"of column '{column.name}' of table '{contract.name}'", ("columns", column.name, "meta")
        if column.known_time is not None:
            place = table.place(*loc, "known_time")
            yield place, RowSql(f"known_time {what}", contract.name, column.known_time, contract.schema, time)
        if column.expression is not None:
            place = table.place(*loc, "expression")
            yield place, RowSql(f"expression {what}", contract.name, column.expression, of_source, column.dtype)


def problem_clause(one: RowSql, problem: SqlProblem, contract: TableContract) -> str:
    """Return why an expression is not valid, with its text: a clause whose subject is the expression."""
    sql, name = " ".join(one.sql.split()), problem.column
    if name is None:
        return f"{problem.reason}; got: {sql}"
    if name.lower() in map(str.lower, contract.names):
        return f"{problem.reason}, which landing computes; replace it by its expression; got: {sql}"
    expected = f"expected some of {', '.join(one.columns)}{near(name, [*one.columns])}"
    return f"{problem.reason}, which is not one of its columns; {expected}; got: {sql}"
