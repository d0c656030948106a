"""Steps that run in the run's own process, one after the other, on a thread beside the executor's.

Which steps these are, and what their events mean, stays out.
"""

import ctypes
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

from dagster._core.errors import DagsterExecutionInterruptedError

_GRACE_SECONDS: Final = 15
"""How long an interrupted step has to say so; the kubelet kills the pod after 30 s."""


class LocalSteps:
    """Steps on one thread of this process."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="step")
        self._steps: dict[str, Future[None]] = {}
        self._ended = threading.Event()
        self._thread: int | None = None

    def start(self, key: str, work: Callable[[], None]) -> None:
        """Let a step run when those before it are done."""

        def run() -> None:
            self._thread = threading.get_ident()
            try:
                work()
            finally:
                self._thread = None

        self._steps[key] = self._pool.submit(run)
        self._steps[key].add_done_callback(lambda _: self._ended.set())

    def wait(self, seconds: float) -> None:
        """Wait until a step is done, or so long; not at all where one was done since the last time."""
        self._ended.wait(seconds)
        self._ended.clear()

    def problem(self, key: str) -> str | None:
        """Return why a step does not run and never ended in order; nothing while it waits, runs or has ended."""
        step = self._steps.get(key)
        if step is None:
            return "it is not running in this process."
        error = step.exception() if step.done() and not step.cancelled() else None
        if error is None:
            return None
        return "it ended without a word:\n" + "".join(traceback.format_exception(error))

    def interrupt(self) -> None:
        """End what runs and what waits, as a signal ends a step on the main thread: between two lines of Python."""
        for step in self._steps.values():
            step.cancel()
        running = [step for step in self._steps.values() if not step.done()]
        if running and self._thread is not None:
            interruption = ctypes.py_object(DagsterExecutionInterruptedError)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), interruption)
            wait(running, timeout=_GRACE_SECONDS)

    def finish(self) -> None:
        """Let what runs come to its end, and nothing that waits begin.

        A process that ended over a step that runs would have it fail of just that: Python gives it no more threads, and
        the failure would stand in the run's log, which goes on in another pod. The kubelet says how long this may take.
        """
        for step in self._steps.values():
            step.cancel()
        wait(self._steps.values())

    def close(self) -> None:
        """Take no more steps."""
        self._pool.shutdown(wait=False, cancel_futures=True)
