"""A table's contract as a JSON record, which is stored with what was built under it. The round trip is exact.

Not here: comparing two of them (see `ml_assets.contracts.changes`).
"""

from __future__ import annotations

from dataclasses import fields
from typing import Self

import polars as pl
from pydantic import ConfigDict

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.table import Column, Relationship, Role, TableContract

_TYPES = {
    str(dtype): dtype
    for dtype in (
        pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64(), pl.Float32(),
        pl.Float64(), pl.String(), pl.Boolean(), pl.Date(), pl.Datetime("us"),
    )
}  # fmt: skip


class _Part(Record):
    model_config = ConfigDict(allow_inf_nan=False)  # JSON has neither


class ColumnRecord(_Part):
    """One column of a contract, with the polars name of its type."""

    name: str
    dtype: str
    description: str = ""
    role: Role | None = None
    is_categorical: bool = False
    is_pii: bool = False
    unit: str | None = None
    is_nullable: bool = True
    is_unique: bool = False
    accepted_values: tuple[str | int | float | bool, ...] | None = None
    minimum: int | float | None = None  # an integer is stored exactly, also beyond 2^53
    maximum: int | float | None = None
    relationship: Relationship | None = None
    known_time: str | None = None
    expression: str | None = None
    is_nan_missing: bool = False

    @classmethod
    def of(cls, column: Column) -> Self:
        """Return the record of a column.

        Raises:
            ContractError: contracts do not support its type.
        """
        given = {field.name: getattr(column, field.name) for field in fields(column)}
        if str(column.dtype) not in _TYPES:
            raise ContractError(
                f"column '{column.name}' is {column.dtype}, which contracts do not support; expected one of "
                f"{', '.join(_TYPES)}."
            )
        return cls(**{**given, "dtype": str(column.dtype)})

    def column(self) -> Column:
        """Return the column.

        Raises:
            ContractError: contracts do not support its type.
        """
        if self.dtype not in _TYPES:
            raise ContractError(
                f"column '{self.name}' of a stored contract is {self.dtype!r}; expected one of {', '.join(_TYPES)}. "
                "It was stored by another version of ml-assets."
            )
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return Column(**{**given, "dtype": _TYPES[self.dtype]})


class ContractRecord(_Part):
    """A table's contract."""

    name: str
    columns: tuple[ColumnRecord, ...]
    description: str = ""
    key: tuple[str, ...] = ()
    unique_together: tuple[tuple[str, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    known_time: str | None = None
    is_by_day: bool = False
    owner: str | None = None
    where: str = ""

    @classmethod
    def of(cls, contract: TableContract) -> Self:
        """Return the record of a contract.

        Raises:
            ContractError: contracts do not support a column's type.
        """
        given = {field.name: getattr(contract, field.name) for field in fields(contract) if field.compare}
        columns = tuple(ColumnRecord.of(column) for column in contract.columns)
        return cls(**{**given, "columns": columns, "warnings": sorted(contract.warnings)})

    def contract(self) -> TableContract:
        """Return the contract.

        Raises:
            ContractError: contracts do not support a column's type.
        """
        given = {name: getattr(self, name) for name in type(self).model_fields}
        columns = tuple(column.column() for column in self.columns)
        return TableContract(**{**given, "columns": columns, "warnings": frozenset(self.warnings)})
