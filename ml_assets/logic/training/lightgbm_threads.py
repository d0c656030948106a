"""Coordinate the number of threads that LightGBM uses: one number for the whole process at a time.

LightGBM stores the number in a global variable. Buffers with a place per thread are allocated by one reading of it and
used by another. If two concurrent calls request different numbers, they write past the end of a buffer and the process
crashes (4.7.0: `predict_buf_` in src/application/predictor.hpp, `OMP_SET_NUM_THREADS` in src/utils/openmp_wrapper.cpp).

Every call that may start threads of OpenMP is made within `exactly` or `about`, which end those threads afterwards.
A process may train on several of its threads, and what OpenMP kept for one would make the others slow.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
        from ml_assets.adapters.lightgbm import end_idle_threads

        end_idle_threads()
        with self._changed:
            self._calls -= 1
            self._changed.notify_all()


THREADS = Threads()
