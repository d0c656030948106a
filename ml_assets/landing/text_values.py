"""Converts texts of a file to values of a contract's types: exactly, or to null.

Not here: which texts are missing values (see `ml_assets.landing.sources`).
"""

import re
from decimal import Decimal
from typing import Final, Literal

import polars as pl

from ml_assets.contracts.sql import most_exact, sql_type
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.number_formats import is_number_format, plain_numbers
from ml_assets.landing.time_formats import (
    ISO_DATE,
    ISO_TIMESTAMP,
    UNIX_TIMES,
    days_of_moments,
    format_regex,
    moments,
    unix_moments,
)

TextFormat = Literal["csv", "json"]
"""The formats of text files."""
_BOOLEANS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
MISSING: Final = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "\\n", "-", ".", "?"})

_ANY_NUMBER: Final = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


def values(text: pl.Series, dtype: pl.DataType, dialect: CsvDialect, form: str | None) -> pl.Series:
    """Return the values of texts, with null for a missing text and one that is not a value of the type."""
    if dtype == pl.String:
        return text
    bare = text.str.strip_chars(" ")
    if dtype == pl.Boolean:
        return bare.str.to_lowercase().replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean)
    given = declared_format(dtype, dialect, form)
    if dtype == pl.Date:
        return days_of_moments(moments(bare, ISO_DATE if given is None else format_regex(given)))
    if dtype == pl.Datetime and given in UNIX_TIMES:
        return _unix(bare, str(given))
    if dtype == pl.Datetime:
        return moments(bare, ISO_TIMESTAMP if given is None else format_regex(given))
    return _numbers(bare if form is None else plain_numbers(bare, form), dtype, dialect)


def declared_format(dtype: pl.DataType, dialect: CsvDialect, form: str | None) -> str | None:
    """Return the declared date or time format of a column; None if it is ISO 8601."""
    return form or (dialect.date_format if dtype == pl.Date else dialect.timestamp_format)


def _numbers(text: pl.Series, dtype: pl.DataType, dialect: CsvDialect) -> pl.Series:
    plain = _plain(text, dialect)
    if dtype.is_integer():
        quick = plain.cast(dtype, strict=False)
        odd = plain.is_not_null() & quick.is_null()
        if not odd.any():
            return quick
        return plain.str.replace(r"\.0*$", "").cast(dtype, strict=False)
    found = plain.cast(dtype, strict=False)
    found = found.set(~found.is_finite().fill_null(value=True), None)
    is_underflow = (found == 0) & plain.str.contains("^[^eE]*[1-9]")
    found = found.set(is_underflow.fill_null(value=False), None)
    large = (found.abs() >= most_exact(dtype)).fill_null(value=False)
    if not large.any():
        return found
    large_ones = found.filter(large)
    numbers = zip(plain.filter(large), large_ones, large_ones.cast(pl.String), large.arg_true(), strict=True)
    inexact = [at for digits, number, shown, at in numbers if not _is_same(Decimal(digits), number, shown)]
    return found.scatter(inexact, None) if inexact else found


def _is_same(written: Decimal, number: float, shown: str) -> bool:
    """Return whether a large number equals the written one if that is whole: exactly, or in its shown digits.

    1e23 is not a double, but the nearest double is displayed as 1e23.
    """
    return written in {Decimal(number), Decimal(shown)} or written != written.to_integral_value()


def _plain(text: pl.Series, dialect: CsvDialect) -> pl.Series:
    """Return numbers in the usual notation, with null for a text that is not a number of the dialect."""
    decimal, thousands = re.escape(dialect.decimal), re.escape(dialect.thousands or "")
    if dialect.decimal == "." and not thousands:
        return text
    whole = f"[0-9]{{1,3}}(?:{thousands}[0-9]{{3}})+|[0-9]+" if thousands else "[0-9]+"
    is_number = text.str.contains(f"^[+-]?(?:(?:{whole})(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?$")
    bare = text.str.replace_all(dialect.thousands, "", literal=True) if dialect.thousands else text
    plain = bare.str.replace(dialect.decimal, ".", literal=True)
    return pl.select(pl.when(is_number).then(plain)).to_series()


def _unix(text: pl.Series, unit: str) -> pl.Series:
    """Return the moments of Unix times. Seconds may have a fraction of up to six digits."""
    if unit != "unix_seconds":
        return unix_moments(text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False), unit)
    parts = text.str.extract_groups(r"^([+-]?[0-9]+)(?:\.([0-9]{0,6})0*)?$")
    whole = parts.struct.field("1")
    digits = whole + parts.struct.field("2").fill_null("").str.pad_end(6, "0")
    return unix_moments(digits.cast(pl.Int64, strict=False), "unix_microseconds")


def hint(text: str, dtype: pl.DataType, name: str, given: str | None = None, *, is_csv: bool = True) -> str:
    """Return which field of the declaration would help with a text that is not a value of its type."""
    bare = text.strip()
    if bare.lower() in MISSING or re.fullmatch(r"[+-]?inf(inity)?", bare.lower()):
        return "; if it marks a missing value, add it to 'null_values'"
    if dtype == pl.Boolean:
        return "; expected true, t, 1, false, f or 0"
    if dtype.is_temporal():
        return f"; {_about_time(bare, dtype, name, given, is_csv=is_csv)}"
    if is_number_format(given):
        return f"; expected a number in the declared format '{given}'"
    return f"; {_about_number(bare, dtype, is_csv=is_csv)}"


def _about_time(text: str, dtype: pl.DataType, name: str, given: str | None, *, is_csv: bool) -> str:
    field = "date_format" if dtype == pl.Date else "timestamp_format"
    declaration = f"csv: {{{field}: …}}" if is_csv else f"formats: {{{name}: …}}"
    if given in UNIX_TIMES:
        expected = f"expected a time of the years 1 to 9999 in the declared {given}, with at most microseconds"
    elif given is not None:
        expected = f"expected an existing one in the declared format '{given}'"
    else:
        expected = f"expected an existing one in ISO 8601; otherwise declare '{declaration}'"
    unit = _unix_unit(text) if dtype == pl.Datetime else None
    is_new = unit is not None and unit != given
    return f"{expected}; if it is Unix time, declare 'formats: {{{name}: {unit}}}'" if is_new else expected


def _unix_unit(text: str) -> str | None:
    """Return the likely unit of a Unix time, by its size: seconds up to the year 5138, and so on."""
    if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text):
        return None
    size = abs(Decimal(text))
    unit = next((it for it, per_second in UNIX_TIMES.items() if size < 10**11 * per_second), None)
    return unit if unit is not None and _unix(pl.Series([text]), unit).item() is not None else None


def _about_number(text: str, dtype: pl.DataType, *, is_csv: bool) -> str:
    if re.fullmatch(_ANY_NUMBER if dtype.is_float() else r"[+-]?[0-9]+(\.0*)?", text):
        return f"it does not fit {sql_type(dtype)} exactly, declare another data_type for the column"
    if dtype.is_integer() and re.fullmatch(_ANY_NUMBER, text):
        return "it is not a whole number, declare data_type double for the column"
    if is_csv and re.fullmatch(r"[+-]?[0-9.,' _\u00a0\u202f\u2019]+", text):
        return "declare 'csv: {decimal: …, thousands: …}'"
    return "expected a number"
