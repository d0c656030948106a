"""Cutting source rows into days.

Reading the source stays out; see `resources.sources`.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from ml_assets.contracts.errors import DataError


def day_expression(
    *, column: str | None = None, year: str | None = None, month: str | None = None, day: str | None = None
) -> pl.Expr:
    """Return the day of a row: a date or timestamp column (or ISO text), or year, month and day."""
    if column is not None:
        return pl.col(column).cast(pl.String).str.head(10).str.to_date("%Y-%m-%d", strict=False)
    if year is None or month is None or day is None:
        raise DataError("the day of a row is either one column, or year, month and day; correct the declaration.")
    return pl.date(pl.col(year), pl.col(month), pl.col(day))


def by_day(frame: pl.DataFrame, day: pl.Expr, *, first: date, last: date) -> dict[str, pl.DataFrame]:
    """Return the rows of each day of a range, both ends included, in the order of the source; empty days are empty.

    Raises:
        DataError: rows whose day cannot be told.
    """
    marked = frame.with_columns(day.alias("__day"))
    lost = marked["__day"].null_count()
    if lost:
        row = marked.filter(pl.col("__day").is_null()).drop("__day").row(0)
        raise DataError(f"{lost} of {frame.height} rows have no day, for instance {row}; correct the source or 'by'.")
    inside = marked.filter(pl.col("__day").is_between(first, last))
    parts = inside.partition_by("__day", as_dict=True, include_key=False, maintain_order=True)
    wanted = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return {str(d): parts.get((d,), frame.clear()) for d in wanted}
