"""Runs steps in the run's own process, one after the other, on a thread beside the executor's."""

import ctypes
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

from dagster import DagsterExecutionInterruptedError

_GRACE_SECONDS: Final = 15
"""How long an interrupted step has to log its end. The kubelet kills the pod after 30 s."""


class LocalSteps:
    """Steps on one thread of this process."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="step")
        self._steps: dict[str, Future[None]] = {}
        self._ended = threading.Event()
        self._thread: int | None = None

    def start(self, key: str, work: Callable[[], None]) -> None:
        """Queue a step. It runs when the steps before it are done."""

        def run() -> None:
            self._thread = threading.get_ident()
            try:
                work()
            finally:
                self._thread = None

        self._steps[key] = self._pool.submit(run)
        self._steps[key].add_done_callback(lambda _: self._ended.set())

    def wait(self, seconds: float) -> None:
        """Wait until a step is done, or for this many seconds. Return at once if one finished since the last call."""
        self._ended.wait(seconds)
        self._ended.clear()

    def problem(self, key: str) -> str | None:
        """Return why a step does not run although it did not finish; None while it waits, runs or has finished."""
        step = self._steps.get(key)
        if step is None:
            return "it is not running in this process."
        error = step.exception() if step.done() and not step.cancelled() else None
        if error is None:
            return None
        return "it ended without an event:\n" + "".join(traceback.format_exception(error))

    def interrupt(self) -> None:
        """Interrupt the running step, and drop waiting steps.

        The interruption comes between two lines of Python, as a signal would on the main thread.
        """
        for step in self._steps.values():
            step.cancel()
        running = [step for step in self._steps.values() if not step.done()]
        if running and self._thread is not None:
            interruption = ctypes.py_object(DagsterExecutionInterruptedError)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), interruption)
            wait(running, timeout=_GRACE_SECONDS)

    def finish(self) -> None:
        """Let the running step finish, and drop waiting steps.

        If the process ended during a step, the step would fail because Python refuses new threads at exit. That failure
        would be in the log of a run that continues in another pod. The kubelet limits how long the step may take.
        """
        for step in self._steps.values():
            step.cancel()
        wait(self._steps.values())

    def close(self) -> None:
        """Accept no more steps."""
        self._pool.shutdown(wait=False, cancel_futures=True)
