"""Removes control characters, which data may contain, from standard output and error.

A terminal obeys them: they move the cursor, rename the window, or reverse text. `--json` escapes them itself. If the
reader has gone (`| head -1`), the rest is not printed, and the command continues its work.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

_ENDS: Final = "\n\t"
_TURNING: Final = "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_ESCAPES: Final = {
    ord(it): it.encode("unicode_escape").decode()
    for it in [*map(chr, [*range(0x20), *range(0x7F, 0xA0)]), *_TURNING]
    if it not in _ENDS
}


def escaped(text: str) -> str:
    """Return a text with control and direction characters escaped as in Python, except newlines and tabs."""
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


class EscapingStream(io.TextIOWrapper):
    """A text stream that escapes what is written to it.

    Attributes:
        is_lost: whether its reader has gone, so that further output is dropped.
    """

    is_lost = False

    def write(self, text: str, /) -> int:
        """Write a text, escaped."""
        self.write_unescaped(escaped(text))
        return len(text)

    def write_unescaped(self, text: str) -> None:
        """Write a text as it is."""
        with self._survive_reader():
            super().write(text)

    def flush(self) -> None:
        """Pass on buffered output."""
        with self._survive_reader():
            super().flush()

    @contextmanager
    def _survive_reader(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.is_lost = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # also for buffered output and child processes
            os.close(nowhere)


def overwrite(stream: TextIO, line: str, end: str = "") -> None:
    """Overwrite the line of the cursor on a terminal."""
    write = stream.write_unescaped if isinstance(stream, EscapingStream) else stream.write
    write(f"\r{escaped(line)}\033[K{end}")
    stream.flush()


def is_output_lost() -> bool:
    """Return whether the reader of standard output has gone before the end."""
    sys.stdout.flush()
    return isinstance(sys.stdout, EscapingStream) and sys.stdout.is_lost


def escape_output() -> None:
    """Escape everything that this process prints from now on."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)  # None if the process was started without it
        target = os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno()
        encoding = "utf-8" if stream is None else stream.encoding
        raw = open(target, "wb", closefd=False)  # noqa: SIM115 - it stays open
        setattr(sys, name, EscapingStream(raw, encoding, errors="backslashreplace", line_buffering=True))
