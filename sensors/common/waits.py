"""What each group waits for, kept from look to look: a look opens only what has changed, and the rest waits as before.

Why something waits stays out; see `ml_assets.stages.common.updating`.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from typing import Final

import dagster as dg
from pydantic import BaseModel, ConfigDict

from ml_assets.stages.common.updating import Waiting
from resources.days import in_rows, span_of

_WHOLE: Final = "*"
_MOST: Final = 8
"""Reasons that are kept of one group."""


class Told(BaseModel):
    """One reason why days of a group wait.

    Attributes:
        days: the days, as ranges; '' where the group has none.
        why: what they wait for, in words.
        lack: the asset that is waited for; '' where it is not one that never came.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: str
    why: str
    lack: str = ""


class Waits:
    """What groups wait for."""

    def __init__(self, told: Mapping[str, Sequence[Told]]) -> None:
        self.told = {group: [*found] for group, found in told.items()}

    def keep(self, group: object, days: AbstractSet[str]) -> None:
        """Forget what a group waited for on other days than these: it is looked at again, or too old to be."""
        found = [_of(one, days) for one in self.told.get(str(group), ()) if one.days]
        self.told[str(group)] = [one for one in found if one.days]

    def came(self, changed: Mapping[dg.AssetKey, AbstractSet[str]]) -> None:
        """Take off what has come."""
        names = {key.to_user_string(): days for key, days in changed.items()}
        for group, found in self.told.items():
            left = [_of(one, days_in(one.days) - names.get(one.lack, set())) for one in found]
            self.told[group] = [one for one in left if one.days or one.lack not in names]

    def add(self, waiting: Iterable[Waiting]) -> None:
        """Add what waits; days that wait for the same are told together."""
        for one in waiting:
            found = self.told.setdefault(str(one.group), [])
            for n, other in enumerate(found):
                if (other.why, other.lack) == (one.why, one.lack):
                    found[n] = other.model_copy(update={"days": as_ranges({*days_in(other.days), *one.days})})
                    break
            else:
                found.append(Told(days=as_ranges(one.days), why=one.why, lack=one.lack))

    def kept(self) -> dict[str, tuple[Told, ...]]:
        """Return what a cursor keeps."""
        return {group: tuple(found[:_MOST]) for group, found in self.told.items() if found}

    def lines(self) -> list[str]:
        """Return a sentence for each reason."""
        return [f"{group}{_over(one.days)}: {one.why}" for group, found in self.told.items() for one in found]


def _of(told: Told, days: AbstractSet[str]) -> Told:
    return told.model_copy(update={"days": as_ranges(days_in(told.days) & days)})


def _over(days: str) -> str:
    rows = in_rows(sorted(days_in(days)))
    return f" ({', '.join(span_of(row) for row in rows)})" if rows else ""


def as_ranges(days: Iterable[str]) -> str:
    """Return days as a cursor keeps them; '' stands for what has no days."""
    found = {*days}
    rows = in_rows(sorted(found - {""}))
    return ",".join([*([_WHOLE] if "" in found else []), *(f"{row[0]}:{row[-1]}" for row in rows)])


def days_in(text: str) -> set[str]:
    """Return the days that a cursor keeps."""
    found: set[str] = set()
    for part in filter(None, text.split(",")):
        if part == _WHOLE:
            found.add("")
            continue
        first, _, last = part.partition(":")
        start, count = date.fromisoformat(first), (date.fromisoformat(last) - date.fromisoformat(first)).days
        found.update(str(start + timedelta(days=n)) for n in range(count + 1))
    return found
