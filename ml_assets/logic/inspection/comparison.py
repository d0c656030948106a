"""A class of numbers that is given by a comparison, such as `>= 4` of a rating."""

import re
from dataclasses import dataclass
from typing import Final, Literal, cast

import polars as pl

Operator = Literal[">=", "<=", ">", "<"]
_COMPARISON: Final = re.compile(r"(>=|<=|>|<)\s*([+-]?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Comparison:
    """Values that compare so with a number."""

    operator: Operator
    number: float

    @classmethod
    def of(cls, text: str | None, values: pl.Series) -> "Comparison | None":
        """Return the comparison that a text is; None if it is none, or the values are no numbers."""
        found = _COMPARISON.fullmatch((text or "").strip())
        if found is None or not values.dtype.is_numeric():
            return None
        return cls(cast("Operator", found[1]), float(found[2]))

    def __str__(self) -> str:
        """Return it as SQL, without the value that is compared."""
        return f"{self.operator} {self.number:g}"

    def holds(self, values: pl.Series) -> pl.Series:
        """Return for each value whether the comparison holds; null for a missing one."""
        match self.operator:
            case ">=":
                return values >= self.number
            case "<=":
                return values <= self.number
            case ">":
                return values > self.number
            case _:
                return values < self.number
