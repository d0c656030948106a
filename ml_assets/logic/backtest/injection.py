"""Inject drift into tables from a day on, to test and demonstrate monitoring.

Not here: detecting it (see `ml_assets.logic.monitoring.drift` and `ml_assets.logic.monitoring.retraining`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Final, Literal, get_args

import numpy as np
import polars as pl

from ml_assets.contracts.errors import ContractError, DataError

Kind = Literal["unit", "stuck", "category", "missing", "slope", "flip", "prior"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
SHARES: Final[frozenset[Kind]] = frozenset({"stuck", "category", "missing", "flip"})
OF_LABELS: Final[frozenset[Kind]] = frozenset({"flip", "prior"})
NEW_CATEGORY: Final = "injected"
_FORMAT: Final = "KIND:COLUMN:FIRST_DAY:SIZE or KIND:COLUMN:FIRST_DAY:SIZE:SEED"


@dataclass(frozen=True)
class Injection:
    """An injected drift: its kind, columns, first day and size.

    Attributes:
        kind: `unit` multiplies values by the size. `stuck` gives a share of the rows the last value before the first
            day. `category` gives a share of the rows a new category. `missing` makes a share of the rows null. `slope`
            adds the size, in standard deviations of the days before, once more each day. `flip` inverts a share of the
            labels. `prior` removes rows of one class, so that the odds of a positive are multiplied by the size.
        column: A column or a shell pattern of columns (`temperature_*`); for `flip` and `prior` the target.
        size: A factor for `unit` and `prior`, where 1 is no drift; a share of the rows, or a share of the standard
            deviation per day, where 0 is no drift.

    Raises:
        DataError: The kind is unknown, there is no column, or the size is not valid for the kind.
    """

    kind: Kind
    column: str
    first_day: date
    size: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"injection '{self.kind}' is unknown; expected one of {', '.join(KINDS)}.")
        if not self.column:
            raise DataError(f"injection '{self.kind}' names no column. Write {_FORMAT}.")
        if self.seed < 0:
            raise DataError(f"injection '{self}' has the seed {self.seed}; expected a whole number from 0.")
        wanted = ""
        if not math.isfinite(self.size):
            wanted = "a number"
        elif self.kind in SHARES and not 0 <= self.size <= 1:
            wanted = "a share of the rows, from 0 to 1"
        elif self.kind == "prior" and self.size <= 0:
            wanted = "a factor above 0"
        if wanted:
            raise DataError(f"injection '{self}' has the size {self.size:g}; expected {wanted}.")

    @classmethod
    def parse(cls, text: str) -> Injection:
        """Parse `unit:distance_miles:2013-06-01:1.609`; a seed may follow.

        Raises:
            DataError: The text has another format.
        """
        parts = text.split(":")
        if len(parts) not in {4, 5}:
            raise DataError(f"injection '{text}' has {len(parts)} parts between colons; expected {_FORMAT}.")
        kind, column, first_day, size, *seed = parts
        known = next((one for one in KINDS if one == kind), None)
        if known is None:
            raise DataError(f"injection '{text}' is of kind '{kind}'; expected one of {', '.join(KINDS)}.")
        try:
            return cls(known, column, date.fromisoformat(first_day), float(size), int(seed[0]) if seed else 0)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(
                f"injection '{text}': {error}; expected a day like 2013-06-01, a number as size and a whole number as "
                f"seed. Write {_FORMAT}."
            ) from error

    def __str__(self) -> str:
        seed = f":{self.seed}" if self.seed else ""
        return f"{self.kind}:{self.column}:{self.first_day}:{self.size:g}{seed}"

    @property
    def is_of_labels(self) -> bool:
        """Whether it changes the labels."""
        return self.kind in OF_LABELS


def inject(frame: pl.DataFrame, injection: Injection, *, day: str) -> pl.DataFrame:
    """Inject drift into a table. Rows, their order, types, and rows of days before the first are unchanged.

    Integers stay integers: results are rounded. A missing value stays missing, except for `stuck`. A row without a day
    is unchanged.

    Raises:
        ContractError: A column is missing or has a type that the kind does not support, or the day is not a date.
        DataError: The kind is `prior`, which needs `inject_prior`.
    """
    if injection.kind == "prior":
        raise DataError(f"injection '{injection}' removes rows of features and labels: use `inject_prior`.")
    _check_day(frame, day, injection)
    since = (frame[day] >= injection.first_day).fill_null(value=False)
    drawn = np.random.default_rng(injection.seed).random(frame.height)
    # The rows of a larger share include those of a smaller one.
    hit = since & pl.Series(drawn < (injection.size if injection.kind in SHARES else 1))
    return frame.with_columns(
        _injected(frame, name, injection, hit=hit, since=since, day=day) for name in _columns(frame, injection, day)
    )


def inject_prior(
    features: pl.DataFrame, labels: pl.DataFrame, injection: Injection, *, key: Sequence[str], day: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Change the number of positives, without changing the rows of either class.

    Random rows of the class that becomes rarer are removed. No row is repeated, so keys are still unique. A row without
    a label counts as negative. Of several versions of a label, the last is used.

    Returns:
        Features and labels without the removed rows.

    Raises:
        ContractError: Columns are missing, the target is not binary, or the day is not a date.
        DataError: The injection is of another kind.
    """
    if injection.kind != "prior":
        raise DataError(f"injection '{injection}' is not of kind `prior`: use `inject`.")
    _check_day(features, day, injection)
    (target,) = _columns(labels, injection, day)
    _check_binary(labels[target], injection)
    answers = labels.unique(list(key), keep="last").select(*key, pl.col(target).cast(pl.Float64).alias("__truth"))
    truth = features.select(key).join(answers, on=list(key), how="left", maintain_order="left")["__truth"].fill_null(0)
    since = (features[day] >= injection.first_day).fill_null(value=False)
    share = np.where(truth.to_numpy() == 1, min(injection.size, 1), min(1 / injection.size, 1))
    stays = ~since | pl.Series(np.random.default_rng(injection.seed).random(features.height) < share)
    gone = features.filter(~stays).select(key)
    return features.filter(stays), labels.join(gone, on=list(key), how="anti", maintain_order="left")


