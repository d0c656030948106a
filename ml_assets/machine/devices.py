"""Where LightGBM can train on this machine: tried on a few rows, once a process, in a process of its own.

Which device a model is declared with stays out.
"""

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Final, Literal

Device = Literal["cpu", "gpu", "cuda"]

_TRY: Final = """\
import sys
import lightgbm
import numpy
rows = numpy.linspace(0, 1, 400).reshape(200, 2)
told = {"objective": "binary", "device_type": sys.argv[1], "num_threads": 1, "min_data_in_leaf": 5, "verbosity": -1}
lightgbm.train(told, lightgbm.Dataset(rows, (rows[:, 0] > 0.5).astype(float)), 1)
"""

_SECONDS: Final = 600
"""A driver compiles its kernels on first use; PoCL took 68 s on two cores, a moment ever after."""

_MEND: Final = {
    "cuda": "Use the image whose LightGBM is built with CUDA, and a node with a GPU: 'image' and 'gpu' of its compute",
    "gpu": "Install an OpenCL driver for the device, and ask for a node that has one in the stage's compute",
}


class DeviceError(RuntimeError):
    """LightGBM cannot train on the device that is declared."""


@dataclass(frozen=True)
class Used:
    """What is trained on.

    Attributes:
        fell_back: why it is not the device that was declared; none where it is.
    """

    device: Device
    fell_back: str | None = None

    def facts(self) -> dict[str, str]:
        """Return what a manifest and the UI say of a fall-back; nothing where there was none."""
        return {} if self.fell_back is None else {"trained_on": self.device, "fell_back": self.fell_back}


def used_device(declared: Device, *, fallback: Literal["cpu"] | None, model: str) -> Used:
    """Return the device to train on: the declared one, else the fall-back.

    Raises:
        DeviceError: LightGBM cannot train on it here, and no fall-back is declared.
    """
    problem = device_problem(declared)
    if problem is None:
        return Used(declared)
    said = f"model '{model}' is declared with device '{declared}', on which LightGBM cannot train here: {problem}"
    if fallback is not None:
        return Used(fallback, said)
    raise DeviceError(
        f"{said}. {_MEND[declared]}; or declare training: {{device: cpu}}, or device_fallback: cpu beside the device."
    )


@functools.cache
def device_problem(device: Device) -> str | None:
    """Return why LightGBM cannot train on a device of this machine, in its own words; None where it can.

    A driver that fails may end the process that asked it, so another one asks.
    """
    if device == "cpu":
        return None
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRY, device], check=False, capture_output=True, text=True,
            encoding="utf-8", errors="replace", timeout=_SECONDS,
            env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"200 rows and one round took more than {_SECONDS} s"
    if done.returncode == 0:
        return None
    return _said(done.stderr) or f"the process that tried ended with code {done.returncode}"


def _said(text: str) -> str:
    """Return what LightGBM said, of a traceback; else the last line."""
    marks = ("LightGBMError: ", "[LightGBM] [Fatal] ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line.partition(mark)[2] for line in lines for mark in marks if mark in line]
    return (said or lines or [""])[-1].rstrip(".")
