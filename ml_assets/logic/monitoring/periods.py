"""Pool days that are judged together because a single day has too few rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl


def rows_of_period(
    days: Mapping[date, pl.DataFrame], day: date, version: str, *, min_rows: int, most_days: int
) -> tuple[date, pl.DataFrame]:
    """Return the rows that a model version predicted for a day, with those of days before until there are enough.

    Days that only another version predicted end the period. Days without predictions do not. `min_rows` are enough;
    `most_days` includes the last day.

    Returns:
        The first day with rows, and the rows.
    """
    found: list[pl.DataFrame] = []
    first, rows = day, 0
    for back in range(most_days):
        at = day - timedelta(days=back)
        predicted = days.get(at)
        if predicted is None or predicted.is_empty():
            continue
        own = predicted.filter(pl.col("model_version") == version)
        if own.is_empty() or (found and rows >= min_rows):
            break
        first, rows = at, rows + own.height
        found.append(own)
    return first, pl.concat(reversed(found))


def number_periods(days: pl.Series, *, min_rows: int, most_days: int) -> pl.Series:
    """Return the number of each row's period, from 0.

    A period is the next days that have enough rows together, at most `most_days`. Days that remain at the end belong to
    the last period.
    """
    counts = days.alias("day").value_counts(name="rows").sort("day")
    numbers, number, rows, length = [], 0, 0, 0
    for count in counts["rows"]:
        if length and (rows >= min_rows or length == most_days):
            number, rows, length = number + 1, 0, 0
        numbers.append(number)
        rows, length = rows + count, length + 1
    if number and rows < min_rows and length < most_days:
        numbers = [min(it, number - 1) for it in numbers]
    return days.replace_strict(counts["day"], pl.Series(numbers, dtype=pl.Int64))
