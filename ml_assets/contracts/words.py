"""Words of sentences: counts with their nouns, quoted names, and the states of judged days."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

State = Literal["over the limits", "not judged", "within the limits"]
"""The state of a judged day."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def quoted(names: Iterable[object]) -> str:
    """Return names as a quoted list."""
    return ", ".join(f"'{name}'" for name in names)


def state_of_all(states: Iterable[State]) -> State:
    """Return the state of several days together: over the limits if any is, within them if all are."""
    found = set(states)
    if "over the limits" in found:
        return "over the limits"
    return "within the limits" if found == {"within the limits"} else "not judged"


def describe_states(states: Iterable[State], period: str = "day") -> str:
    """Return the number of days in each state, as text; for a single day, its state. A longer period is named."""
    found = [*states]
    if not found:
        return f"no {period} was judged"
    if len(found) == 1:
        return found[0]
    counts = {state: found.count(state) for state in get_args(State)}
    return "; ".join(f"{state} on {count} of {len(found)} {period}s" for state, count in counts.items() if count)
