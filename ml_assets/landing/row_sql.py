"""Evaluates SQL expressions (`known_time`, `expression`, the day of a row) over the rows of a frame.

DuckDB, the warehouse's engine, defines what an expression means.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from ml_assets.contracts.row_sql import RowSql, SqlProblem
from ml_assets.contracts.sql import identifier, sql_type
from ml_assets.contracts.table import redacted
from ml_assets.lake.errors import WarehouseError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SELECT: Final = 'select "__row", '
_REMEMBERED: Final = 9
"""How many earlier sets of expressions are remembered."""
_SHOWN: Final = 8
"""How many values of a row a message shows."""


def sql_problems(expressions: Sequence[RowSql]) -> list[SqlProblem | None]:
    """Return the problem of each expression. DuckDB only binds them, so no rows are needed and no file is read."""
    from ml_assets.warehouse.duckdb_session import connect

    if all(one.columns.get(one.sql) == one.dtype for one in expressions):  # plain column names: DuckDB is not loaded
        return [None] * len(expressions)
    with connect() as engine:
        engine.execute("set errors_as_json = true")
        engine.execute("set enable_external_access = false")
        return [*_problems(engine, expressions)]


def sql_problems_once(expressions: Sequence[RowSql], checked: Path) -> list[SqlProblem | None]:
    """Return the problem of each expression, without DuckDB if the same expressions were valid before.

    `checked` is a file with digests of the last valid sets of expressions, written if possible. Loading DuckDB takes
    0.1 s and 40 MB, and a pod may not be able to write to the project.
    """
    if not expressions:
        return []
    text = version("duckdb") + "".join(f"\0{one.sql}\0{one.dtype}\0{one.columns}" for one in expressions)
    digest = hashlib.blake2b(text.encode(), digest_size=16, usedforsecurity=False).hexdigest()
    known = checked.read_text(encoding="utf-8").split() if checked.is_file() else []
    if digest in known:
        return [None] * len(expressions)
    found = sql_problems(expressions)
    if not any(found):
        part = checked.with_name(f"{checked.name}.{uuid.uuid4().hex}")
        with suppress(OSError):
            part.write_text("\n".join([*known[-_REMEMBERED:], digest]), encoding="utf-8")
            part.replace(checked)  # atomic: other processes may load the project concurrently
    return found


def _problems(engine: "DuckDBPyConnection", expressions: Sequence[RowSql]) -> Iterator[SqlProblem | None]:
    import duckdb

    there: Mapping[str, pl.DataType] | None = None
    for one in expressions:
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


def _query(columns: str) -> str:
    return f'{_SELECT}{columns} from rows order by "__row"'


def _translated(error: Exception, sql: str) -> SqlProblem:
    """Return DuckDB's JSON error as a problem, with its position in the expression."""
    text = str(error).partition(": ")[2]
    found = json.loads(text) if text.startswith("{") else {"exception_message": text}
    if found.get("error_subtype") == "COLUMN_NOT_FOUND":
        return SqlProblem(f"names column '{found['name']}'", found["name"])
    reason = found["exception_message"].partition("\n")[0].rstrip(".!")
    if '"__row"' in reason:
        return SqlProblem("aggregates over rows; expected a value for each single row")
    if "position" not in found:
        return SqlProblem(f"cannot be evaluated: {reason}")
    before = len(f"{_SELECT}(")
    at = len(_query(f"({sql}").encode()[: int(found["position"])].decode(errors="ignore")) - before
    if at >= len(sql.rstrip()):
        return SqlProblem("cannot be evaluated: it is incomplete")
    return SqlProblem(f"cannot be evaluated: {reason}, at character {at + 1}")


def with_columns(
    frame: pl.DataFrame, expressions: Mapping[str, str], *, where: str, personal: Collection[str] = ()
) -> pl.DataFrame:
    """Return the frame with an additional column for each expression. The order of rows is unchanged.

    No expression may use another's column. If there are `personal` columns, DuckDB's messages about values are hidden.
    A message about a value names the first row that has such a value, counted from 1.

    Raises:
        WarehouseError: DuckDB cannot evaluate an expression, or it does not give one value per row.
    """
    import duckdb

    from ml_assets.warehouse.duckdb_session import connect

    if not expressions:
        return frame
    columns = ", ".join(f"({sql}\n) as {identifier(name)}" for name, sql in expressions.items())
    with connect() as engine:
        engine.register("rows", frame.with_row_index("__row").to_arrow())
        try:
            found: pl.DataFrame = engine.sql(_query(columns)).pl()
        except duckdb.Error as error:
            is_about_values = isinstance(error, duckdb.DataError | duckdb.InvalidInputException)
            is_hidden = bool(personal) and is_about_values
            reason = f"{type(error).__name__} over the values of a row" if is_hidden else str(error)
            row = _first_wrong(engine, columns, frame) if is_about_values else None
            about = "" if row is None else f", in {shown_row(frame, row, ' '.join(expressions.values()), personal)}"
            raise WarehouseError(
                f"{where}: an expression cannot be evaluated: {reason}{about}. Expected SQL over the table's own "
                f"columns that is valid for every row; the expressions are {dict(expressions)}."
            ) from (None if is_hidden else error)
    if found.height != frame.height:
        raise WarehouseError(
            f"{where}: an expression gives {found.height} values for {frame.height} rows. Expected one per row, "
            f"without functions such as unnest; the expressions are {dict(expressions)}."
        )
    return pl.concat([frame, found.drop("__row")], how="horizontal")


def shown_row(frame: pl.DataFrame, row: int, sql: str, personal: Collection[str] = ()) -> str:
    """Return the number of a row, counted from 1, and its values in the columns that SQL mentions, for messages."""
    words = {word.lower() for word in re.findall(r'"[^"]+"|\w+', sql)}
    named = [name for name in frame.columns if not words.isdisjoint({name.lower(), f'"{name.lower()}"'})]
    values = frame.select(named or frame.columns).row(row, named=True)
    shown = ", ".join(f"{name}={redacted(name, value, personal)}" for name, value in [*values.items()][:_SHOWN])
    return f"row {row + 1} ({shown})"


def _first_wrong(engine: "DuckDBPyConnection", columns: str, frame: pl.DataFrame) -> int | None:
    """Return the first row for which an expression cannot be evaluated; None if each row alone can be."""
    import duckdb

    def is_wrong(begin: int, end: int) -> bool:
        engine.register("rows", frame[begin:end].with_row_index("__row").to_arrow())
        try:
            engine.sql(_query(columns)).fetchall()
        except duckdb.Error:
            return True
        return False

    low, high = 0, frame.height
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_wrong(low, middle) else (middle, high)
    return low if high > low and is_wrong(low, high) else None
