"""Texts of a CSV file as values of a contract's types: exactly what the text says, or no value at all.

Which texts are missing values is decided before; see `resources.csv_files`.
"""

import re
from typing import Final

import polars as pl

from resources.csv_dialect import CsvDialect
from resources.sql_types import most_exact, sql_type
from resources.time_formats import ISO_DATE, ISO_TIMESTAMP, UNIX_TIMES, days, format_regex, moments, unix_moments

_BOOLEANS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_MISSING: Final = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "\\n", "-", ".", "?"})
_DIGITS_ONLY: Final = re.compile(r"[+-]?[0-9]+")


def values(text: pl.Series, dtype: pl.DataType, dialect: CsvDialect, form: str | None) -> pl.Series:
    """Return what texts say, null where a text is no value of the type.

    Args:
        text: the texts; missing values are null.
        dtype: the type that the contract declares.
        dialect: how numbers and dates are written.
        form: how this one column writes its dates or times, if it was declared.
    """
    if dtype == pl.String:
        return text
    bare = text.str.strip_chars(" ")
    if dtype == pl.Boolean:
        return bare.str.to_lowercase().replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean)
    if dtype == pl.Date:
        given = form or dialect.date_format
        return days(moments(bare, ISO_DATE if given is None else format_regex(given)))
    if dtype == pl.Datetime and form in UNIX_TIMES:
        return _unix(bare, str(form))
    if dtype == pl.Datetime:
        given = form or dialect.timestamp_format
        return moments(bare, ISO_TIMESTAMP if given is None else format_regex(given))
    return _numbers(bare, dtype, dialect)


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
    large = (found.abs() >= most_exact(dtype)).fill_null(value=False)
    if not large.any():
        return found
    pairs = zip(plain.filter(large), found.filter(large), large.arg_true(), strict=True)
    inexact = [at for digits, number, at in pairs if _DIGITS_ONLY.fullmatch(digits) and int(digits) != int(number)]
    return found.scatter(inexact, None) if inexact else found


def _plain(text: pl.Series, dialect: CsvDialect) -> pl.Series:
    """Return numbers as every reader of numbers knows them; null where a text is none of the dialect's."""
    decimal, thousands = re.escape(dialect.decimal), re.escape(dialect.thousands or "")
    if dialect.decimal == "." and not thousands:
        return text
    whole = f"[0-9]{{1,3}}(?:{thousands}[0-9]{{3}})+|[0-9]+" if thousands else "[0-9]+"
    is_number = text.str.contains(f"^[+-]?(?:(?:{whole})(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?$")
    bare = text.str.replace_all(dialect.thousands, "", literal=True) if dialect.thousands else text
    plain = bare.str.replace(dialect.decimal, ".", literal=True)
    return pl.select(pl.when(is_number).then(plain)).to_series()


def _unix(text: pl.Series, unit: str) -> pl.Series:
    """Return moments of Unix time; seconds may have a fraction of up to six digits."""
    if unit != "unix_seconds":
        return unix_moments(text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False), unit)
    parts = text.str.extract_groups(r"^([+-]?[0-9]+)(?:\.([0-9]{0,6})0*)?$")
    whole = parts.struct.field("1")
    digits = whole + parts.struct.field("2").fill_null("").str.pad_end(6, "0")
    return unix_moments(digits.cast(pl.Int64, strict=False), "unix_microseconds")


def hint(text: str, dtype: pl.DataType, name: str) -> str:
    """Return which field of the declaration would help with a text that is no value of its type."""
    bare = text.strip()
    if bare.lower() in _MISSING or re.fullmatch(r"[+-]?inf(inity)?", bare.lower()):
        return "; if it stands for a missing value, add it to 'null_values'"
    if dtype == pl.Boolean:
        return "; expected true, t, 1, false, f or 0"
    return f"; {_about_time(bare, dtype, name) if dtype.is_temporal() else _about_number(bare, dtype)}"


def _about_time(text: str, dtype: pl.DataType, name: str) -> str:
    field = "date_format" if dtype == pl.Date else "timestamp_format"
    unix = f" or 'formats: {{{name}: unix_seconds}}'" if dtype == pl.Datetime and text.isdigit() else ""
    return f"expected an existing one in ISO 8601, unless 'csv: {{{field}: …}}'{unix} is declared"


def _about_number(text: str, dtype: pl.DataType) -> str:
    if re.fullmatch(r"[+-]?[0-9]+(\.0*)?", text):
        return f"it does not fit {sql_type(dtype)} exactly, declare another data_type for the column"
    if dtype.is_integer() and re.fullmatch(r"[+-]?[0-9]*\.?[0-9]*([eE][+-]?[0-9]+)?", text):
        return "it is no whole number, declare data_type double for the column"
    if re.fullmatch(r"[+-]?[0-9.,' _\u00a0\u202f\u2019]+", text):
        return "declare 'csv: {decimal: …, thousands: …}'"
    return "expected a number"
