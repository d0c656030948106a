"""Reads a Parquet file's columns as a contract's types. Other types are accepted only if no value changes.

pyarrow reads the file: it raises an error for a damaged file, while polars would end the process.
"""

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

import polars as pl

from ml_assets.contracts.sql import most_exact, sql_type
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.source_bytes import most_bytes
from ml_assets.landing.text_values import values
from ml_assets.landing.time_formats import UNIX_TIMES, days_of_moments, unix_moments

if TYPE_CHECKING:
    import pyarrow as pa

_BYTES_OF_A_VALUE: Final = 8
_UNITS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


class ParquetError(ValueError):
    """A file is not readable as Parquet."""


def read_table(data: bytes) -> "pa.Table":
    """Return a file's columns with their own types.

    Raises:
        ParquetError: the file is damaged, encrypted, or uses a feature that pyarrow does not support.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        _check_size(file.metadata.num_rows, file.metadata.num_columns)
        table = file.read()
        table.validate(full=True)
        names = table.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ParquetError(f"is not readable as Parquet: {reason.rstrip('.')}. Write or fetch it again.") from error
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ParquetError(f"has duplicate column names: {', '.join(twice)}; make all names unique.")
    return table.replace_schema_metadata(None)


def _check_size(rows: int, columns: int) -> None:
    """Raise if a small file claims more values than fit into memory, which run-length encoding makes possible."""
    if rows * max(columns, 1) * _BYTES_OF_A_VALUE > most_bytes():
        raise ParquetError(
            f"claims {rows:,} rows of {columns:,} columns, more than fit into this machine's memory. Split it."
        )


def without_type(table: "pa.Table") -> dict[str, str]:
    """Return the columns that no contract can describe, such as lists and binary values, each with its type."""
    return {it.name: str(it.type) for it in table.schema if not _has_contract_type(it.type)}


def _has_contract_type(arrow: "pa.DataType") -> bool:
    from pyarrow import types

    value = arrow.value_type if types.is_dictionary(arrow) else arrow
    return _is_known(value) or types.is_timestamp(value) or types.is_date64(value) or types.is_float16(value)


def columns_of(
    table: "pa.Table", schema: Mapping[str, pl.DataType], formats: Mapping[str, str], missing: Collection[str]
) -> tuple[pl.DataFrame, list[str]]:
    """Return a table's columns with the types of a contract, and a message for each column that cannot be converted.

    `formats` has the formats of dates and times by column, such as `unix_seconds`; the default is ISO 8601. The texts
    in `missing` mark missing dates and times, and include NaN and infinities.
    """
    from pyarrow import types

    found, problems = [], []
    for name in table.column_names:
        dtype, its = schema[name], table.column(name)
        if types.is_dictionary(its.type):
            its = its.cast(its.type.value_type)
        column, converted = _converted(its, dtype, formats.get(name), missing)
        lost = None if converted is None else column.is_not_null() & converted.is_null()
        if converted is None or lost is None:
            problems.append(f"'{name}' is {_sql(its.type)}, expected {sql_type(dtype)}")
        elif lost.any():
            problems.append(f"'{name}' is {_sql(its.type)}, and {_lost(column, lost, sql_type(dtype))}")
        else:
            found.append(converted.alias(name))
    return pl.DataFrame(found), problems


def _lost(column: pl.Series, lost: pl.Series, expected: str) -> str:
    """Return how many values cannot be converted, where the first is, and how to fix it."""
    is_odd = lost & ~column.is_finite() if column.dtype.is_float() else None
    if is_odd is not None and is_odd.any():
        return (
            f"{_count(is_odd)} NaN or infinite{_first(is_odd)}; if NaN and infinity mark missing values, add NaN, "
            "inf and -inf to 'null_values'"
        )
    about = "; expected texts in ISO 8601, or as 'formats' declares" if column.dtype == pl.String else ""
    return f"{_count(lost)} not exactly representable as {expected}{_first(lost)}{about}"


def _count(found: pl.Series) -> str:
    return f"{found.sum()} of its values {'is' if found.sum() == 1 else 'are'}"


def _first(found: pl.Series) -> str:
    return f", the first in row {found.arg_true()[0] + 1}"


def _is_known(arrow: "pa.DataType") -> bool:
    from pyarrow import types

    kinds = (
        types.is_null, types.is_boolean, types.is_integer, types.is_float32, types.is_float64, types.is_string,
        types.is_large_string, types.is_string_view, types.is_date32, types.is_decimal32, types.is_decimal64,
        types.is_decimal128,
    )  # fmt: skip
    return any(is_kind(arrow) for is_kind in kinds)


def _sql(arrow: "pa.DataType") -> str:
    """Return the SQL name of a file's type, with details that distinguish it from similar types."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_timestamp(arrow):
        return f"timestamp in {_UNITS[arrow.unit]}{' with time zone' if arrow.tz else ''}"
    return sql_type(pl.Series(pa.array([], arrow)).dtype) if _is_known(arrow) else str(arrow)


