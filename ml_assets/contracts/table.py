"""The contract of a table: its columns, their types and roles, the rules for its rows, and its record in JSON.

Not here: reading contracts from dbt's YAML (see `ml_assets.contracts.from_dbt`), checking rows (see
`ml_assets.contracts.checking`), and comparing two contracts (see `ml_assets.contracts.changes`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, Self

import polars as pl
from pydantic import ConfigDict

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.json_record import Record

Role = Literal["entity", "event_time", "prediction_time", "known_time", "feature", "label", "context"]
Value = str | int | float | bool
Kind = Literal["columns", "finite", "not_null", "accepted_values", "range", "relationship", "unique", "expectation"]

SHAPE = "columns are as in the contract"
PERSONAL = "(personal)"
"""Replaces a personal value wherever rows are shown."""
ALWAYS = "always"
"""The known time of reference data."""
RECEIVED_AT = "received_at"
GONE_AT = "gone_at"
_TYPES = {
    str(dtype): dtype
    for dtype in (
        pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64(), pl.Float32(),
        pl.Float64(), pl.String(), pl.Boolean(), pl.Date(), pl.Datetime("us"),
    )
}  # fmt: skip
"""The types that contracts support, by name."""
_ROW_KINDS = frozenset({"finite", "not_null", "accepted_values", "range", "relationship"})


@dataclass(frozen=True)
class Relationship:
    """The column of another table in which every value of a column must exist."""

    table: str
    column: str


@dataclass(frozen=True)
class Column:
    """One column of a contract.

    `known_time` and `expression` are SQL over the row, for raw tables: when the value could first be known, and how
    landing computes a column that the source does not have. With `is_nan_missing`, also for raw tables, landing
    replaces NaN by null.
    """

    name: str
    dtype: pl.DataType
    description: str = ""
    role: Role | None = None
    is_categorical: bool = False
    is_pii: bool = False
    unit: str | None = None
    is_nullable: bool = True
    is_unique: bool = False
    accepted_values: tuple[Value, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    relationship: Relationship | None = None
    known_time: str | None = None
    expression: str | None = None
    is_nan_missing: bool = False


@dataclass(frozen=True)
class Rule:
    """One rule of a contract. Checks, errors and quarantined rows refer to it by `name`, a sentence."""

    name: str
    kind: Kind
    columns: tuple[str, ...] = ()
    accepted_values: tuple[Value, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    relationship: Relationship | None = None
    is_blocking: bool = True

    @property
    def is_row_rule(self) -> bool:
        """Whether the rule applies to single rows, so that rows that break it can be quarantined."""
        return self.kind in _ROW_KINDS


@dataclass(frozen=True)
class TableContract:
    """The contract of a table.

    Attributes:
        key: columns that identify a row; unique.
        unique_together: other unique combinations of columns.
        warnings: names of rules that warn instead of blocking.
        known_time: SQL over the row, for raw tables: when the row could first be known; `always` for reference data.
        is_by_day: whether the table has one file per day.
        sources: names of the sources that a model reads, directly or indirectly. They are not part of the contract's
            record.
    """

    name: str
    columns: tuple[Column, ...]
    description: str = ""
    key: tuple[str, ...] = ()
    unique_together: tuple[tuple[str, ...], ...] = ()
    warnings: frozenset[str] = frozenset()
    known_time: str | None = None
    is_by_day: bool = False
    owner: str | None = None
    where: str = ""
    sources: tuple[str, ...] = field(default=(), compare=False)

    def column(self, name: str) -> Column:
        """Return one column.

        Raises:
            ContractError: the contract has no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise ContractError(f"the contract of table '{self.name}' ({self.where}) has no column '{name}'.")

    @functools.cached_property
    def personal(self) -> frozenset[str]:
        """The columns whose values no message shows."""
        return frozenset(column.name for column in self.columns if column.is_pii)

    def shown(self, name: str | None, value: object) -> object:
        """Return a column's value for a message; a personal value is replaced."""
        return redacted(name, value, self.personal)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the contract's order."""
        return tuple(column.name for column in self.columns)

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """The columns' polars types."""
        return {column.name: column.dtype for column in self.columns}

    def with_role(self, role: Role) -> tuple[Column, ...]:
        """Return the columns that have a role."""
        return tuple(column for column in self.columns if column.role == role)

    def only(self, names: Sequence[str]) -> TableContract:
        """Return the contract of some of the columns, in the given order.

        A rule over several columns is included only if all of them are.
        """
        return replace(
            self,
            columns=tuple(self.column(name) for name in names),
            key=self.key if set(self.key) <= set(names) else (),
            unique_together=tuple(group for group in self.unique_together if set(group) <= set(names)),
        )

    @functools.cached_property
    def rules(self) -> tuple[Rule, ...]:
        """All rules: columns and types first, then uniqueness over the table, then column by column."""
        groups = dict.fromkeys([*([self.key] if self.key else []), *self.unique_together])
        single = [(column.name,) for column in self.columns if column.is_unique and (column.name,) not in groups]
        rules = [Rule(SHAPE, "columns"), *(Rule(_unique_name(group), "unique", group) for group in groups)]
        for column in self.columns:
            rules += _column_rules(column)
            if (column.name,) in single:
                rules.append(Rule(_unique_name((column.name,)), "unique", (column.name,)))
        return tuple(replace(rule, is_blocking=rule.name not in self.warnings) for rule in rules)

    @functools.cached_property
    def rules_digest(self) -> str:
        """A digest of all rules and column types; when it changes, stored rows are checked again."""
        text = str((self.rules, [*self.schema.items()]))
        return hashlib.blake2b(text.encode(), digest_size=8, usedforsecurity=False).hexdigest()

    def rule(self, name: str) -> Rule:
        """Return one rule by its sentence.

        Raises:
            ContractError: the contract has no such rule.
        """
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise ContractError(f"the contract of table '{self.name}' ({self.where}) has no rule '{name}'.")


