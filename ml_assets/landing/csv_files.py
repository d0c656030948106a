"""Reads a CSV file as text columns, with the line number of each record.

pyarrow reads the file. `ml_assets.landing.csv_records` scans the bytes independently, and both must find the same
number of records. Not here: conversion to types (see `ml_assets.landing.text_values`).
"""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from typing import Final

import polars as pl

from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.csv_records import CsvError, Records, records_of

_BLOCK: Final = 1 << 22
_WIDE_MARKS: Final = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
                      (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_ONE_BYTE: Final = ("iso8859", "cp125", "koi8", "mac-")
_CONTROLS: Final = re.compile("[\x80-\x9f]")


def read_text(data: bytes, dialect: CsvDialect, null_values: Sequence[str]) -> tuple[pl.DataFrame, Records]:
    """Return a file's values as text, with nulls for `null_values`, and where its records begin.

    Raises:
        CsvError: the file does not conform to its dialect.
    """
    import pyarrow as pa
    from pyarrow import csv as pyarrow_csv

    text = _as_utf8(data, dialect)
    records = records_of(text, dialect)
    names = _names(records, dialect)
    try:
        table = pyarrow_csv.read_csv(
            pa.py_buffer(records.text),
            read_options=pyarrow_csv.ReadOptions(
                use_threads=False, block_size=max(_BLOCK, records.longest), column_names=names
            ),
            parse_options=pyarrow_csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote or False,
                double_quote=bool(dialect.quote),
                escape_char=dialect.escape or False,
                newlines_in_values=records.has_breaks,
                ignore_empty_lines=False,
            ),
            convert_options=pyarrow_csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(names, pa.large_string()),
                null_values=[*null_values],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        raise CsvError(f"is not readable as CSV: {error}. Declare its format: 'csv' of the raw table.") from error
    if table.num_rows != records.starts.size:
        raise CsvError(
            f"has {records.starts.size} records, but {table.num_rows} were read, so nothing of it is landed. Write the "
            "file according to RFC 4180, with every value quoted."
        )
    frame = pl.from_arrow(table.slice(1))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table gives a DataFrame; `from_arrow` also accepts arrays
    return frame, records


def _as_utf8(data: bytes, dialect: CsvDialect) -> bytes:
    """Return a file's text in UTF-8, without a byte order mark."""
    named = codecs.lookup(dialect.encoding).name
    wide = next((name for mark, name in _WIDE_MARKS if data.startswith(mark)), None)
    if wide is not None and named == "utf-8":
        raise CsvError(f"begins with the byte order mark of {wide}; declare 'csv: {{encoding: {wide}}}'.")
    try:
        text = data.decode(named)
    except UnicodeDecodeError as error:
        raise CsvError(
            f"line {error.object.count(10, 0, error.start) + 1} has bytes that are not {dialect.encoding}; declare the "
            "encoding of the file, such as 'csv: {encoding: windows-1252}'."
        ) from error
    if named.startswith(_ONE_BYTE) and not text.isascii() and _is_utf8(data):
        raise CsvError(f"is UTF-8, not {dialect.encoding}. Remove 'encoding' from 'csv' of the raw table.")
    if named == "iso8859-1" and (found := _CONTROLS.search(text)):
        line = text.count("\n", 0, found.start()) + 1
        raise CsvError(
            f"line {line} has a control character, which does not occur in latin-1 texts; it is probably windows-1252: "
            "declare 'csv: {encoding: windows-1252}'."
        )
    return text.removeprefix("\ufeff").encode()


def _is_utf8(data: bytes) -> bool:
    """Return whether bytes are valid UTF-8. Accented text in a one-byte encoding is practically never valid UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _names(records: Records, dialect: CsvDialect) -> list[str]:
    """Return the names in the header."""
    stop = int(records.starts[1]) if records.starts.size > 1 else len(records.text)
    header = io.StringIO(records.text[:stop].decode(), newline="")
    [names] = csv.reader(
        header,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape,
        strict=True,
    )
    if empty := [n for n, name in enumerate(names, start=1) if not name.strip()]:
        raise CsvError(
            f"line 1 has no name for column {', '.join(map(str, empty))}; name every column in the header, "
            "or remove the delimiter at the end of every line. If pandas wrote its index there, write with index=False."
        )
    if twice := [n for n, name in enumerate(names, start=1) if names.count(name) > 1]:
        raise CsvError(
            f"line 1 gives columns {', '.join(map(str, twice))} the same name as another column; make all names unique."
        )
    return names
