"""Private names of LightGBM."""

import sys
from typing import Final

from lightgbm.libpath import (
    _LIB,  # LightGBM's library, which is linked with its OpenMP library
)

LIBRARY: Final = "lightgbm"
CHECKED: Final = "4.7.0"
MEMBERS: Final[dict[str, str]] = {}

_SOFT: Final = 1
"""`omp_pause_soft` in OpenMP's header omp.h."""


def end_idle_threads() -> None:
    """End the threads that OpenMP keeps for the next call from the current thread.

    As long as all threads together have more of them than there are CPUs, libgomp lets a thread sleep instead of
    spinning at each of the many points at which threads wait for each other. LightGBM is then several times slower. A
    macOS build has another OpenMP library, which has no such rule. A libgomp before GCC 9, and a LightGBM without
    OpenMP, lack the function: nothing is ended then, and results are the same.
    """
    pause = getattr(_LIB, "omp_pause_resource_all", None)
    if pause is not None and sys.platform == "linux":
        pause(_SOFT)
