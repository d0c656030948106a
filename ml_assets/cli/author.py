"""Who decides and why, as a person gives it on the command line.

What is decided stays out.
"""

import getpass

from ml_assets.contracts.errors import DataError
from ml_assets.logic.promotion.log import GATE

_MOST_CHARACTERS = 2_000


def author_of(given: str | None) -> str:
    """Return who decides: the name given, else the user of this process.

    Raises:
        DataError: there is neither, or it is the gate's name.
    """
    if given is None:
        try:
            given = getpass.getuser()
        except (KeyError, OSError, ImportError) as error:  # a pod's user often has a number only
            raise DataError(f"the user of this process has no name ({error}); say who decides with --by.") from error
    name = one_line(given, "--by")
    if name.casefold() == GATE:
        raise DataError(f"--by is '{name}', by which entries of the gate are known; give a person's name.")
    return name


def one_line(text: str, what: str) -> str:
    """Return a text in one line.

    Raises:
        DataError: it is empty, too long, or has characters that would move a terminal's cursor.
    """
    line = " ".join(text.split())
    if not line:
        raise DataError(f"{what} is empty; the promotion log keeps it for those who ask later. Give a text.")
    if not line.isprintable():
        odd = next(it for it in line if not it.isprintable())
        raise DataError(f"{what} has the character {odd!r}; expected printable ones. Leave it out.")
    if len(line) > _MOST_CHARACTERS:
        raise DataError(
            f"{what} has {len(line):,} characters; expected up to {_MOST_CHARACTERS:,}. Write the rest down elsewhere "
            "and name the place."
        )
    return line
