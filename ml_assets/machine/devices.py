"""Finds out which devices LightGBM can train on, with one short training per device in a separate process.

Not here: the device that a model declares (see `ml_assets.declaration.training`).
"""

import functools
import subprocess
import sys
from dataclasses import dataclass
from typing import Final, Literal

from ml_assets.contracts.boosting_parameters import Device

_TRY: Final = """\
import sys
import lightgbm
import numpy
rows = numpy.linspace(0, 1, 400).reshape(200, 2)
parameters = {
    "objective": "binary", "device_type": sys.argv[1], "num_threads": 1, "min_data_in_leaf": 5, "verbosity": -1,
}
lightgbm.train(parameters, lightgbm.Dataset(rows, (rows[:, 0] > 0.5).astype(float)), 1)
"""

_SECONDS: Final = 600
"""A driver compiles its kernels on first use. With PoCL that took 68 s on two cores; later runs take under a second."""

_FIXES: Final = {
    "cuda": "Use the image whose LightGBM is built with CUDA, and a node with a GPU: 'image' and 'gpu' of its compute",
    "gpu": "Install an OpenCL driver for the device, and request a node that has one in the stage's compute",
}


class DeviceError(RuntimeError):
    """LightGBM cannot train on the declared device."""


@dataclass(frozen=True)
class Used:
    """The device that a model is trained on.

    Attributes:
        fell_back: why it differs from the declared device; None if it does not.
    """

    device: Device
    fell_back: str | None = None

    def facts(self) -> dict[str, str]:
        """Return the fallback as metadata for the manifest and the UI; empty if there was none."""
        return {} if self.fell_back is None else {"trained_on": self.device, "fell_back": self.fell_back}


def used_device(declared: Device, *, fallback: Literal["cpu"] | None, model: str) -> Used:
    """Return the device to train on: the declared one, or the fallback.

    Raises:
        DeviceError: LightGBM cannot train on the declared device, and no fallback is declared.
    """
    problem = device_problem(declared)
    if problem is None:
        return Used(declared)
    message = f"model '{model}' declares device '{declared}', but LightGBM cannot train on it here: {problem}"
    if fallback is not None:
        return Used(fallback, message)
    raise DeviceError(
        f"{message}. {_FIXES[declared]}; or set training: {{device: cpu}}, or add device_fallback: cpu to it."
    )


@functools.cache
def device_problem(device: Device) -> str | None:
    """Return LightGBM's error when it trains on a device of this machine, or None if it can.

    The test runs in a separate process, because a failing driver may end it.
    """
    if device == "cpu":
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRY, device], check=False, capture_output=True, text=True,
            encoding="utf-8", errors="replace", timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"200 rows and one round took more than {_SECONDS} s"
    if done.returncode == 0:
        return None
    return _lightgbm_error(done.stderr) or f"the test process ended with code {done.returncode}"


def _lightgbm_error(text: str) -> str:
    """Return the LightGBM error in a traceback, or else the last line."""
    marks = ("LightGBMError: ", "[LightGBM] [Fatal] ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [line.partition(mark)[2] for line in lines for mark in marks if mark in line]
    return (found or lines or [""])[-1].rstrip(".")
