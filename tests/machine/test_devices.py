"""Devices for LightGBM: the error if a device cannot be used, and the fallback."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ml_assets.machine import devices
from ml_assets.machine.devices import DeviceError, Used, device_problem, used_device


@pytest.fixture(autouse=True)
def _tested_anew() -> Iterator[None]:
    device_problem.cache_clear()
    yield
    device_problem.cache_clear()


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.CompletedProcess[str]]:
    """The processes that try a device, as each ends."""
    ends: list[subprocess.CompletedProcess[str]] = []
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: ends.pop(0))
    return ends


def ended(code: int, output: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, "", output)


def test_the_wheel_from_pypi_cannot_train_on_cuda_and_the_error_gives_cause_and_fix() -> None:
    with pytest.raises(DeviceError) as caught:
        used_device("cuda", fallback=None, model="returns")

    text = str(caught.value)
    assert "model 'returns' declares device 'cuda', but LightGBM cannot train on it here: " in text
    assert "CUDA Tree Learner was not enabled in this build" in text
    assert "device_fallback: cpu" in text


def test_a_declared_fallback_is_used_and_reported() -> None:
    used = used_device("cuda", fallback="cpu", model="returns")

    assert "cpu" == used.device
    assert {"trained_on": "cpu", "fell_back": used.fell_back} == used.facts()
    assert "CUDA Tree Learner" in str(used.fell_back)


def test_the_cpu_is_not_tested_and_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))

    used = used_device("cpu", fallback=None, model="returns")

    assert (Used("cpu"), {}) == (used, used.facts())


def test_a_device_that_works_is_used_and_tried_once_a_process(tried: list[Any]) -> None:
    tried.append(ended(0))

    assert [Used("gpu"), Used("gpu")] == [used_device("gpu", fallback="cpu", model="returns") for _ in range(2)]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (ended(-6), "the test process ended with code -6"),
        (ended(1, "Traceback:\nlightgbm.basic.LightGBMError: No OpenCL device found\n"), "No OpenCL device found"),
        (ended(1, "ModuleNotFoundError: no lightgbm"), "ModuleNotFoundError: no lightgbm"),
    ],
)
def test_the_reason_is_the_message_of_the_library(end: Any, expected: str, tried: list[Any]) -> None:
    tried.append(end)

    assert expected == device_problem("gpu")
