"""Coordinate the number of threads that LightGBM uses: one number for the whole process at a time.

LightGBM stores the number in a global variable. Buffers with a place per thread are allocated by one reading of it and
used by another. If two concurrent calls request different numbers, they write past the end of a buffer and the process
crashes (4.7.0: `predict_buf_` in src/application/predictor.hpp, `OMP_SET_NUM_THREADS` in src/utils/openmp_wrapper.cpp).

Every call that may start threads of OpenMP is made within `exactly` or `about`, which end those threads afterwards.
A process may train on several of its threads, and what OpenMP kept for one would make the others slow.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SOFT: Final = 1
"""`omp_pause_soft` in OpenMP's header omp.h."""


class Threads:
    """The number of threads that all current calls use."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        self._number = 0

    @contextmanager
    def exactly(self, number: int) -> Iterator[None]:
        """Wait until no call uses another number. For training; must not be nested."""
        with self._changed:
            self._changed.wait_for(lambda: not self._calls or self._number == number)
            self._begin(number)
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def about(self, number: int) -> Iterator[int]:
        """Return the number that is in use, or this one. For calls whose result does not depend on it."""
        with self._changed:
            self._begin(self._number if self._calls else number)
            agreed = self._number
        try:
            yield agreed
        finally:
            self._end()

    def _begin(self, number: int) -> None:
        self._number = number
        self._calls += 1

    def _end(self) -> None:
        _end_idle_threads()
        with self._changed:
            self._calls -= 1
            self._changed.notify_all()


def _end_idle_threads() -> None:
    """End the threads that OpenMP keeps for the next call from the current thread.

    As long as all threads together have more of them than there are CPUs, libgomp lets a thread sleep instead of
    spinning at each of the many points at which threads wait for each other. LightGBM is then several times slower. A
    macOS build has another OpenMP library, which has no such rule. A libgomp before GCC 9, and a LightGBM without
    OpenMP, lack the function: nothing is ended then, and results are the same.
    """
    from ml_assets.adapters.lightgbm import _LIB

    pause = getattr(_LIB, "omp_pause_resource_all", None)
    if pause is not None and sys.platform == "linux":
        pause(_SOFT)


THREADS = Threads()
