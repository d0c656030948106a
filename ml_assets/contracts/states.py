"""What a look at a day came to: over the limits, within them, or not judged, which is neither."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

State = Literal["over the limits", "not judged", "within the limits"]


def state_of_all(states: Iterable[State]) -> State:
    """Return what several looks came to together: over where one is, within where all are."""
    found = set(states)
    if "over the limits" in found:
        return "over the limits"
    return "within the limits" if found == {"within the limits"} else "not judged"


def describe_states(states: Iterable[State]) -> str:
    """Return on how many days which state was found, as words; of a single day, its state."""
    found = [*states]
    if not found:
        return "no day was looked at"
    if len(found) == 1:
        return found[0]
    counts = {state: found.count(state) for state in get_args(State)}
    return "; ".join(f"{state} on {count} of {len(found)} days" for state, count in counts.items() if count)
