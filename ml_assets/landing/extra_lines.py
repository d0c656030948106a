"""Finds lines of a file that are not rows of its table: a title above the header, a second header, totals below."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import polars as pl

from ml_assets.contracts.errors import DataError
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.number_detection import NUMBER_MARKS, number_dialect, reads, resembles_numbers
from ml_assets.landing.text_values import values
from ml_assets.landing.time_detection import find_time_formats

MOST_AT_THE_END: Final = 5
_MOST_AT_THE_BEGINNING: Final = 3
_FEWEST_VALUES: Final = 50
_LINES: Final = 50
_DELIMITERS: Final = ",;\t|"
_TOTAL: Final = re.compile(r"[^\W\d_]{3}")
"""A word, as totals and notes have; not the letter of house number 99A."""
_SECOND_HEADER: Final = re.compile(r"[^\W\d_]{2}|[\[(°%]")
"""A word or a unit; not grade K."""
_Read = tuple[str, pl.DataType, CsvDialect, str | None]


def lines_above_header(text: str) -> int:
    """Return the number of lines above the first one that is as wide as most lines and has no empty cell.

    Lines with more than a first cell are no title, so none is above.
    """
    lines = text.splitlines()[:_LINES]
    found = []
    for delimiter in _DELIMITERS:
        try:
            rows = [*csv.reader(lines, delimiter=delimiter)]
        except csv.Error:  # a cell longer than Python's limit, or a quote that does not end
            continue
        width, lines_of_it = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
        if width > 1:
            above = next((n for n, row in enumerate(rows) if len(row) == width and all(it.strip() for it in row)), 0)
            is_title = not any(it.strip() for row in rows[:above] for it in row[1:])
            found.append((lines_of_it * width, above if is_title else 0))
    return max(found, default=(0, 0))[1]


def check_ends(text: pl.Series) -> None:
    """Check that a column of text is not one of numbers or dates with another value in its first or last rows only.

    Raises:
        DataError: it is.
    """
    length = text.len() - _MOST_AT_THE_BEGINNING - MOST_AT_THE_END
    inner = text.slice(_MOST_AT_THE_BEGINNING, max(length, 0)).drop_nulls()
    if inner.len() < _FEWEST_VALUES:
        return
    for kind, dtype, dialect, form in _readings(inner):
        odd = (text.is_not_null() & values(text, dtype, dialect, form).is_null()).arg_true()
        if not odd.len():
            return
        first = text[odd[0]]
        if odd[-1] < _MOST_AT_THE_BEGINNING and _SECOND_HEADER.search(first):
            raise DataError(
                f"column '{text.name}' has {kind}, except {first!r} in row {odd[0] + 1}; expected one kind. If "
                "that row is a second header, such as units, delete it."
            )
        if odd[0] >= text.len() - MOST_AT_THE_END and _TOTAL.search(first):
            raise DataError(
                f"column '{text.name}' has {kind}, except {first!r} in row {odd[0] + 1:,} of {text.len():,}; "
                "expected one kind. Delete what follows the last row of the table, such as totals and notes."
            )


def _readings(inner: pl.Series) -> Iterator[_Read]:
    """Yield how every text can be read as a number or a time."""
    if resembles_numbers(inner):
        dialects = (number_dialect(marks) for marks in NUMBER_MARKS)
        yield from (("numbers", pl.Float64(), it, None) for it in dialects if reads(inner, pl.Float64(), it))
    yield from (("dates", dtype, CsvDialect(), form) for dtype, form in find_time_formats(inner))
