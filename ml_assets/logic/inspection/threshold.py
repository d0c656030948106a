"""A class of numbers on one side of a threshold, such as `>= 4` of a rating."""

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

_OPERATORS: Final[Mapping[str, Any]] = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_COMPARISON: Final = re.compile(r"(>=|<=|>|<)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
_MOST_EXACT: Final = 2**53
"""Below it, each whole number is a double."""


@dataclass(frozen=True)
class Threshold:
    """Values on one side of a number.

    Attributes:
        operator: one of `>=`, `<=`, `>` and `<`.
    """

    operator: str
    number: int | float

    @classmethod
    def of(cls, text: str | None, values: pl.Series) -> "Threshold | None":
        """Return the comparison in a text; None if the text is no comparison, or the values are not numbers."""
        found = _COMPARISON.fullmatch((text or "").strip())
        if found is None or not values.dtype.is_numeric():
            return None
        number = float(found[2])
        return cls(found[1], int(number) if number.is_integer() and abs(number) < _MOST_EXACT else number)

    def __str__(self) -> str:
        """Return it as SQL, without the value that is compared."""
        return f"{self.operator} {self.number}"

    def holds(self, values: pl.Series) -> pl.Series:
        """Return for each value whether the comparison holds; null for a missing one."""
        return values.to_frame().select(_OPERATORS[self.operator](pl.first(), self.number)).to_series()
