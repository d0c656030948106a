"""Columns that a person's function adds to feature rows, and what is wrong with them.

A function takes the rows of one period and returns them with more columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from ml_assets.contracts.errors import FAILURES, ContractError, DataError, failure_words
from ml_assets.contracts.words import quoted
from ml_assets.logic.tables.keys import repeated_keys

FeatureFunction = Callable[[pl.DataFrame], pl.DataFrame]
"""Takes the rows of one period: key, day, times and features. Returns the key and the new columns, one row for each."""


def added_columns(rows: pl.DataFrame, function: FeatureFunction, *, key: Sequence[str], name: str) -> pl.DataFrame:
    """Return the key and the new columns of a function's result, in the order of the rows.

    Args:
        rows: the rows of one period.
        function: the function.
        key: columns that identify a row.
        name: the name of the function, for messages.

    Raises:
        DataError: the function failed.
        ContractError: its result is not a frame with each row's key once, or has no new column.
    """
    try:
        result = function(rows.clone())  # a function may change its frame in place
    except (ContractError, DataError):
        raise
    except FAILURES as error:
        raise DataError(f"feature function {name} failed: {failure_words(error)}. Correct the function.") from error
    problem = _problem(rows, result, key)
    if problem:
        raise ContractError(f"feature function {name} {problem}")
    new = [column for column in result.columns if column not in rows.columns]
    return rows.select(key).join(result.select(*key, *new), on=list(key), how="left", maintain_order="left")


def _problem(rows: pl.DataFrame, result: object, key: Sequence[str]) -> str:
    """Return what is wrong with a result, and how to correct it; '' if nothing is."""
    expected = "expected a polars DataFrame with the key and the new columns, one row for each row that it gets"
    if not isinstance(result, pl.DataFrame):
        fix = "Call collect() on a lazy frame" if isinstance(result, pl.LazyFrame) else "Return such a frame"
        return f"returned {type(result).__name__}; {expected}. {fix}."
    wrong = [
        f"'{column}' as {result.schema.get(column, 'missing')} instead of {rows.schema[column]}"
        for column in key
        if result.schema.get(column) != rows.schema[column]
    ]
    if wrong:
        return f"returned the key column {', '.join(wrong)}; {expected}. Return the key columns unchanged."
    if result.height != rows.height or repeated_keys(result, key, fix=""):
        return (
            f"returned {result.height} rows with {result.select(pl.struct(key).n_unique()).item()} different keys "
            f"for {rows.height} rows; {expected}. Join with how='left', and aggregate the other side first."
        )
    if result.join(rows, on=list(key), how="anti").height:
        return f"returned rows with other keys than it got; {expected}. Return the key columns unchanged."
    if not set(result.columns) - set(rows.columns):
        return f"returned no new column, only {quoted(result.columns)}; {expected}."
    changed = _changed_columns(rows, result, key)
    fix = "Give changed values a column of their own"
    return f"returned {quoted(changed)} with other values than it got; {expected}. {fix}." if changed else ""


def _changed_columns(rows: pl.DataFrame, result: pl.DataFrame, key: Sequence[str]) -> list[str]:
    """Return the columns of the rows that a result has with other types or values."""
    shared = [name for name in rows.columns if name in result.columns and name not in key]
    same_type = [name for name in shared if result.schema[name] == rows.schema[name]]
    returned = rows.select(key).join(result.select(*key, *same_type), on=list(key), how="left", maintain_order="left")
    return [name for name in shared if name not in same_type or not returned[name].equals(rows[name])]
