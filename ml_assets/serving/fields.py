"""One field of a request: which values it accepts, and the number that the model reads for each."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.table import Column, bounds
from ml_assets.logic.training.encoding import EXACT, Matrix, Vector
from ml_assets.serving.errors import FieldProblem, broken_fields

ABSENT: Final = object()
"""The value of a field that a row does not have. It is never imputed."""
SHOWN: Final = 80
"""Letters of a value that an answer repeats."""
_Scalar = float | int | str | bool
_KeyValue = _Scalar | date | datetime
"""Dates and times are columns of keys, and no inputs of models."""
Values = Sequence[Any]


class BrokenValueError(Exception):
    """A value breaks the contract; the message has what is expected."""


class UnseenCategoryError(Exception):
    """A value is a category that the training did not have."""


@dataclass(frozen=True)
class InputField:
    """One input of a model: its column in the contract, and how the model reads it.

    Attributes:
        codes: the code of each category as text; None for a number.
        blocks: whether a broken rule of each kind is an error, not a warning.
    """

    column: Column
    codes: Mapping[str, float] | None
    is_unseen_error: bool
    blocks: frozenset[str]

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.column.name

    @cached_property
    def encoded(self) -> Callable[[Any], float]:
        """Return the number that the model reads for a value, or raise what is wrong with the value."""
        typed, codes, is_nullable = self.typed, self.codes, "not_null" not in self.blocks
        kind, low, high = self._common
        expected = "a value or null" if self.column.is_nullable else "a value"

        def encoded(value: Any) -> float:
            if type(value) is kind and low <= value <= high:
                return value  # type: ignore[no-any-return]
            if value is None and is_nullable:
                return math.nan
            if value is None or value is ABSENT:
                raise BrokenValueError("a value, not null" if value is None else expected)
            found = typed(value)
            if codes is None:
                return float(found)  # type: ignore[arg-type]
            code = codes.get(_text(found))
            if code is None:
                raise UnseenCategoryError
            return code

        return encoded

    @property
    def _accepted(self) -> frozenset[_Scalar] | None:
        values = self.column.accepted_values if "accepted_values" in self.blocks else None
        return None if values is None else frozenset(values)

    @property
    def _range(self) -> tuple[float, float]:
        """The least and the largest value that the rules accept."""
        ends = (self.column.minimum, self.column.maximum) if "range" in self.blocks else (None, None)
        if self.column.dtype == pl.Float32:
            ends = tuple(None if it is None else float(np.float32(it)) for it in ends)  # type: ignore[assignment]
        low, high = ends
        return -math.inf if low is None else low, math.inf if high is None else high

    @property
    def _common(self) -> tuple[type | None, float, float]:
        """The type of most values, and between which of them one is its own code: the short way of `encoded`."""
        if self.codes is not None or self._accepted is not None:
            return None, 0, 0
        low, high = self._range
        if self.column.dtype == pl.Boolean:
            return bool, low, high
        if self.column.dtype == pl.Float64:
            return float, max(low, -sys.float_info.max), min(high, sys.float_info.max)
        if self.column.dtype.is_integer():
            least, most = _exact_ends(self.column.dtype)
            return int, max(low, least), min(high, most)
        return None, 0, 0

    @cached_property
    def _enum(self) -> pl.Enum | None:
        """The categories as a type; None if they are not text, or the contract does not accept all of them."""
        accepted = self._accepted
        if self.codes is None or self.column.dtype != pl.String or not (accepted is None or accepted >= {*self.codes}):
            return None
        return pl.Enum([*self.codes])

    @cached_property
    def typed(self) -> Callable[[Any], _KeyValue]:
        """Return a value in the type of the contract, or raise that it breaks a rule."""
        read, column = _reader(self.column.dtype, is_category=self.codes is not None), self.column
        accepted, (low, high) = self._accepted, self._range
        if accepted is None and low == -math.inf and high == math.inf:
            return read

        def checked(value: Any) -> _KeyValue:
            found = read(value)
            if accepted is not None and found not in accepted:
                raise BrokenValueError(f"one of {', '.join(map(str, column.accepted_values or ()))}")
            if isinstance(found, float | int) and not low <= found <= high:
                raise BrokenValueError(f"a value {bounds(column.minimum, column.maximum)}")
            return found

        return checked

    def encoded_column(self, column: pl.Series) -> tuple[Vector, int] | None:
        """Return the numbers that the model reads for a column, and how many of its categories are unseen.

        None if a value may break the contract, or the type is a rare one.
        """
        if column.dtype != self.column.dtype or (column.null_count() and "not_null" in self.blocks):
            return None
        if self._enum is not None:
            codes = column.cast(self._enum, strict=False).to_physical().cast(pl.Float64)
            unseen = codes.null_count() - column.null_count()
            may_break = self.is_unseen_error or self._accepted is not None
            return None if unseen and may_break else (codes.to_numpy(), unseen)
        kind, low, high = self._common
        least, most = column.min(), column.max()
        if kind is None or not (least is None or (low <= least and most <= high)):  # type: ignore[operator]
            return None
        numbers = column.cast(pl.Float64).to_numpy()
        return (numbers, 0) if np.isnan(numbers).sum() == column.null_count() else None

    def encode(self, values: Values, into: Matrix, position: int, problems: "Problems") -> int:
        """Write the values of the field to a column of a matrix; return how many are unseen categories."""
        encoded, unseen = self.encoded, 0
        for row, value in enumerate(values):
            try:
                into[row, position] = encoded(value)
            except UnseenCategoryError:
                unseen += 1
                if self.is_unseen_error:
                    problems.add(self, row, value, "a category that the model has seen in training")
            except BrokenValueError as error:
                problems.add(self, row, value, str(error))
        return unseen


def _text(value: _KeyValue) -> str:
    """Return a category as polars casts it to text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _reader(dtype: pl.DataType, *, is_category: bool) -> Callable[[Any], _KeyValue]:
    """Return a function that gives a value of JSON in a type of contracts, or raises that it is of another type."""
    if dtype == pl.Boolean:
        return _boolean
    if dtype == pl.String:
        return _string
    if dtype == pl.Date:
        return _date
    if isinstance(dtype, pl.Datetime):
        return _moment
    if dtype.is_integer():
        low, high = _ends(dtype) if is_category else _exact_ends(dtype)
        return lambda value: _integer(value, low, high)
    return _single if dtype == pl.Float32 else _number


