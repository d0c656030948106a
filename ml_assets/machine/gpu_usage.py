"""How busy the GPUs of this pod are, as `nvidia-smi` tells it once a second; nothing where it does not.

A pod sees its own GPUs alone, so what keeps them busy is its step. NVIDIA's accounting by process would be exact, but
needs root to be turned on and tells nothing before the process has ended. Slices of a GPU (MIG) tell nothing.
"""

import shutil
import subprocess
import threading
from typing import Final, Self

_COMMAND: Final = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop=1")


class GpuSampler:
    """The share of the time in which kernels ran, as the mean of its samples over all GPUs."""

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
        # It reads on while the step works, so that the pipe never fills; killed with its process, the pipe breaks and
        # nvidia-smi ends too.
        self._reader = threading.Thread(target=self._read, name="gpu-usage", daemon=True)
        self._reader.start()

    @classmethod
    def started(cls) -> Self | None:
        """Begin to sample; None where there is no `nvidia-smi`."""
        program = shutil.which("nvidia-smi")
        return None if program is None else cls(program)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            try:
                self._samples.append(float(line) / 100)
            except ValueError:  # such as [N/A]: one GPU that tells nothing, and the mean would be of the others
                self._is_readable = False

    def stop(self) -> float | None:
        """End, and return the share; None where it could not be read."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if not self._samples or not self._is_readable:
            return None
        return min(1.0, sum(self._samples) / len(self._samples))
