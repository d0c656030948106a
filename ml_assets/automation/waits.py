"""What each group waits for, kept from look to look: a look opens only what has changed, and the rest waits as before.

Why something waits stays out; see `ml_assets.orchestration.updating`.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict

from ml_assets.lake.days import in_rows, span_of
from ml_assets.lake.store import Lake
from ml_assets.orchestration.updating import Waiting

_WHOLE: Final = "*"
_MOST: Final = 8
"""Reasons that are kept of one group, beside missing days."""


FAILED_RUN: Final = "run "
"""How the reason begins where what is waited for is that a person looks at a run."""


class Told(BaseModel):
    """One reason why days of a group wait.

    Attributes:
        days: the days, as ranges; '' where the group has none.
        why: what they wait for, in words.
        lack: the asset that is missing; '' where they wait for something else.
        missing: the days of that asset that are missing, as ranges.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: str
    why: str
    lack: str = ""
    missing: str = ""


class Waits:
    """What groups wait for."""

    def __init__(self, told: Mapping[str, Sequence[Told]]) -> None:
        self.told = {group: [*found] for group, found in told.items()}

    def keep(self, group: object, days: AbstractSet[str]) -> None:
        """Forget what a group waited for on other days than these: it is looked at again, or too old to be."""
        found = [_of(one, days) for one in self.told.get(str(group), ()) if one.days]
        self.told[str(group)] = [one for one in found if one.days]

    def over(self, lake: Lake) -> dict[str, set[str]]:
        """Return the days of each group that waited for something which is in the lake now; '' for what has no days."""
        missing: dict[str, set[str]] = {}
        for one in (it for found in self.told.values() for it in found if it.lack):
            missing.setdefault(one.lack, set()).update(days_in(one.missing))
        there = {asset: lake.newest(asset, sorted(days)).keys() for asset, days in missing.items()}
        found: dict[str, set[str]] = {}
        for group, reasons in self.told.items():
            for one in reasons:
                if not there.get(one.lack, set()).isdisjoint(days_in(one.missing)):
                    found.setdefault(group, set()).update(days_in(one.days) or {""})
        return found

    def add(self, waiting: Iterable[Waiting]) -> None:
        """Add what waits; days that wait for the same are told together."""
        for one in waiting:
            found = self.told.setdefault(str(one.group), [])
            for n, other in enumerate(found):
                if (other.why, other.lack) == (one.why, one.lack):
                    found[n] = other.model_copy(update={"days": as_ranges({*days_in(other.days), *one.days})})
                    break
            else:
                missing = as_ranges(one.missing)
                found.append(Told(days=as_ranges(one.days), why=one.why, lack=one.lack, missing=missing))

    def kept(self) -> dict[str, tuple[Told, ...]]:
        """Return what a cursor keeps: whatever waits for missing days, and so many others."""
        kept = {
            group: (*(it for it in found if it.lack), *[it for it in found if not it.lack][:_MOST])
            for group, found in self.told.items()
        }
        return {group: found for group, found in kept.items() if found}

    def lines(self) -> list[str]:
        """Return a sentence for each reason; first those of runs that failed, on which a person must act."""
        every = [(group, one) for group, found in self.told.items() for one in found]
        every.sort(key=lambda it: not it[1].why.startswith(FAILED_RUN))
        return [f"{group}{_over(one.days)}: {one.why}" for group, one in every]


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
