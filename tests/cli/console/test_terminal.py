"""What comes from data cannot steer the terminal that a command prints to."""

import io
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from ml_assets.cli.console.terminal import EscapingStream, escaped, overwrite

HOSTILE = "\x1b]0;owned\x07 \x1b[2J\x00 \r \x9b31m \u202egnp.exe\u2066 \x7f"
WORKING = """
import sys, threading
from pathlib import Path
from ml_assets.cli import main

def work(_):
    for stream in (sys.stdout, sys.stderr):
        thread = threading.Thread(target=lambda: [print("line", n, file=stream) for n in range(20_000)])
        thread.start()
        thread.join()
        print("no end of line", end="", file=stream)
    Path("done").touch()
    return int(sys.argv[1])
main._run = work
sys.exit(main.main())
"""
ECHOING = """
import sys
from ml_assets.cli import main

def echo(_):
    for stream in (sys.stdout, sys.stderr):
        print(sys.argv[1], file=stream)
    return 1
main._run = echo
sys.exit(main.main())
"""
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


def test_a_line_can_be_overwritten_and_its_content_is_escaped() -> None:
    raw = io.BytesIO()
    stream = EscapingStream(raw, "utf-8")

    overwrite(stream, "day \x1b 1")
    print("done\x07", file=stream, flush=True)

    assert raw.getvalue() == rb"day \x1b 1".join([b"\r", b"\x1b[Kdone"]) + b"\\x07\n"


def test_a_command_prints_no_control_character_from_its_arguments() -> None:
    """As a process, because tests that call `main` have a stream of their own."""
    done = subprocess.run([sys.executable, "-c", ECHOING, HOSTILE.replace("\0", "")], capture_output=True, check=False)

    assert (1, done.stdout) == (done.returncode, done.stderr)
    assert rb"\x1b]0;owned\x07" in done.stderr
    assert not {*done.stderr} & {0x1B, 0x07, 0x0D}


@pytest.mark.parametrize(
    ("gone", "code", "expected"),
    [("stdout", 0, 141), ("stdout", 1, 141), ("stdout", 3, 3), ("stderr", 0, 0), ("stderr", 1, 1)],
)
def test_a_command_with_a_closed_pipe_finishes_its_work_and_ends_without_a_traceback(
    gone: Literal["stdout", "stderr"], code: int, expected: int, tmp_path: Path
) -> None:
    other: Literal["stdout", "stderr"] = "stderr" if gone == "stdout" else "stdout"
    reader, writer = os.pipe()
    os.close(reader)
    streams = {gone: writer, other: subprocess.PIPE}

    done = subprocess.run(
        [sys.executable, "-c", WORKING, str(code)], cwd=tmp_path, check=False, text=True,
        stdout=streams["stdout"], stderr=streams["stderr"],
    )  # fmt: skip
    os.close(writer)

    lines = "".join(f"line {n}\n" for n in range(20_000)) + "no end of line"
    assert (expected, lines) == (done.returncode, getattr(done, other))
    assert (tmp_path / "done").exists()


def test_a_command_started_without_standard_output_does_its_work(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" 0 >&-', sys.executable, WORKING]

    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)

    assert (0, False) == (done.returncode, "Traceback" in done.stderr)
    assert (tmp_path / "done").exists()
