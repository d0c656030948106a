"""What comes from data cannot steer the terminal that a command prints to."""

import io
import subprocess
import sys
import unicodedata

from ml_assets.cli.terminal import EscapingStream, escaped, overwrite

HOSTILE = "\x1b]0;owned\x07 \x1b[2J\x00 \r \x9b31m \u202egnp.exe\u2066 \x7f"
SHOWN = r"\x1b]0;owned\x07 \x1b[2J\x00 \r \x9b31m \u202egnp.exe\u2066 \x7f"


def test_control_characters_and_marks_of_direction_are_escaped_and_nothing_else() -> None:
    assert escaped(HOSTILE) == SHOWN
    for text in (map(chr, range(0xD800)), map(chr, range(0xE000, 0x11000))):
        for it in text:
            turns = unicodedata.bidirectional(it) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
            is_control = unicodedata.category(it) in {"Cc", "Zl", "Zp"} and it not in "\n\t"
            is_mark = it in "\u061c\u200e\u200f"
            assert (escaped(it) != it) == (turns or is_control or is_mark), repr(it)
    assert escaped("Zürich → 東京\t1\n") == "Zürich → 東京\t1\n"


def test_a_line_may_be_written_over_and_what_is_in_it_is_escaped() -> None:
    raw = io.BytesIO()
    stream = EscapingStream(raw, "utf-8")

    overwrite(stream, "day \x1b 1")
    print("done\x07", file=stream, flush=True)

    assert raw.getvalue() == rb"day \x1b 1".join([b"\r", b"\x1b[Kdone"]) + b"\\x07\n"


def test_a_command_prints_no_control_character_of_what_it_was_given() -> None:
    """As a process, because tests that call `main` have a stream of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "ml_assets.cli.main", "quarantine", f"raw/{HOSTILE.replace(chr(0), '')}"],
        capture_output=True, check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert rb"\x1b]0;owned\x07" in done.stderr
    assert not {*(done.stdout + done.stderr)} & {0x1B, 0x07, 0x0D}
