"""What each group of assets waits for, stored in the cursor between ticks. A tick checks only what has changed.

Not here: why an update must wait (see `ml_assets.orchestration.planner`).
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from ml_assets.contracts.json_record import Record
from ml_assets.contracts.periods import Calendar
from ml_assets.lake.days import in_rows, span_of
from ml_assets.lake.store import Lake
from ml_assets.orchestration.planner import Waiting

_WHOLE: Final = "*"
_MOST: Final = 8
"""The most reasons that are stored for one group, besides missing days."""


FAILED_RUN: Final = "run "
"""The beginning of a reason that needs a person to look at a run."""


class WaitReason(Record):
    """One reason why days of a group wait.

    Attributes:
        days: the days, as ranges; '' if the group has no days.
        why: what they wait for, as a phrase.
        lack: the missing asset; '' if they wait for something else.
        missing: the missing days of that asset, as ranges.
    """

    days: str
    why: str
    lack: str = ""
    missing: str = ""


class Waits:
    """What groups wait for."""

    def __init__(self, reasons: Mapping[str, Sequence[WaitReason]], calendar: Calendar) -> None:
        self.calendar = calendar
        self.reasons = {group: [*found] for group, found in reasons.items()}

    def retain(self, group: object, days: AbstractSet[str]) -> None:
        """Forget what a group waits for on all other days, which are either checked again or too old."""
        found = [self._of(one, days) for one in self.reasons.get(str(group), ()) if one.days]
        self.reasons[str(group)] = [one for one in found if one.days]

    def now_available(self, lake: Lake) -> dict[str, set[str]]:
        """Return, by group, the days that waited for something that the lake now has; '' for a group without days."""
        missing: dict[str, set[str]] = {}
        for one in (it for found in self.reasons.values() for it in found if it.lack):
            missing.setdefault(one.lack, set()).update(days_in(one.missing, self.calendar))
        there = {asset: lake.newest(asset, sorted(days)).keys() for asset, days in missing.items()}
        found: dict[str, set[str]] = {}
        for group, reasons in self.reasons.items():
            for one in reasons:
                if not there.get(one.lack, set()).isdisjoint(days_in(one.missing, self.calendar)):
                    found.setdefault(group, set()).update(days_in(one.days, self.calendar) or {""})
        return found

    def add(self, waiting: Iterable[Waiting]) -> None:
        """Add updates that wait. Days with the same reason are reported together."""
        for one in waiting:
            found = self.reasons.setdefault(str(one.group), [])
            for n, other in enumerate(found):
                if (other.why, other.lack) == (one.why, one.lack):
                    together = {*days_in(other.days, self.calendar), *one.days}
                    found[n] = other.model_copy(update={"days": as_ranges(together, self.calendar)})
                    break
            else:
                days, missing = (as_ranges(its, self.calendar) for its in (one.days, one.missing))
                found.append(WaitReason(days=days, why=one.why, lack=one.lack, missing=missing))

    def stored(self) -> dict[str, tuple[WaitReason, ...]]:
        """Return what the cursor stores: all waits for missing days, and a limited number of other reasons."""
        limited = {
            group: (*(it for it in found if it.lack), *[it for it in found if not it.lack][:_MOST])
            for group, found in self.reasons.items()
        }
        return {group: found for group, found in limited.items() if found}

    def lines(self) -> list[str]:
        """Return a sentence for each reason. Failed runs come first, because a person must act on them."""
        every = [(group, one) for group, found in self.reasons.items() for one in found]
        every.sort(key=lambda it: not it[1].why.startswith(FAILED_RUN))
        return [f"{group}{self._over(one.days)}: {one.why}" for group, one in every]

    def _of(self, reason: WaitReason, days: AbstractSet[str]) -> WaitReason:
        left = days_in(reason.days, self.calendar) & days
        return reason.model_copy(update={"days": as_ranges(left, self.calendar)})

    def _over(self, days: str) -> str:
        rows = in_rows(sorted(days_in(days, self.calendar)), calendar=self.calendar)
        return f" ({', '.join(span_of(row) for row in rows)})" if rows else ""


def as_ranges(days: Iterable[str], calendar: Calendar) -> str:
    """Return days or periods as the cursor stores them; '' means an asset without days."""
    found = {*days}
    rows = in_rows(sorted(found - {""}), calendar=calendar)
    return ",".join([*([_WHOLE] if "" in found else []), *(f"{row[0]}:{row[-1]}" for row in rows)])


def days_in(text: str, calendar: Calendar) -> set[str]:
    """Return days or periods from the text that the cursor stores."""
    found: set[str] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition(":")
        found.update([""] if part == _WHOLE else calendar.between(first, last))
    return found
