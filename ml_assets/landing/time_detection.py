"""Finds the formats of dates and times in which every text or number of a column is one."""

import re
from collections.abc import Iterator
from typing import Final

import polars as pl

from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.number_detection import reads
from ml_assets.landing.text_values import values
from ml_assets.landing.time_formats import UNIX_TIMES

_DATES: Final = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d", "%d %b %Y",
                 "%d-%b-%Y", "%d%b%Y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%Y%m%d",
                 "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%y")  # fmt: skip
_MONTHS: Final = ("%Y-%m", "%m/%Y", "%b %Y", "%B %Y", "%b-%Y")
_TIMES: Final = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%H:%M:%S%z", "%H:%M%z")
_OTHERS: Final = ("%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S.%f UTC", "%d%b%Y:%H:%M:%S", "%d/%b/%Y:%H:%M:%S %z")
"""As BigQuery, SAS and web servers write them."""
_OF_DIGITS: Final = {6: "%Y%m", 8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_NAME_OF_MONTH: Final = r"(?i)month|monat|period|yyyymm|date|datum|^ym$|_ym$"
_YEAR: Final = r"(^|[^0-9])(19|20)[0-9]{2}([^0-9]|$)"
_BESIDE_A_YEAR: Final = (
    r"(?i)[0-9]{1,2}[-./: ]+[0-9]{1,2}|(^|[^a-z])[qw] ?[0-9]|"
    r"jan|feb|fév|m[aä]r|apr|avr|ma[iy]|jun|juin|jul|juil|aug|août|sep|o[ck]t|nov|de[cz]|déc"
)
_TIME_OF_DAY: Final = r"^ *[0-9]{1,2}:[0-5][0-9](:[0-5][0-9])? *$"
_LIKE_A_MONTH: Final = r"^ *(\d{4}-\d{2}|\d{2}/\d{4}|[A-Za-z]{3,9}[- ]\d{4}) *$"
_LIKE_A_DATE: Final = (
    r"^ *(\d{8}|\d{1,2}[A-Za-z]{3}\d{4}|([0-9]{1,4}|[A-Za-z]{3,9})[-/. ,]+([0-9]{1,2}|[A-Za-z]{3,9})[-/. ,]+\d{1,4})"
)
_SHORT_DATE: Final = r"^ *[0-9]{1,2}[./-]([0-9]{1,2}|[A-Za-z]{3})[./-][0-9]{2}( |$)"
_LATEST_OF_TWO_DIGITS: Final = 2036
"""The last year that years of two digits are read as in detection, which must not depend on the clock.

Due dates of ten years from 2026 are read. Births of 1920 to 1936 look the same if there are none of 1937 to 1968.
"""
_EXCEL_1990, _EXCEL_2050 = 32_874, 54_789
_NAME_OF_TIME: Final = re.compile(  # a word of the name, or its end: not sentiment_id or lifetime_revenue
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?i:time|date|datetime|timestamp|epoch|datum|zeit|fecha)(?![a-z])|"
    r"(?i:(?:time|date|stamp|datum|zeit|fecha|(?:^|_)(?:at|on|ts))$|"
    r"^(?:created|modified|posted|opened|started|ordered|seen|when)$)"
)
_YEAR_1990, _YEAR_2100 = 631_152_000, 4_102_444_800
_FEW: Final = 200


def has_short_years(text: pl.Series) -> bool:
    """Return whether every text looks like a date with a year of two digits."""
    return bool(text.str.contains(_SHORT_DATE).all())


def doubt_of_time(text: pl.Series) -> str:
    """Return that texts seem to be times in a format that is not read; '' if they do not."""
    few = text.head(_FEW)
    if few.str.contains(_TIME_OF_DAY).all():
        return "it seems to be a time of day, which is read as text; join it with the date in one column"
    if few.str.contains(_YEAR).all() and few.str.contains(_BESIDE_A_YEAR).all():
        return "it seems to be a date in a format that is not read, so it is text; write it as 2024-01-31"
    return ""


def find_format_of_digits(name: str, digits: pl.Series) -> tuple[pl.DataType, str] | None:
    """Return the type and the format of whole numbers that are all dates or times, such as 20240131; None if not.

    Numbers of six digits are months only in a column that is named so.
    """
    lengths = digits.str.len_chars().unique()
    form = _OF_DIGITS.get(lengths[0]) if lengths.len() == 1 else None
    if form is None or (form == "%Y%m" and not re.search(_NAME_OF_MONTH, name)):
        return None
    dtype = pl.Datetime("us") if "%H" in form else pl.Date()
    return (dtype, form) if reads(digits, dtype, CsvDialect(), form) else None


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
    yield from ((pl.Datetime("us"), form) for form in _OTHERS)
    yield from ((pl.Datetime("us"), f"{day}{between}{time}") for day in _DATES for between in " T" for time in _TIMES)


def _span(text: pl.Series, dtype: pl.DataType, form: str | None) -> float:
    """Return the microseconds from the first to the last value: day and month exchanged spread the days over a year."""
    found = values(text, dtype, CsvDialect(), form).cast(pl.Datetime("us"))
    moments = found.cast(pl.Int64).to_numpy()
    return float(moments.max() - moments.min())


def find_unix_unit(name: str, numbers: pl.Series) -> str | None:
    """Return the unit of Unix times, if the size of all numbers and the name of their column suggest it."""
    if not _NAME_OF_TIME.search(name):
        return None
    return next((unit for unit, per_second in UNIX_TIMES.items() if _is_recent(numbers, per_second)), None)


def doubt_of_unix(unit: str) -> str:
    """Return why numbers that are read as Unix times could be something else."""
    return f"its name and the size of its numbers suggest Unix time ({unit})"


def doubt_of_days(name: str, numbers: pl.Series) -> str:
    """Return that whole numbers seem to be days of Excel, which counts them since 1899; '' if they do not."""
    if _NAME_OF_TIME.search(name) and numbers.is_between(_EXCEL_1990, _EXCEL_2050).all():
        return "its name and the size of its numbers suggest days of Excel, which are not read as dates; write dates"
    return ""


def _is_recent(numbers: pl.Series, per_second: int) -> bool:
    """Return whether all numbers are Unix times of the years 1990 to 2100 in a unit."""
    return bool(numbers.is_between(_YEAR_1990 * per_second, _YEAR_2100 * per_second).all())
