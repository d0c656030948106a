"""SQL expressions over the rows of a frame, as contracts of raw tables write them (`known_time`, `expression`).

What an expression means is up to DuckDB, the warehouse's engine.
"""

import hashlib
import json
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import polars as pl

from ml_assets.contracts.sql_types import sql_type
from ml_assets.lake.errors import WarehouseError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SELECT: Final = 'select "__row", '
_REMEMBERED: Final = 9
"""Sets of expressions remembered beside the newest."""


class RowSql(Protocol):
    """An expression, the columns that it may name, and the type that it must give."""

    @property
    def sql(self) -> str: ...  # noqa: D102 - see the class
    @property
    def columns(self) -> Mapping[str, pl.DataType]: ...  # noqa: D102 - see the class
    @property
    def dtype(self) -> pl.DataType: ...  # noqa: D102 - see the class


@dataclass(frozen=True)
class SqlProblem:
    """Why an expression works for no row.

    Attributes:
        reason: a clause whose subject is the expression.
        column: the column that it names and the rows do not have, where that is why.
    """

    reason: str
    column: str | None = None


def sql_problems(asked: Sequence[RowSql]) -> list[SqlProblem | None]:
    """Return what is wrong with each expression, before there are rows: DuckDB binds it, and reads no file."""
    from ml_assets.warehouse.duckdb_session import connect

    if all(one.columns.get(one.sql) == one.dtype for one in asked):  # names of columns: DuckDB need not be loaded
        return [None] * len(asked)
    with connect() as engine:
        engine.execute("set errors_as_json = true")
        engine.execute("set enable_external_access = false")
        return [*_problems(engine, asked)]


def sql_problems_once(asked: Sequence[RowSql], checked: Path) -> list[SqlProblem | None]:
    """Return what is wrong with each expression, without asking DuckDB for expressions in which nothing was wrong.

    Args:
        asked: the expressions.
        checked: the file with digests of the last sets of such expressions. It is written where it can be: loading
            DuckDB takes 0.1 s and 40 MB, and a pod may not write to the project.
    """
    if not asked:
        return []
    text = version("duckdb") + "".join(f"\0{one.sql}\0{one.dtype}\0{one.columns}" for one in asked)
    digest = hashlib.blake2b(text.encode(), digest_size=16, usedforsecurity=False).hexdigest()
    known = checked.read_text(encoding="utf-8").split() if checked.is_file() else []
    if digest in known:
        return [None] * len(asked)
    found = sql_problems(asked)
    if not any(found):
        part = checked.with_name(f"{checked.name}.{uuid.uuid4().hex}")
        with suppress(OSError):
            part.write_text("\n".join([*known[-_REMEMBERED:], digest]), encoding="utf-8")
            part.replace(checked)  # whole or not at all: other processes load the project at the same time
    return found


def _problems(engine: "DuckDBPyConnection", asked: Sequence[RowSql]) -> Iterator[SqlProblem | None]:
    import duckdb

    from ml_assets.warehouse.duckdb_session import identifier

    there: Mapping[str, pl.DataType] | None = None
    for one in asked:
        if one.columns != there:
            there = one.columns
            columns = "".join(f", {identifier(name)} {sql_type(dtype)}" for name, dtype in there.items())
            engine.execute(f'create or replace table rows ("__row" bigint{columns})')
        try:
            statement, *others = engine.extract_statements(_query(f"({one.sql}\n)"))
            engine.execute("select 0" if others else statement)
        except duckdb.Error as error:
            yield _translated(error, one.sql)
            continue
        wanted, types = sql_type(one.dtype), [it[1] for it in engine.description or ()][1:]
        if len(types) != 1:
            yield SqlProblem("is more than one expression")
        elif types[0] != duckdb.sqltype(wanted):
            yield SqlProblem(f"gives {str(types[0]).lower()}; expected {wanted}, by cast(... as {wanted})")
        else:
            yield None


def _query(made: str) -> str:
    return f'{_SELECT}{made} from rows order by "__row"'


def _translated(error: Exception, sql: str) -> SqlProblem:
    """Return what DuckDB reports as JSON, with its place in the expression."""
    text = str(error).partition(": ")[2]
    found = json.loads(text) if text.startswith("{") else {"exception_message": text}
    if found.get("error_subtype") == "COLUMN_NOT_FOUND":
        return SqlProblem(f"names column '{found['name']}'", found["name"])
    reason = found["exception_message"].partition("\n")[0].rstrip(".!")
    if '"__row"' in reason:
        return SqlProblem("aggregates over rows; expected a value of each row by itself")
    if "position" not in found:
        return SqlProblem(f"cannot be worked out: {reason}")
    before = len(f"{_SELECT}(")
    at = len(_query(f"({sql}").encode()[: int(found["position"])].decode(errors="ignore")) - before
    if at >= len(sql.rstrip()):
        return SqlProblem("cannot be worked out: it ends too early")
    return SqlProblem(f"cannot be worked out: {reason}, at character {at + 1}")


def with_columns(
    frame: pl.DataFrame, expressions: Mapping[str, str], *, where: str, personal: Collection[str] = ()
) -> pl.DataFrame:
    """Return the frame with one more column for each expression, in the frame's order of rows.

    Args:
        frame: rows whose columns the expressions may name.
        expressions: SQL by the name of the column it makes; one may not name another.
        where: the table and the file it is declared in, for the message.
        personal: columns whose values no message shows; where there are any, neither does DuckDB's own.

    Raises:
        WarehouseError: DuckDB cannot work an expression out, or it does not give one value for each row.
    """
    import duckdb

    from ml_assets.warehouse.duckdb_session import connect, identifier

    if not expressions:
        return frame
    made = ", ".join(f"({sql}\n) as {identifier(name)}" for name, sql in expressions.items())
    with connect() as engine:
        engine.register("rows", frame.with_row_index("__row").to_arrow())
        try:
            found: pl.DataFrame = engine.sql(_query(made)).pl()
        except duckdb.Error as error:
            is_about_values = isinstance(error, duckdb.DataError | duckdb.InvalidInputException)
            is_hidden = bool(personal) and is_about_values
            reason = f"{type(error).__name__} over the values of a row" if is_hidden else str(error)
            raise WarehouseError(
                f"{where}: an expression cannot be worked out: {reason}. Expected SQL over the table's own columns, "
                f"which works for every row; given are {dict(expressions)}."
            ) from (None if is_hidden else error)
    if found.height != frame.height:
        raise WarehouseError(
            f"{where}: an expression gives {found.height} values for {frame.height} rows. Expected one for each row, "
            f"without functions such as unnest; given are {dict(expressions)}."
        )
    return pl.concat([frame, found.drop("__row")], how="horizontal")
