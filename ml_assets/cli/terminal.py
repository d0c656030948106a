"""Standard output and error without the control characters that names, values and messages from data can hold.

A terminal obeys them: they move the cursor, rename the window, or turn text around. `--json` escapes them by itself.
"""

import io
import sys
from typing import Final, TextIO

_ENDS: Final = "\n\t"
_TURNING: Final = "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_ESCAPES: Final = {
    ord(it): it.encode("unicode_escape").decode()
    for it in [*map(chr, [*range(0x20), *range(0x7F, 0xA0)]), *_TURNING]
    if it not in _ENDS
}


def escaped(text: str) -> str:
    """Return a text with control characters and marks of direction as Python writes them, lines and tabs kept."""
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


class EscapingStream(io.TextIOWrapper):
    """A text stream that escapes what is written to it."""

    def write(self, text: str, /) -> int:
        """Write a text, escaped."""
        super().write(escaped(text))
        return len(text)


def overwrite(stream: TextIO, line: str, end: str = "") -> None:
    """Write a line over the one that the cursor is in, on a terminal."""
    write = super(EscapingStream, stream).write if isinstance(stream, EscapingStream) else stream.write
    write(f"\r{escaped(line)}\033[K{end}")
    stream.flush()


def escape_output() -> None:
    """Let all that this process prints from now on be escaped."""
    for name in ("stdout", "stderr"):
        stream: TextIO = getattr(sys, name)
        raw = open(stream.fileno(), "wb", closefd=False)  # noqa: SIM115 - it stays open
        escaping = EscapingStream(raw, stream.encoding, errors="backslashreplace", line_buffering=True)
        setattr(sys, name, escaping)
