"""The sentence about a table of which more rows break rules than its declaration allows; alerts recognize it."""

from __future__ import annotations

import re
from typing import Final

TOO_MANY_BROKEN: Final = re.compile(r"[\d.]+% of the rows[^;\n]* break rules; [\d.]+% may be quarantined\.")
"""Finds a sentence of `too_many_broken` in the message of a failed step."""


def too_many_broken(broken: float, allowed: float, day: str = "") -> str:
    """Return the sentence. Both shares are between 0 and 1; without a day the table has no days."""
    return f"{broken:.2%} of the rows{f' of {day}' if day else ''} break rules; {allowed:.2%} may be quarantined."
