"""SQL expressions over the rows of a frame, as contracts of raw tables write them (`known_time`, `expression`).

What an expression means stays out; DuckDB, the warehouse's engine, works it out.
"""

from collections.abc import Collection, Mapping

import polars as pl

from resources.errors import WarehouseError


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
        WarehouseError: DuckDB cannot work an expression out.
    """
    import duckdb

    from resources.duckdb_session import connect, identifier

    if not expressions:
        return frame
    made = ", ".join(f"({sql}) as {identifier(name)}" for name, sql in expressions.items())
    with connect() as engine:
        engine.register("rows", frame.with_row_index("__row").to_arrow())
        try:
            found: pl.DataFrame = engine.sql(f'select "__row", {made} from rows order by "__row"').pl()  # noqa: S608 - declared SQL
        except duckdb.Error as error:
            is_about_values = isinstance(error, duckdb.DataError | duckdb.InvalidInputException)
            is_hidden = bool(personal) and is_about_values
            reason = f"{type(error).__name__} over the values of a row" if is_hidden else str(error)
            raise WarehouseError(
                f"{where}: an expression cannot be worked out: {reason}. Expected SQL over the table's own columns, "
                f"which works for every row; given are {dict(expressions)}."
            ) from (None if is_hidden else error)
    return pl.concat([frame, found.drop("__row")], how="horizontal")
