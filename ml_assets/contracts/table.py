"""A table's contract: its columns, their types and roles, and the rules its rows keep.

Where a contract is written (dbt's YAML) stays out; see `ml_assets.contracts.from_dbt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from ml_assets.contracts.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandera.polars as pa
    from pandera.errors import SchemaErrors

Role = Literal["entity", "event_time", "prediction_time", "known_time", "feature", "label", "context"]


@dataclass(frozen=True)
class Column:
    """One column as the contract wants it."""

    name: str
    dtype: pl.DataType
    description: str = ""
    role: Role | None = None
    is_categorical: bool = False
    unit: str | None = None
    is_nullable: bool = True
    is_unique: bool = False
    accepted_values: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class TableContract:
    """What a table must look like."""

    name: str
    columns: tuple[Column, ...]
    description: str = ""
    key: tuple[str, ...] = ()
    owner: str | None = None
    where: str = ""

    def column(self, name: str) -> Column:
        """Return one column.

        Raises:
            ContractError: the contract has no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise ContractError(f"the contract of table '{self.name}' ({self.where}) has no column '{name}'.")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the contract's order."""
        return tuple(column.name for column in self.columns)

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """The columns' polars types."""
        return {column.name: column.dtype for column in self.columns}

    def with_role(self, role: Role) -> tuple[Column, ...]:
        """Return the columns that play a role."""
        return tuple(column for column in self.columns if column.role == role)

    def only(self, names: Sequence[str]) -> TableContract:
        """Return the contract of some of the columns, in the order asked for."""
        return TableContract(
            name=self.name,
            columns=tuple(self.column(name) for name in names),
            description=self.description,
            key=tuple(name for name in self.key if name in names),
            owner=self.owner,
            where=self.where,
        )


@dataclass(frozen=True)
class ValueRule:
    """One rule on the values of a column, by pandera's name for it."""

    name: str
    check: Literal["isin", "ge", "le"]
    argument: float | tuple[str, ...]


def value_rules(column: Column) -> tuple[ValueRule, ...]:
    """Return the rules on one column's values."""
    rules = []
    if column.accepted_values is not None:
        rules.append(
            ValueRule(f"{column.name} is one of {', '.join(column.accepted_values)}", "isin", column.accepted_values)
        )
    if column.minimum is not None:
        rules.append(ValueRule(f"{column.name} is at least {column.minimum:g}", "ge", column.minimum))
    if column.maximum is not None:
        rules.append(ValueRule(f"{column.name} is at most {column.maximum:g}", "le", column.maximum))
    return tuple(rules)


def to_pandera(contract: TableContract) -> pa.DataFrameSchema:
    """Return the contract as a pandera schema for polars frames."""
    import pandera.polars as pa

    columns = {
        column.name: pa.Column(
            column.dtype,
            [getattr(pa.Check, rule.check)(rule.argument, name=rule.name) for rule in value_rules(column)],
            nullable=column.is_nullable,
            unique=column.is_unique and contract.key != (column.name,),
            description=column.description,
        )
        for column in contract.columns
    }
    return pa.DataFrameSchema(columns, strict=True, ordered=False, unique=[*contract.key] or None, name=contract.name)


def rule_names(contract: TableContract) -> tuple[str, ...]:
    """Return the contract's rules, each as a short sentence."""
    names = ["columns are as in the contract"]
    if contract.key:
        names.append(f"{' and '.join(contract.key)} {'is' if len(contract.key) == 1 else 'are'} unique")
    for column in contract.columns:
        if not column.is_nullable:
            names.append(f"{column.name} is never missing")
        if column.is_unique and contract.key != (column.name,):
            names.append(f"{column.name} is unique")
        names += [rule.name for rule in value_rules(column)]
    return tuple(names)


def broken_rules(frame: pl.DataFrame, contract: TableContract) -> dict[str, str]:
    """Return the rules that a frame breaks, each with a sentence that gives counts and examples; empty if none."""
    from pandera.errors import SchemaErrors

    wrong = shape_mistakes(frame.schema, contract)
    if wrong:
        return {"columns are as in the contract": "\n".join(wrong)}
    try:
        to_pandera(contract).validate(frame, lazy=True)
    except SchemaErrors as error:
        return _broken(error, frame, contract)
    return {}


def check(frame: pl.DataFrame, contract: TableContract) -> pl.DataFrame:
    """Return the frame as it is, if it keeps its contract.

    Raises:
        ContractError: it does not; the message lists every broken rule with counts and examples.
    """
    broken = broken_rules(frame, contract)
    if broken:
        raise ContractError("\n".join(broken.values()))
    return frame


def shape_mistakes(schema: pl.Schema, contract: TableContract) -> list[str]:
    """Return what is wrong with a frame's columns and types, as sentences."""
    where = f"; see {contract.where}" if contract.where else ""
    mistakes = []
    for column in contract.columns:
        got = schema.get(column.name)
        if got is None:
            mistakes.append(
                f"column '{column.name}' of table '{contract.name}' is missing; the contract wants "
                f"{column.dtype}{where}."
            )
        elif got != column.dtype:
            mistakes.append(
                f"column '{column.name}' of table '{contract.name}' is {got}; the contract wants {column.dtype}{where}."
            )
    strangers = [name for name in schema if name not in contract.names]
    if strangers:
        mistakes.append(f"table '{contract.name}' has columns that its contract does not know: {strangers}{where}.")
    return mistakes


def _broken(error: SchemaErrors, frame: pl.DataFrame, contract: TableContract) -> dict[str, str]:
    """Return pandera's findings as rule and sentence."""
    where = f"; see {contract.where}" if contract.where else ""
    table = f"of table '{contract.name}'"
    found = {}
    for broken in error.schema_errors:
        column = str(broken.schema.name)
        named = getattr(broken.check, "name", None)
        if named:
            cases = broken.failure_cases
            values = cases.to_series(0) if isinstance(cases, pl.DataFrame) else pl.Series([cases])
            examples = ", ".join(str(value) for value in values.unique(maintain_order=True).head(5))
            found[str(named)] = (
                f"rule '{named}' {table} is broken in {values.len()} of {frame.height} rows, for instance by "
                f"{examples}{where}."
            )
        elif "null" in str(broken.check):
            count = frame[column].null_count()
            found[f"{column} is never missing"] = (
                f"column '{column}' {table} is missing in {count} of {frame.height} rows{where}."
            )
        else:
            names = [column] if column in frame.columns else [*contract.key]
            doubled = frame.select(names).filter(pl.struct(names).is_duplicated())
            if names != [*contract.key]:
                doubled = doubled.drop_nulls()  # as dbt's `unique` does: what is missing is not doubled
                if doubled.is_empty():
                    continue
            example = f", for instance {doubled.row(0)}" if doubled.height else ""
            found[f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} unique"] = (
                f"{doubled.height} of {frame.height} rows {table} share their {', '.join(names)}{example}{where}."
            )
    return found
