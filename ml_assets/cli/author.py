"""Reads the author of a decision, and the reason, from the command line."""

import getpass

from ml_assets.contracts.errors import DataError
from ml_assets.logic.promotion.log import GATE

_MOST_CHARACTERS = 2_000


def author_of(given: str | None) -> str:
    """Return the given name, or the user of this process.

    Raises:
        DataError: there is neither, or the name is that of the gate.
    """
    if given is None:
        try:
            given = getpass.getuser()
        except (KeyError, OSError, ImportError) as error:  # a pod's user often has only a number
            raise DataError(f"the user of this process has no name ({error}); give a name with --by.") from error
    name = one_line(given, "--by")
    if name.casefold() == GATE:
        raise DataError(f"--by is '{name}', which is the name of the gate; give a person's name.")
    return name


def one_line(text: str, what: str) -> str:
    """Return a text in one line.

    Raises:
        DataError: it is empty, too long, or has characters that control a terminal.
    """
    line = " ".join(text.split())
    if not line:
        raise DataError(f"{what} is empty; expected a text for the promotion log.")
    if not line.isprintable():
        odd = next(it for it in line if not it.isprintable())
        raise DataError(f"{what} has the character {odd!r}; expected printable characters. Remove it.")
    if len(line) > _MOST_CHARACTERS:
        raise DataError(
            f"{what} has {len(line):,} characters; expected up to {_MOST_CHARACTERS:,}. Write the rest elsewhere "
            "and give a link."
        )
    return line
