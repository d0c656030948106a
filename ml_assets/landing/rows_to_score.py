"""Reads a file of rows to score: features in their types, and other columns, such as a key, as they are."""

import io
from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from ml_assets.lake.errors import SourceError
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.csv_files import read_text
from ml_assets.landing.csv_records import CsvError
from ml_assets.landing.json_records import JsonError, read_records
from ml_assets.landing.sources import Source, is_named_as_json, is_workbook


def read_rows(file: str, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return all rows of a CSV, JSON or Parquet file, in the order of the file.

    Args:
        file: a path or a URL. CSV has commas and decimal points; an empty value is missing.
        types: the type of each feature. Other columns are texts, except in Parquet, whose columns have types.

    Raises:
        SourceError: the file is missing, damaged or of another format, or values of features are not of their types;
            all are listed.
    """
    source = Source(file, {})
    data = source.content()
    if is_workbook(data):
        raise SourceError(f"{file} is an Excel workbook; expected CSV, JSON or Parquet. Save the sheet as CSV.")
    try:
        if data.startswith(b"PAR1"):
            return pl.read_parquet(io.BytesIO(data))
        text = read_records(data).text if is_named_as_json(file) else read_text(data, CsvDialect(), [""])[0]
    except (CsvError, JsonError, pl.exceptions.ComputeError) as error:
        raise SourceError(f"{file} cannot be read: it {error}") from error
    schema = {name: types.get(name, pl.String()) for name in text.columns}
    return replace(source, schema=schema, optional=[*schema]).frame(data)
