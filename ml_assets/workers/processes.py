"""Runs workers as processes of this machine: a Python module that is started with arguments."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from ml_assets.kubernetes.diagnosis import Diagnosis
from ml_assets.machine.openmp import with_waiting
from ml_assets.workers.crew import Work, WorkerState

_LINES: Final = 25


class Processes:
    """One process per worker, each in its own process group. Its output is written to a file."""

    def __init__(self, work: Work, folder: Path) -> None:
        """Prepare the workers. Their output is written to a folder."""
        self._command = [sys.executable, "-m", work.module, *work.arguments]
        self._stdin = json.dumps(work.stdin).encode()
        self._folder = folder
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, worker: int, attempt: int, memory: str | None) -> None:  # noqa: ARG002 - processes share the machine's memory
        """Start a worker."""
        with self._log(worker).open("wb") as log:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=with_waiting(os.environ),
            )  # fmt: skip
        self._running[worker] = process
        assert process.stdin is not None  # noqa: S101 - Popen was called with PIPE
        try:
            process.stdin.write(self._stdin)
            process.stdin.close()
        except BrokenPipeError:
            return  # it has already ended; `look` returns why

    def look(self, worker: int) -> WorkerState:
        """Return the state of a worker. A process ended by a signal is lost; one with an exit code has failed."""
        process = self._running[worker]
        code = process.poll()
        if code is None:
            return "running"
        if code == 0:
            return "done"
        if code < 0:
            name = signal.Signals(-code).name
            return Diagnosis("PodLost", f"Process {process.pid} was ended by {name}.")
        lines = self._log(worker).read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
        output = "\n".join(lines)
        return Diagnosis("PodFailed", f"Process {process.pid} ended with code {code}. Its last lines:\n{output}")

    def close(self) -> None:
        """Kill all workers that still run."""
        for process in self._running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._running.values():
            process.wait()

    def _log(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.log"
