"""What a trial of the chaos bench has to work with, and how it ends.

The faults themselves stay out; each kind has a file of its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal, NamedTuple

from tests.flights import ROOT
from tests.killing import Undisturbed

Verdict = Literal["survived", "noticed", "lost"]
TRACEBACK: Final = "Traceback (most recent call last)"
SECONDS: Final = 300.0
"""How long a process may take before it counts as one that never ends; the machine may be busy."""


class Trial(NamedTuple):
    """One fault and what became of it.

    Attributes:
        fault: what was done.
        verdict: 'survived' where the end is as without the fault; 'noticed' where it was refused with a message of its
            own; 'lost' is all else: a wrong end, a silent one, a stack trace, a process that never ends.
        detail: what was seen, where it was lost.
    """

    fault: str
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True)
class Scene:
    """What the trials of one kind have.

    Attributes:
        folder: an empty folder of their own.
        random: decides all that is left to chance.
        trials: how many of them are wanted.
        flow: the small flow, undisturbed.
    """

    folder: Path
    random: Random
    trials: int
    flow: Undisturbed

    def lake(self, number: int) -> Path:
        """Return the folder of a trial's lake."""
        return self.folder / f"lake-{number}"


Kind = Callable[[Scene], Iterator[Trial]]


class Ended(NamedTuple):
    """How a process ended: its code is None where it had to be killed because it never would."""

    code: int | None
    output: str
    seconds: float

    def is_refusal(self, *codes: int) -> bool:
        """Return whether it ended with one of some codes and its own message."""
        return self.code in codes and TRACEBACK not in self.output and bool(self.output.strip())

    @property
    def summary(self) -> str:
        """How it ended, in a line."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return f"code {self.code} after {self.seconds:.0f} s: {' / '.join(lines[-3:])[-600:]}"


def start(module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a module of this checkout in a process group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def end(process: subprocess.Popen[str], *, since: float, seconds: float = SECONDS) -> Ended:
    """Wait for a process, and kill it with all that it started if it does not end in time."""
    try:
        output, _ = process.communicate(timeout=seconds)
        return Ended(process.returncode, output, time.monotonic() - since)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return Ended(None, output, time.monotonic() - since)


def run(module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Ended:
    """Run a module of this checkout to its end."""
    since = time.monotonic()
    return end(start(module, arguments, environment), since=since)
