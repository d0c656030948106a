"""Workers as processes of this machine.

What they do stays out: a worker is a Python module that is started with arguments.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ml_assets.kubernetes.diagnosis import Diagnosis
from ml_assets.workers.crew import Standing

_LINES: Final = 25


class Processes:
    """One process a worker, each in a group of its own; what it says goes to a file."""

    def __init__(self, module: str, arguments: Sequence[str], *, told: Mapping[str, Any], folder: Path) -> None:
        """Prepare them.

        Args:
            module: what they run.
            arguments: what it is given, for every user of this machine to see.
            told: what it reads from its standard input, for it alone to see.
            folder: where what they say goes.
        """
        self._command = [sys.executable, "-m", module, *arguments]
        self._told = json.dumps(told).encode()
        self._folder = folder
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, worker: int, attempt: int, memory: str | None) -> None:  # noqa: ARG002 - a machine has what it has
        """Start a worker."""
        with self._log(worker).open("wb") as log:
            # No thread of LightGBM's may spin while it waits for a core that another worker has.
            environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=environment,
            )  # fmt: skip
        self._running[worker] = process
        assert process.stdin is not None  # noqa: S101 - it was asked for
        try:
            process.stdin.write(self._told)
            process.stdin.close()
        except BrokenPipeError:
            return  # it has died already; `look` says of what

    def look(self, worker: int) -> Standing:
        """Return how a worker is; one that a signal ended is lost, one with an exit code has a fault."""
        process = self._running[worker]
        code = process.poll()
        if code is None:
            return "works"
        if code == 0:
            return "done"
        if code < 0:
            name = signal.Signals(-code).name
            return Diagnosis("PodLost", f"Process {process.pid} was ended by {name}.")
        lines = self._log(worker).read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
        said = "\n".join(lines)
        return Diagnosis("PodFailed", f"Process {process.pid} ended with code {code}. Its last lines:\n{said}")

    def close(self) -> None:
        """End them all."""
        for process in self._running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._running.values():
            process.wait()

    def _log(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.log"