def redacted(name: str | None, value: object, personal: Collection[str]) -> object:
    """Return a column's value for a message; a value of a personal column is replaced."""
    return PERSONAL if name in personal and value is not None else value


def _unique_name(columns: Sequence[str]) -> str:
    if len(columns) == 1:
        return f"{columns[0]} is unique"
    return f"{', '.join(columns[:-1])} and {columns[-1]} are unique together"


def _listed(values: Sequence[Value]) -> str:
    """Return values as a list that is short enough for a name."""
    more = f" and {len(values) - 10} more" if len(values) > 20 else ""
    return ", ".join(str(value) for value in (values[:10] if more else values)) + more


def bounds(minimum: float | None, maximum: float | None) -> str:
    """Return a range as text."""
    if minimum is None and maximum is None:
        return "unbounded"
    if minimum is None or maximum is None:
        return f"at most {_number(maximum)}" if minimum is None else f"at least {_number(minimum)}"
    return f"between {_number(minimum)} and {_number(maximum)}"


def _number(value: float | None) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _column_rules(column: Column) -> list[Rule]:
    name, one = column.name, (column.name,)
    rules = []
    if column.dtype.is_float():
        rules.append(Rule(f"{name} is finite", "finite", one))
    if not column.is_nullable:
        rules.append(Rule(f"{name} is never missing", "not_null", one))
    if column.accepted_values is not None:
        rules.append(
            Rule(
                f"{name} is one of {_listed(column.accepted_values)}",
                "accepted_values",
                one,
                accepted_values=column.accepted_values,
            )
        )
    low, high = column.minimum, column.maximum
    if low is not None or high is not None:
        rules.append(Rule(f"{name} is {bounds(low, high)}", "range", one, minimum=low, maximum=high))
    if (other := column.relationship) is not None:
        sentence = f"{name} is the {other.column} of a row of {other.table}"
        rules.append(Rule(sentence, "relationship", one, relationship=other))
    return rules


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
    """A table's contract, as it is stored with what was built under it. The round trip is exact."""

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
