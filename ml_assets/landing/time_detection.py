"""Finds the formats of dates and times in which every text of a column is one."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.number_detection import reads
from ml_assets.landing.text_values import values

_DATES: Final = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d", "%d %b %Y",
                 "%d-%b-%Y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%Y%m%d",
                 "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%y")  # fmt: skip
_MONTHS: Final = ("%Y-%m", "%m/%Y", "%b %Y", "%B %Y", "%b-%Y")
_TIMES: Final = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%H:%M:%S%z", "%H:%M%z")
_LIKE_A_MONTH: Final = r"^ *(\d{4}-\d{2}|\d{2}/\d{4}|[A-Za-z]{3,9}[- ]\d{4}) *$"
_LIKE_A_DATE: Final = r"^ *(\d{8}|([0-9]{1,4}|[A-Za-z]{3,9})[-/. ,]+([0-9]{1,2}|[A-Za-z]{3,9})[-/. ,]+\d{1,4})"
_SHORT_DATE: Final = r"^ *[0-9]{1,2}[./-]([0-9]{1,2}|[A-Za-z]{3})[./-][0-9]{2}( |$)"
_LATEST_OF_TWO_DIGITS: Final = 2036
"""The last year that years of two digits are read as in detection, which must not depend on the clock.

Due dates of ten years from 2026 are read. Births of 1920 to 1936 look the same if there are none of 1937 to 1968.
"""
_FEW: Final = 200


def has_short_years(text: pl.Series) -> bool:
    """Return whether every text looks like a date with a year of two digits."""
    return bool(text.str.contains(_SHORT_DATE).all())


def find_time_formats(text: pl.Series) -> list[tuple[pl.DataType, str | None]]:
    """Return the types and formats in which every text is a date or a time, ISO 8601 alone or the likeliest first."""
    found: list[tuple[pl.DataType, str | None]] = []
    if text.head(_FEW).str.contains(_LIKE_A_MONTH).all():
        found += [(pl.Date(), it) for it in _MONTHS if reads(text, pl.Date(), CsvDialect(), it)]
        return found[:1]
    if not text.head(_FEW).str.contains(_LIKE_A_DATE).all():
        return found
    has_clock = bool(text.head(_FEW).str.contains(":").any())
    for dtype, form in _candidates():
        if has_clock == (dtype != pl.Date()) and reads(text, dtype, CsvDialect(), form):
            if form is None:
                return [(dtype, None)]
            if "%y" not in form or _has_a_clear_century(text, dtype, form):
                found.append((dtype, form))
    return sorted(found, key=lambda it: _span(text, *it)) if len(found) > 1 else found


def _has_a_clear_century(text: pl.Series, dtype: pl.DataType, form: str) -> bool:
    """Return whether no year of two digits is read as one that is far ahead: of a birth, it is in the 20th century."""
    latest = values(text, dtype, CsvDialect(), form).dt.year().max()
    return isinstance(latest, int) and latest <= _LATEST_OF_TWO_DIGITS


def _candidates() -> Iterator[tuple[pl.DataType, str | None]]:
    yield pl.Date(), None
    yield pl.Datetime("us"), None
    yield from ((pl.Date(), form) for form in _DATES)
    yield from ((pl.Datetime("us"), f"{day}{between}{time}") for day in _DATES for between in " T" for time in _TIMES)


def _span(text: pl.Series, dtype: pl.DataType, form: str | None) -> float:
    """Return the microseconds from the first to the last value: day and month exchanged spread the days over a year."""
    found = values(text, dtype, CsvDialect(), form).cast(pl.Datetime("us"))
    moments = found.cast(pl.Int64).to_numpy()
    return float(moments.max() - moments.min())