def _ends(dtype: pl.DataType) -> tuple[int, int]:
    """Return the least and the largest number of a type of whole numbers."""
    low, high = (int(pl.select(end).item()) for end in (dtype.min(), dtype.max()))  # type: ignore[attr-defined]
    return low, high


def _exact_ends(dtype: pl.DataType) -> tuple[int, int]:
    """Return the least and the largest number of a type that doubles represent."""
    low, high = _ends(dtype)
    return max(low, -EXACT), min(high, EXACT)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BrokenValueError("true or false")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise BrokenValueError("text")
    return value


def _date(value: Any) -> date:
    if type(value) is date:
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise BrokenValueError("a date such as 2026-03-29") from error


def _moment(value: Any) -> datetime:
    """Return a time in UTC without a zone, as all times in the lake."""
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return found.replace(tzinfo=None) if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)
    except (TypeError, ValueError, OverflowError) as error:
        raise BrokenValueError("a time such as 2026-03-29T02:30:00Z, in UTC without a zone") from error


def _integer(value: Any, low: int, high: int) -> int:
    if type(value) is not int:
        if type(value) is not float or not value.is_integer():
            raise BrokenValueError("a whole number")
        value = int(value)
    if not low <= value <= high:
        raise BrokenValueError(f"a whole number from {low} to {high}")
    found: int = value
    return found


def _number(value: Any) -> float:
    if type(value) is float:
        if value - value == 0.0:  # neither NaN nor infinite
            return value
        raise BrokenValueError("a finite number; send null for a missing value")
    if type(value) is not int:
        raise BrokenValueError("a number")
    if not -EXACT <= value <= EXACT:
        raise BrokenValueError("a number that a double represents exactly")
    return float(value)


def _single(value: Any) -> float:
    with np.errstate(over="ignore"):
        found = float(np.float32(_number(value)))
    if not np.isfinite(found):
        raise BrokenValueError("a number within the range of float32")
    return found


class Problems:
    """Collects what is wrong, each kind of a problem once for each field."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], FieldProblem] = {}

    def add(self, broken: InputField, row: int, value: Any, expected: str) -> None:
        """Add a value that breaks the contract."""
        key = (broken.name, expected)
        if (before := self.found.get(key)) is not None:
            self.found[key] = replace(before, rows=before.rows + 1)
            return
        got = "absent" if value is ABSENT else f"is {shown(value, is_personal=broken.column.is_pii)}"
        self.found[key] = FieldProblem(broken.name, f"{got}; expected {expected}", row)

    def add_column(self, name: str, detail: str) -> None:
        """Add a problem of a whole column."""
        self.found[name, detail] = FieldProblem(name, detail)

    def refuse(self, model: str) -> None:
        """Raise if there are problems.

        Raises:
            RequestError: there are.
        """
        if self.found:
            raise broken_fields(model, [*self.found.values()])


def shown(value: Any, *, is_personal: bool) -> str:
    """Return a value as an answer repeats it."""
    if value is None:
        return "null"
    if is_personal:
        return "a personal value, which is not shown"
    text = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        text = text.lower()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
