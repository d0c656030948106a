"""Compare the contract that a model was trained with to the current one, and classify each change.

Not here: the consequences (see `ml_assets.logic.monitoring.predictions`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.sql import sql_type
from ml_assets.contracts.table import Column, TableContract, bounds

What = Literal[
    "dropped", "new", "type", "role", "categorical", "unit", "nullable", "accepted_values", "range", "relationship",
    "key",
]  # fmt: skip
_Difference = tuple[What, bool, str]


@dataclass(frozen=True)
class ContractChange:
    """One difference between two contracts.

    A change is compatible if the model can still score.

    Attributes:
        column: the column; for the key, its columns.
    """

    column: str
    what: What
    is_compatible: bool
    sentence: str


def compare_contracts(trained_with: TableContract, now: TableContract) -> tuple[ContractChange, ...]:
    """Return all changes, in the order of the columns that the model was trained with, new columns last.

    A change is compatible if the model can still score: it does not read a new column, and it treats unknown values as
    declared. A change is incompatible if the inputs get another meaning or content:

    - a dropped column; another unit, role or key; numbers instead of categories, or the reverse;
    - another type, unless it represents every value of the former type exactly, as Int64 does for Int32;
    - fewer accepted values or a narrower range: rows like those of the training are now rejected;
    - a column that can now be missing and never was: LightGBM silently takes a missing value for 0.

    Columns that the model does not read are best excluded from both contracts.
    """
    there = {column.name: column for column in now.columns}
    known = set(trained_with.names)
    changes = []
    for column in trained_with.columns:
        what = f"column '{column.name}' of table '{now.name}'"
        if column.name not in there:
            changes.append(
                ContractChange(column.name, "dropped", False, f"{what} no longer exists; the model reads it.")
            )
            continue
        changes += [
            ContractChange(column.name, kind, is_compatible, f"{what} {sentence}.")
            for kind, is_compatible, sentence in _differences(column, there[column.name])
        ]
    if trained_with.key != now.key:
        then, today = (", ".join(key) or "nothing" for key in (trained_with.key, now.key))
        sentence = f"a row of table '{now.name}' was identified by {then} and is now identified by {today}."
        changes.append(ContractChange(", ".join(trained_with.key), "key", False, sentence))
    for column in now.columns:
        if column.name not in known:
            sentence = f"column '{column.name}' of table '{now.name}' is new; the model does not read it."
            changes.append(ContractChange(column.name, "new", True, sentence))
    return tuple(changes)


def _differences(then: Column, now: Column) -> Iterator[_Difference]:
    if then.dtype != now.dtype:
        is_wider = is_widening(then.dtype, now.dtype, is_categorical=then.is_categorical)
        yield "type", is_wider, f"was {then.dtype} and is now {now.dtype}"
    if then.role != now.role:
        yield "role", now.role == "feature", f"had {_role(then)} and has now {_role(now)}"
    if then.is_categorical != now.is_categorical:
        read = "categories; it was read as numbers" if now.is_categorical else "numbers; it was read as categories"
        yield "categorical", False, f"is now read as {read}"
    if then.unit != now.unit:
        yield "unit", False, f"was in {then.unit or 'no unit'} and is now in {now.unit or 'no unit'}"
    if then.is_nullable != now.is_nullable:
        yield (
            ("nullable", False, "was never missing and can now be missing")
            if now.is_nullable
            else ("nullable", True, "could be missing and is now never missing")
        )
    if then.accepted_values != now.accepted_values:
        yield from _accepted(then, now)
    if (then.minimum, then.maximum) != (now.minimum, now.maximum):
        yield _range(then, now)
    if then.relationship != now.relationship:
        yield "relationship", True, f"had to be {_points(then)} and has now to be {_points(now)}"


_EXACT_BITS: Mapping[pl.DataType, int] = {pl.Float32(): 24, pl.Float64(): 53}


def is_widening(then: pl.DataType, now: pl.DataType, *, is_categorical: bool = False) -> bool:
    """Return whether a type represents every value of another exactly; for categories, also with the same text."""
    if then.is_integer() and now.is_integer():
        narrow, wide = (pl.select(low=it.min(), high=it.max()).row(0) for it in (then, now))  # type: ignore[attr-defined]
        return bool(wide[0] <= narrow[0] and narrow[1] <= wide[1])
    if then.is_integer() and now.is_float():
        most = pl.select(then.max()).item()  # type: ignore[attr-defined]
        return not is_categorical and int(most).bit_length() <= _EXACT_BITS[now]
    return then == pl.Float32 and now == pl.Float64


def retyped(rows: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return stored rows with the types of a schema.

    Raises:
        DataError: a column has another type, and its values are no numbers that the new type holds exactly.
    """
    columns: list[pl.Series] = []
    for values in rows.select(name for name, dtype in rows.schema.items() if schema.get(name, dtype) != dtype):
        then, now = values.dtype, schema[values.name]
        if values.null_count() == values.len():
            columns.append(pl.Series(values.name, [None] * values.len(), now))
            continue
        lost = values.len()
        if then.is_numeric() and now.is_numeric():
            columns.append(values.cast(now, strict=False))
            lost = int(values.ne_missing(columns[-1].cast(then, strict=False)).sum())
        if lost:
            raise DataError(
                f"column '{values.name}' is stored as {sql_type(then)} and is now {sql_type(now)}; {lost} of "
                f"{values.len()} stored values cannot be converted without loss. Declare {sql_type(then)} again, or "
                "land the source in a new raw table."
            )
    return rows.with_columns(columns)


def _accepted(then: Column, now: Column) -> Iterator[_Difference]:
    kind: What = "accepted_values"
    if then.accepted_values is None:
        yield kind, False, f"could have any value and is now one of {_listed(now.accepted_values)}"
    elif now.accepted_values is None:
        yield kind, True, f"was one of {_listed(then.accepted_values)} and may now have any value"
    else:
        lost = [value for value in then.accepted_values if value not in now.accepted_values]
        new = [value for value in now.accepted_values if value not in then.accepted_values]
        if lost:
            yield kind, False, f"may no longer be {_listed(lost)}, which the model knows"
        if new:
            yield kind, True, f"may now also be {_listed(new)}, which the model does not know"


def _range(then: Column, now: Column) -> _Difference:
    narrowed = (now.minimum is not None and (then.minimum is None or now.minimum > then.minimum)) or (
        now.maximum is not None and (then.maximum is None or now.maximum < then.maximum)
    )
    was = bounds(then.minimum, then.maximum)
    return "range", not narrowed, f"was {was} and is now {bounds(now.minimum, now.maximum)}"


def _role(column: Column) -> str:
    return f"the role {column.role}" if column.role else "no role"


def _points(column: Column) -> str:
    other = column.relationship
    return "anything" if other is None else f"the {other.column} of a row of {other.table}"


def _listed(values: object) -> str:
    return ", ".join(str(value) for value in values) if isinstance(values, list | tuple) else str(values)


def input_changes(model: Model, now: TableContract) -> tuple[ContractChange, ...]:
    """Return how the features that a model reads have changed since its training."""
    trained = model.contract.contract()
    inputs = {feature.name for feature in model.spec.features}
    read = [name for name in trained.names if name in inputs]
    # Features that were offered to the model, and that it does not read, may change.
    concerned = [name for name in now.names if name in read or name not in trained.names]
    return compare_contracts(trained.only(read), now.only(concerned))
