"""Names of types in contracts, for messages: `bigint`, not `Int64`."""

from typing import Final

import polars as pl

_NAMES: Final = {
    pl.Int8: "tinyint", pl.Int16: "smallint", pl.Int32: "integer", pl.Int64: "bigint", pl.Int128: "hugeint",
    pl.UInt8: "utinyint", pl.UInt16: "usmallint", pl.UInt32: "uinteger", pl.UInt64: "ubigint", pl.Float32: "real",
    pl.Float64: "double", pl.String: "varchar", pl.Categorical: "varchar", pl.Enum: "varchar", pl.Boolean: "boolean",
    pl.Date: "date", pl.Datetime: "timestamp", pl.Null: "a column without values",
}  # fmt: skip


def sql_type(dtype: pl.DataType) -> str:
    """Return a type's name in SQL."""
    if isinstance(dtype, pl.Decimal):
        return f"decimal({dtype.precision}, {dtype.scale})"
    return _NAMES[dtype.base_type()]


def most_exact(dtype: pl.DataType) -> int:
    """Return the limit up to which a floating-point type represents every integer exactly."""
    return 2**53 if dtype == pl.Float64 else 2**24
