"""Reads a file of rows to score: features in their types, and other columns, such as a key, as they are."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

import polars as pl

from ml_assets.lake.errors import SourceError
from ml_assets.landing import parquet_files
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.csv_files import read_text
from ml_assets.landing.csv_records import CsvError
from ml_assets.landing.json_records import JsonError, read_records
from ml_assets.landing.sources import Source, is_named_as_json, is_workbook
from ml_assets.secrets import redact

_MISSING: Final = ("",)
_UNDECLARED: Final = (
    "Here no format is declared: text is UTF-8, CSV has commas and decimal points, and only an empty value is missing."
)


def read_rows(file: str, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return all rows of a CSV, JSON or Parquet file, in the order of the file.

    Args:
        file: a path or a URL. CSV has commas and decimal points; an empty value is missing.
        types: the type of each feature. Other columns are texts, except in Parquet, where they keep their types.

    Raises:
        SourceError: the file is missing, damaged or of another format, or values of features are not of their types;
            all are listed.
    """
    source = Source(file, {}, _MISSING)
    data = source.content()
    if is_workbook(data):
        raise SourceError(f"{redact(file)} is an Excel workbook; expected CSV, JSON or Parquet. Save the sheet as CSV.")
    if data.startswith(b"PAR1"):
        return _of_parquet(file, data, types)
    try:
        schema = {name: types.get(name, pl.String()) for name in _columns_of(file, data, types)}
        return replace(source, schema=schema, optional=[*schema]).frame(data)
    except (CsvError, JsonError) as error:
        raise SourceError(f"source file {redact(file)} {error} {_UNDECLARED}") from error
    except SourceError as error:
        raise SourceError(f"{error} {_UNDECLARED}") from error


def _columns_of(file: str, data: bytes, features: Collection[str]) -> list[str]:
    """Return the columns of a text. Of those that are arrays, which cannot be read, only the features."""
    if not is_named_as_json(file):
        return read_text(data, CsvDialect(), _MISSING)[0].columns
    found = read_records(data)
    return [*found.text.columns, *(name for name in found.arrays if name in features)]


def _of_parquet(file: str, data: bytes, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the columns of a Parquet file, features in their types if no value changes.

    Raises:
        SourceError: the file is damaged, or values of features are not of their types.
    """
    try:
        table = parquet_files.read_table(data)
    except parquet_files.ParquetError as error:
        raise SourceError(f"source file {redact(file)} {error}") from error
    features = table.select([name for name in table.column_names if name in types])
    typed, problems = parquet_files.columns_of(features, types, {}, _MISSING)
    if problems:
        raise SourceError(f"source file {redact(file)} has other types than the features: {'; '.join(problems)}.")
    return pl.DataFrame(table).with_columns(typed)
