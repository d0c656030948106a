"""How long after a prediction its label is known, as it is stated on the command line: 12h, 30d or 2w."""

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted

_TEXT: Final = re.compile(r"(\d{1,6})\s*([hdw])")
_UNITS: Final = {"h": ("hour", timedelta(hours=1)), "d": ("day", timedelta(days=1)), "w": ("week", timedelta(weeks=1))}


@dataclass(frozen=True)
class Horizon:
    """A length of time in whole hours, days or weeks."""

    number: int
    unit: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Return what a text stands for.

        Raises:
            DataError: it is no length of time, or 0.
        """
        found = _TEXT.fullmatch(text)
        if found is None or not int(found[1]):
            raise DataError(
                f"--horizon is '{text}'; expected a whole number of hours, days or weeks from 1 on, such as 12h, 30d "
                "or 2w."
            )
        return cls(int(found[1]), found[2])

    @property
    def words(self) -> str:
        """It as words, which is an interval in SQL too."""
        return counted(self.number, _UNITS[self.unit][0])

    @property
    def length(self) -> timedelta:
        """It as a length of time."""
        return self.number * _UNITS[self.unit][1]

    @property
    def days(self) -> int:
        """The fewest whole days that are at least as long."""
        return math.ceil(self.length / timedelta(days=1))

    def days_in(self, timezone: str) -> int:
        """Return the most days from a moment's day to the day that is so much later: where clocks change, one more."""
        return self.days + (timezone != "UTC")
