"""How many threads LightGBM may use: one number for the whole process, so that its callers agree on it.

LightGBM keeps the number in a global variable, and buffers with a place for each thread are made by one reading of it
and used by another. Two calls at a time that ask for different numbers write past their end, and the process dies
(4.7.0: `predict_buf_` in src/application/predictor.hpp, `OMP_SET_NUM_THREADS` in src/utils/openmp_wrapper.cpp).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Threads:
    """The number that the calls now under way agree on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        self._number = 0

    @contextmanager
    def exactly(self, number: int) -> Iterator[None]:
        """Wait until nobody uses another number; for training. Not from within another call."""
        with self._changed:
            self._changed.wait_for(lambda: not self._calls or self._number == number)
            self._begin(number)
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def about(self, number: int) -> Iterator[int]:
        """Give the number that is in use, else this one; for predictions, which are the same by any."""
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
        with self._changed:
            self._calls -= 1
            self._changed.notify_all()


THREADS = Threads()
