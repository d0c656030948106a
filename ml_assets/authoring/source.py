"""Reads a table whose format is not declared, with what its declaration must say about the format."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from ml_assets.contracts.dbt_names import wrong_names
from ml_assets.contracts.errors import DataError
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.csv_records import CsvError
from ml_assets.landing.detection import DetectedFile, detect
from ml_assets.landing.excel import is_workbook
from ml_assets.landing.folders import is_several
from ml_assets.landing.parquet_files import ParquetError, read_table
from ml_assets.landing.sources import Source, is_named_as_json
from ml_assets.project import declared_place

_PARQUET = b"PAR1"


@dataclass(frozen=True)
class FoundTable:
    """A table and its format.

    Attributes:
        rows: the values in their types.
        dialect: the format of a CSV file.
        null_values: the texts that stand for missing values.
        formats: the format of each column of dates or times that are not in ISO 8601.
        doubts: what else a column or a mark could be, by column; '' is the whole file.
        written: the day on which a local file was last changed (UTC).
    """

    file: str
    rows: pl.DataFrame
    dialect: CsvDialect = field(default_factory=CsvDialect)
    null_values: tuple[str, ...] = ("",)
    formats: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[str, str] = field(default_factory=dict)
    written: date | None = None

    @property
    def csv(self) -> dict[str, str]:
        """The fields of `csv` in the declaration: what differs from the default."""
        return {name: str(value) for name, value in self.dialect.model_dump(exclude_defaults=True).items()}


def read_found(file: str) -> FoundTable:
    """Return the table in a CSV or Parquet file.

    Raises:
        SourceError: the file is missing, or cannot be unpacked.
        DataError: it is not a table in CSV or Parquet, has no rows, or has a column with a name that no table may have.
    """
    if is_several(file):
        raise DataError(f"{file} is several files; expected one, of which the format is detected. Name one of them.")
    data = Source(file, {}).content()
    if is_workbook(data) or is_named_as_json(file):
        kind = "an Excel workbook" if is_workbook(data) else "JSON"
        raise DataError(
            f"{file} is {kind}; expected CSV or Parquet. Write it as one of them, or declare the table by hand: "
            "docs/raw-files.md of ml-assets."
        )
    try:
        found = _from_parquet(file, data) if data.startswith(_PARQUET) else _from_csv(file, detect(data))
    except (CsvError, ParquetError) as error:
        raise DataError(f"{file} {error}") from error
    if not found.rows.height:
        raise DataError(f"{file} has no rows; expected a header and at least a few hundred rows.")
    if wrong := [f"column '{name}' {sentence}." for name, sentence in wrong_names(found.rows.columns)]:
        raise DataError("\n".join(f"{file}: {it}" for it in wrong))
    local = Path(declared_place(file))
    written = datetime.fromtimestamp(local.stat().st_mtime, tz=UTC).date() if local.is_file() else None
    return replace(found, written=written)


def _from_parquet(file: str, data: bytes) -> FoundTable:
    rows = pl.from_arrow(read_table(data))
    assert isinstance(rows, pl.DataFrame)  # noqa: S101 - a table gives a DataFrame; `from_arrow` also accepts arrays
    if others := [f"{name} ({dtype})" for name, dtype in rows.schema.items() if not _is_usable(rows[name])]:
        raise DataError(
            f"{file} has columns that no contract can describe: {', '.join(others)}. Write it without "
            "them, or cast them."
        )
    plain = rows.with_columns(_plain(rows[name]) for name in rows.columns)
    floats = [it for it in plain if it.dtype.is_float()]
    texts = [
        text
        for text, value in (("NaN", float("nan")), ("inf", float("inf")), ("-inf", float("-inf")))
        if any((it.is_nan() if text == "NaN" else it == value).any() for it in floats)
    ]
    known = plain.with_columns(pl.when(pl.col(it.name).is_finite()).then(pl.col(it.name)) for it in floats)
    return FoundTable(file, known if texts else plain, null_values=("", *texts))


def _is_usable(column: pl.Series) -> bool:
    """Return whether a contract has a type for a column's values."""
    dtype = column.dtype
    if dtype in (pl.UInt64, pl.Int128):
        return column.cast(pl.Int64, strict=False).null_count() == column.null_count()
    return not (dtype.is_nested() or dtype in (pl.Binary, pl.Duration, pl.Time, pl.Null))


def _plain(column: pl.Series) -> pl.Series:
    """Return a column in one of the types that contracts use."""
    dtype = column.dtype
    if dtype.is_integer():
        return column.cast(pl.Int64)
    if dtype.is_float() or dtype.is_decimal():
        return column.cast(pl.Float64)
    if isinstance(dtype, pl.Datetime):
        return (
            column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        ).dt.cast_time_unit("us")
    return column.cast(pl.String) if isinstance(dtype, pl.Categorical | pl.Enum) else column


def _from_csv(file: str, found: DetectedFile) -> FoundTable:
    return FoundTable(
        file,
        found.frame(),
        found.dialect,
        found.null_values,
        {it.name: it.format for it in found.columns if it.format is not None},
        {it.name: it.doubt for it in found.columns if it.doubt}
        | ({"": "; ".join(found.doubts)} if found.doubts else {}),
    )
