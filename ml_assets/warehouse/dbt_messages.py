"""dbt's output during a build, without values of rows if the project has personal columns.

DuckDB's errors about data quote the value that caused them.
"""

import re
from collections.abc import Callable
from typing import Final

_ABOUT_VALUES: Final = re.compile(r"((?:Conversion|Invalid Input|Out of Range|Constraint) Error): .*", re.DOTALL)
_IN_MACRO: Final = re.compile(r"\s*> (in|called by) ")
_IS_NEW: Final = re.compile(r"\d\d:\d\d:\d\d ")
"""The beginning of a message of dbt. Lines without a time belong to the message before."""


def without_values(message: str) -> str:
    """Return a message without the part in which DuckDB quotes values of a row."""
    return _ABOUT_VALUES.sub(
        r"\1 over the values of a row, which are not shown: the project has personal columns", message
    )


def without_dbts_macros(message: str) -> str:
    """Return a message about a table that differs from its contract, without the macros of dbt that found it."""
    if "has an enforced contract that failed" not in message:
        return message
    return "\n".join(line for line in message.splitlines() if not _IN_MACRO.match(line)).rstrip()


class DbtOutput:
    """Passes on dbt's output line by line, and collects it.

    Args:
        log: receives the lines.
        hides: whether values of rows are removed.
    """

    def __init__(self, log: Callable[[str], None], *, hides: bool) -> None:
        self.lines: list[str] = []
        self._log = log
        self._hides = hides
        self._is_hidden = False

    def __call__(self, line: str) -> None:
        """Receive a line."""
        if self._hides:
            if self._is_hidden and not _IS_NEW.match(line):
                return
            shown = without_values(line)
            self._is_hidden, line = shown != line, shown
        self.lines.append(line)
        self._log(line)
