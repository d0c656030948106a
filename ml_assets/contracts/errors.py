"""The errors that users see. Each message states what is wrong, what was expected, what was found, and how to fix it.

Programming errors are ordinary Python exceptions.
"""

import difflib
import traceback
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final


class ContractError(ValueError):
    """A table or artifact breaks its contract. The message lists every broken rule."""


class DataError(ValueError):
    """Data cannot be used (empty, unreadable, too little). The message states how to fix it."""


def near(word: str, known: Sequence[str]) -> str:
    """Return a hint at the known word that is closest to a mistyped one; empty if none is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


FAILURES: Final = (Exception, SystemExit)
"""What a person's own code may raise. `sys.exit` in it must not end the process, with the exit code of success."""


def failure_words(error: BaseException) -> str:
    """Return an exception of a person's own code as text: its type, its message, and the line of that code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [it for it in frames if not {"site-packages", "dist-packages"}.intersection(PurePath(it.filename).parts)]
    last = next(reversed(own or frames), None)
    text = str(error).strip().splitlines()
    where = f" ({last.filename}, line {last.lineno})" if last else ""
    return f"{type(error).__name__}{f': {text[0]}' if text else ''}{where}"
