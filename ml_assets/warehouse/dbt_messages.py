"""What dbt says while it builds, without values of rows where a project has personal columns.

DuckDB's errors about data quote the value that does not fit.
"""

import re
from collections.abc import Callable
from typing import Final

_ABOUT_VALUES: Final = re.compile(r"((?:Conversion|Invalid Input|Out of Range|Constraint) Error): .*", re.DOTALL)
_IS_NEW: Final = re.compile(r"\d\d:\d\d:\d\d ")
"""How a message of dbt begins; what follows without a time belongs to it."""


def without_values(message: str) -> str:
    """Return a message without what DuckDB says of the values of a row."""
    return _ABOUT_VALUES.sub(
        r"\1 over the values of a row, which are not shown: the project has personal columns", message
    )


class Heard:
    """Passes on what dbt says, line by line, and keeps it.

    Args:
        say: takes the lines.
        hides: whether values of rows are left out.
    """

    def __init__(self, say: Callable[[str], None], *, hides: bool) -> None:
        self.lines: list[str] = []
        self._say = say
        self._hides = hides
        self._is_hidden = False

    def __call__(self, line: str) -> None:
        """Take a line."""
        if self._hides:
            if self._is_hidden and not _IS_NEW.match(line):
                return
            shown = without_values(line)
            self._is_hidden, line = shown != line, shown
        self.lines.append(line)
        self._say(line)
