"""The errors a person meets: each message gives the culprit, what was expected, what came, and the mend.

Programming errors stay out; they are ordinary Python exceptions.
"""

import difflib
from collections.abc import Sequence


class ContractError(ValueError):
    """A table or artifact breaks its contract; the message lists every broken rule."""


class DataError(ValueError):
    """Data cannot be used as asked (empty, unreadable, too little); the message names the mend."""


def near(word: str, known: Sequence[str]) -> str:
    """Return a hint at the known word that a mistyped one is closest to; nothing where none is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
