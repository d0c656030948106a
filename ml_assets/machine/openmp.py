"""How threads of OpenMP wait for each other. LightGBM uses such threads."""

import os
from collections.abc import Mapping
from typing import Final

_WAIT: Final = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
"""Spin for about 0.03 ms, then sleep.

LightGBM's threads wait for each other many times per round, usually for a shorter time. Without spinning, two of them
take two to three times as long on idle cores. libgomp's default of 3 ms keeps busy the cores that other processes need.
`benchmarks/waiting.py` measures both.
"""


def with_waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which threads spin only briefly, unless it says otherwise. For new processes."""
    return {**_WAIT, **environment}


def wait_briefly() -> None:
    """Set the same for this process. Only effective before LightGBM is imported."""
    for name, value in _WAIT.items():
        os.environ.setdefault(name, value)
