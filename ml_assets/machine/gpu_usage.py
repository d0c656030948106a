"""Measures how busy the GPUs of this pod are, by sampling `nvidia-smi` once a second.

A pod sees only its own GPUs, so the figure belongs to its step. NVIDIA's accounting per process would be exact, but
needs root and reports nothing before the process ends. MIG slices of a GPU report nothing.
"""

import shutil
import subprocess
import threading
from typing import Final, Self

_COMMAND: Final = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop=1")


class GpuSampler:
    """The share of time in which kernels ran: the mean of the samples over all GPUs."""

    def __init__(self, program: str) -> None:
        self._samples: list[float] = []
        self._is_readable = True
        self._process = subprocess.Popen(
            [program, *_COMMAND],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        # The thread reads until the process ends, so that the pipe never fills. If this process is killed, the pipe
        # breaks and nvidia-smi ends too.
        self._reader = threading.Thread(target=self._read, name="gpu-usage", daemon=True)
        self._reader.start()

    @classmethod
    def started(cls) -> Self | None:
        """Start sampling; None if `nvidia-smi` is not installed."""
        program = shutil.which("nvidia-smi")
        return None if program is None else cls(program)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            try:
                self._samples.append(float(line) / 100)
            except ValueError:  # such as [N/A]: without this GPU the mean would be wrong
                self._is_readable = False

    def stop(self) -> float | None:
        """Stop sampling and return the share; None if it could not be read."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if not self._samples or not self._is_readable:
            return None
        return min(1.0, sum(self._samples) / len(self._samples))
