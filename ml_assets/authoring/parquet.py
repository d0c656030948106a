"""Reads Parquet files as one table in the types that contracts use."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from ml_assets.authoring.parts import FilePart, check_file_columns, check_unread, each_part, first_problems
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.sql import sql_type
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.detection import DetectedColumn, detect_column
from ml_assets.landing.number_formats import is_number_format
from ml_assets.landing.parquet_files import read_table, without_type
from ml_assets.landing.text_values import values
from ml_assets.landing.time_detection import doubt_of_unix, find_unix_unit
from ml_assets.landing.time_formats import UNIX_TIMES, unix_moments

if TYPE_CHECKING:
    import pyarrow as pa

_EXACT: Final = 2**53


@dataclass(frozen=True)
class ParquetRows:
    """The rows of Parquet files.

    Attributes:
        null_values: the texts that stand for missing values: NaN and infinities, if they occur.
        formats: the formats of texts and numbers that are dates, times or formatted numbers.
        doubts: what else such a column could be.
        unread: the columns of a type that no contract has, each with the reason.
    """

    rows: pl.DataFrame
    null_values: tuple[str, ...]
    formats: Mapping[str, str]
    doubts: Mapping[str, str]
    unread: Mapping[str, str]


def from_parquet(file: str, parts: Sequence[FilePart]) -> ParquetRows:
    """Return the rows of all files.

    Raises:
        DataError: the files have other columns, or types that differ, or whole numbers that no contract can describe.
    """
    arrow: list[pa.Table] = each_part(file, parts, read_table)
    check_file_columns(file, parts, [it.column_names for it in arrow])
    nested = [without_type(it) for it in arrow]
    unread = {name: f"its type is {it}, which no contract has" for found in nested for name, it in found.items()}
    tables = [pl.DataFrame(it.drop_columns([*found])) for it, found in zip(arrow, nested, strict=True)]
    check_unread(parts, [it.columns for it in tables], unread)
    problems = []
    plain: list[pl.DataFrame] = []
    for part, rows in zip(parts, tables, strict=True):
        empty = [it.name for it in rows if it.null_count() == rows.height] if len(parts) > 1 else []
        columns = [name for name in rows.columns if name not in empty]
        if others := [f"{name} ({rows.schema[name]})" for name in columns if not _is_usable(rows[name])]:
            problems.append(
                f"{part.where} has whole numbers that are too large for a contract: {', '.join(others)}. Write it "
                "without them, or cast them."
            )
        plain.append(rows.select(_plain(rows[name]) for name in columns) if not others else rows)
    if problems:
        raise DataError("\n".join(first_problems(problems, file)))
    joined = pl.concat(_of_one_type(file, parts, plain, tables[0].columns))
    floats = [it for it in joined if it.dtype.is_float()]
    texts = [
        text
        for text, value in (("NaN", float("nan")), ("inf", float("inf")), ("-inf", float("-inf")))
        if any((it.is_nan() if text == "NaN" else it == value).any() for it in floats)
    ]
    known = joined.with_columns(pl.when(pl.col(it.name).is_finite()).then(pl.col(it.name)) for it in floats)
    rows = known if texts else joined
    found = {it.name: it for it in map(_detected, rows) if it is not None}
    return ParquetRows(
        rows.with_columns(_values(rows[name], it) for name, it in found.items()),
        ("", *texts),
        {name: it.format for name, it in found.items() if it.format is not None},
        {name: it.doubt for name, it in found.items() if it.doubt},
        unread,
    )


def _detected(column: pl.Series) -> DetectedColumn | None:
    """Return how texts are dates, times or formatted numbers, or whole numbers Unix times; None if they are not."""
    nulls = column.null_count()
    if column.dtype == pl.Int64 and nulls < column.len() and (unit := find_unix_unit(column.name, column)):
        return DetectedColumn(column.name, pl.Datetime("us"), unit, nulls, doubt_of_unix(unit))
    if column.dtype != pl.String:
        return None
    found = detect_column(_without_blanks(column), CsvDialect())
    is_used = found.dtype.is_temporal() and found.format not in UNIX_TIMES
    return found if is_used or is_number_format(found.format) else None


def _values(column: pl.Series, found: DetectedColumn) -> pl.Series:
    if found.format in UNIX_TIMES:
        return unix_moments(column, str(found.format)).alias(column.name)
    return values(_without_blanks(column), found.dtype, CsvDialect(), found.format).alias(column.name)


def _without_blanks(column: pl.Series) -> pl.Series:
    return column.set(column == "", None)


def _of_one_type(
    file: str, parts: Sequence[FilePart], tables: Sequence[pl.DataFrame], columns: Sequence[str]
) -> list[pl.DataFrame]:
    """Return the tables with the same types; a column that is empty in a file has the type of the others.

    Raises:
        DataError: the types of a column differ, so that no type holds every value.
    """
    schema, problems = dict[str, pl.DataType](), list[str]()
    for name in columns:
        types = {it.schema[name]: part.name for part, it in zip(parts, tables, strict=True) if name in it.columns}
        schema[name] = _wider(types)
        if not all(_fits(it[name], schema[name]) for it in tables if name in it.columns):
            shown = ", ".join(f"{sql_type(dtype)} in {where}" for dtype, where in types.items())
            problems.append(f"{file} has files in which the type of column '{name}' differs: {shown}. Cast it.")
    if problems:
        raise DataError("\n".join(problems))
    empty = [pl.DataFrame(schema=schema)]
    return [
        pl.concat([*empty, it], how="diagonal_relaxed").select(pl.col(n).cast(d) for n, d in schema.items())
        for it in tables
    ]


def _wider(types: Collection[pl.DataType]) -> pl.DataType:
    """Return the type that holds the values of all; the first if there is none."""
    for pair, wide in (({pl.Int64, pl.Float64}, pl.Float64()), ({pl.Date, pl.Datetime}, pl.Datetime("us"))):
        if len(types) > 1 and all(any(it == one for one in pair) for it in types):
            return wide
    return next(iter(types), pl.String())


def _fits(column: pl.Series, dtype: pl.DataType) -> bool:
    if column.dtype == pl.Int64 and dtype == pl.Float64:
        return not (column.abs() > _EXACT).any()
    return column.dtype == dtype or (column.dtype == pl.Date and dtype == pl.Datetime)


def _is_usable(column: pl.Series) -> bool:
    """Return whether whole numbers fit into the type that contracts have for them."""
    if column.dtype not in (pl.UInt64, pl.Int128):
        return True
    return column.cast(pl.Int64, strict=False).null_count() == column.null_count()


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
    return column.cast(pl.String) if isinstance(dtype, pl.Categorical | pl.Enum | pl.Null) else column