def _converted(
    its: "pa.ChunkedArray", dtype: pl.DataType, form: str | None, missing: Collection[str]
) -> tuple[pl.Series, pl.Series | None]:
    """Return a column, and its conversion with nulls for values that cannot be converted; None if none ever can."""
    import pyarrow as pa
    from pyarrow import types

    if its.null_count == len(its):
        nothing = pl.Series([None] * len(its), dtype=dtype)
        return nothing, nothing
    if types.is_timestamp(its.type):
        ticks = pl.Series(its.cast(pa.int64()).combine_chunks())
        at = unix_moments(ticks, f"unix_{_UNITS[its.type.unit]}")
        return ticks, at if dtype == pl.Datetime else days_of_moments(at) if dtype == pl.Date else None
    its = _widened(its)
    column = pl.Series(its.combine_chunks() if _is_known(its.type) else [])
    if column.dtype == pl.String and (dtype.is_temporal() or (dtype.is_numeric() and form is not None)):
        column = column.set(column.is_in([*missing]), None)
        return column, values(column, dtype, CsvDialect(), form)
    if column.dtype.is_float():
        column = _without_missing(column, missing)
    found = column if column.dtype == dtype else None
    if dtype == pl.Datetime and form in UNIX_TIMES and column.dtype.is_numeric():
        found = unix_moments(_as_number(column, pl.Int64()), str(form))
    elif dtype.is_numeric() and column.dtype.is_numeric():
        found = _as_number(column, dtype)
    elif dtype.is_temporal() and column.dtype == pl.Date:
        found = _where(column.dt.year().is_between(1, 9999), column.cast(dtype))
    return column, found


def _widened(its: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Return numbers of a type that polars lacks as a wider type."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_float16(its.type):
        return its.cast(pa.float32())
    if types.is_decimal32(its.type) or types.is_decimal64(its.type):
        return its.cast(pa.decimal128(its.type.precision, its.type.scale))
    return its


def _as_number(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Return numbers as another type, with nulls for values that it cannot represent exactly."""
    has, converted = column.dtype, column.cast(dtype, strict=False)
    if has.is_float() and dtype.is_integer():
        return _where((converted.cast(has) == column) & (column.abs() <= most_exact(has)), converted)
    if has.is_integer() and dtype.is_float():
        most = most_exact(dtype)
        is_same = column.is_between(-most, most) | (converted.cast(pl.Int128, strict=False) == column.cast(pl.Int128))
        return _where(is_same, converted)
    is_same = converted.cast(has, strict=False) == column
    return _where(is_same & converted.is_finite() if dtype.is_float() else is_same, converted)


def _without_missing(column: pl.Series, missing: Collection[str]) -> pl.Series:
    """Return numbers without NaN and infinities that are declared as missing."""
    gone = pl.lit(value=False)
    for text in missing:
        if re.fullmatch(r"(?i)\s*([+-]?inf(inity)?|nan)\s*", text):
            gone |= pl.col("it") == float(text)  # in polars NaN equals itself
    return column.alias("it").to_frame().select(pl.when(~gone).then(pl.col("it"))).to_series()


def _where(holds: pl.Series, converted: pl.Series) -> pl.Series:
    return pl.select(pl.when(holds).then(converted)).to_series()