def _injected(
    frame: pl.DataFrame, name: str, injection: Injection, *, hit: pl.Series, since: pl.Series, day: str
) -> pl.Series:
    """Return a column with the drift in the rows that it changes."""
    column = frame[name]
    if injection.kind in {"unit", "slope"} and (injection.size == (injection.kind == "unit") or not hit.any()):
        return column  # floating point would change integers beyond 2**53
    if injection.kind == "flip":
        _check_binary(column, injection)
        changed = ~column if column.dtype == pl.Boolean else 1 - column
    elif injection.kind == "unit":
        changed = _numbers(column, injection) * injection.size
    elif injection.kind == "slope":
        before = column.filter(~since)
        spread = _numbers(before if before.drop_nulls().len() > 1 else column, injection).std()
        days = (frame[day] - injection.first_day).dt.total_days() + 1
        changed = _numbers(column, injection) + days * (injection.size * float(spread or 0.0))  # type: ignore[arg-type]
    else:
        changed = pl.Series([_constant(column, injection, since)], dtype=column.dtype).new_from_index(0, column.len())
    if changed.dtype != column.dtype:
        changed = (changed.round() if column.dtype.is_integer() else changed).cast(column.dtype)
    return changed.zip_with(hit, column).alias(name)


def _constant(column: pl.Series, injection: Injection, since: pl.Series) -> object:
    """Return the value that a share of the rows gets."""
    if injection.kind == "missing":
        return None
    if injection.kind == "category":
        if column.dtype not in (pl.String, pl.Categorical):
            raise _wrong(column, injection, "text")
        return NEW_CATEGORY
    there = column.filter(~since).drop_nulls()
    return next(iter(there.tail(1) if there.len() else column.drop_nulls().head(1)), None)


def _numbers(column: pl.Series, injection: Injection) -> pl.Series:
    if not column.dtype.is_numeric():
        raise _wrong(column, injection, "numbers")
    return column.cast(pl.Float64)


def _check_binary(column: pl.Series, injection: Injection) -> None:
    is_binary = column.dtype == pl.Boolean or (
        column.dtype.is_numeric() and column.drop_nulls().cast(pl.Float64).is_in([0.0, 1.0]).all()
    )
    if not is_binary:
        raise _wrong(column, injection, "labels of 0 and 1")


def _wrong(column: pl.Series, injection: Injection, expected: str) -> ContractError:
    return ContractError(
        f"column '{column.name}' is {column.dtype}; injection '{injection}' expects {expected}. Name another column."
    )


def _columns(frame: pl.DataFrame, injection: Injection, day: str) -> list[str]:
    found = [name for name in frame.columns if name != day and fnmatchcase(name, injection.column)]
    if not found:
        raise ContractError(
            f"column '{injection.column}' of injection '{injection}' is missing; there are {', '.join(frame.columns)}. "
            "Name one of them, or a pattern like 'temperature_*'."
        )
    return found


def _check_day(frame: pl.DataFrame, day: str, injection: Injection) -> None:
    if frame.schema.get(day) != pl.Date:
        raise ContractError(
            f"day column '{day}' is {frame.schema.get(day, 'missing')}; injection '{injection}' expects a Date. "
            "Name the column with the day of a row."
        )
