"""The state of a judged day: over the limits, within the limits, or not judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

State = Literal["over the limits", "not judged", "within the limits"]


def state_of_all(states: Iterable[State]) -> State:
    """Return the state of several days together: over the limits if any is, within them if all are."""
    found = set(states)
    if "over the limits" in found:
        return "over the limits"
    return "within the limits" if found == {"within the limits"} else "not judged"


def describe_states(states: Iterable[State]) -> str:
    """Return the number of days in each state, as text; for a single day, its state."""
    found = [*states]
    if not found:
        return "no day was judged"
    if len(found) == 1:
        return found[0]
    counts = {state: found.count(state) for state in get_args(State)}
    return "; ".join(f"{state} on {count} of {len(found)} days" for state, count in counts.items() if count)
