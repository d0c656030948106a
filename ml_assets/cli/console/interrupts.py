"""Ctrl-C and SIGTERM end a command within seconds, even during a query, a training or a child process.

Python handles signals between two instructions of its main thread, and a query or a training can hold that thread for
minutes. So a second thread reads them from the descriptor that Python's handler writes to. It gives the command some
seconds to end by itself, so that Dagster records the run as canceled, and then ends it.
"""

import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

from ml_assets.machine.temporary import PREFIX, locked, remove_abandoned

GRACE_SECONDS: Final = 5.0
"""Seconds for the command to end by itself. A second signal ends it at once."""

_CHILDREN_SECONDS: Final = 1.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Ends this process when it is interrupted: first its children, then its temporary folder, then the process.

    Attributes:
        signal: the first signal that arrived.
    """

    def __init__(self) -> None:
        """Prepare, without installing a handler."""
        self.signal: int | None = None
        self._receiving, self._ending = threading.Lock(), threading.Lock()

    def __enter__(self) -> Self:
        """Install the handler, and use one folder for the temporary files of this process and its children.

        Raises:
            OSError: no temporary folder can be created.
        """
        self._folder = tempfile.mkdtemp(prefix=PREFIX)
        locked(Path(self._folder))  # until the process ends
        remove_abandoned()
        tempfile.tempdir = os.environ["TMPDIR"] = self._folder
        self._receiver, self._sender = socket.socketpair()
        for end in (self._receiver, self._sender):
            end.setblocking(False)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:  # SIGINT too, because background jobs of a shell ignore it
            signal.signal(number, signal.default_int_handler)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the temporary files; end the process if it was interrupted."""
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # polars and Python each raise one for the same signal
        except KeyboardInterrupt as second:
            error = second
        self._receive()  # the other thread may not have run yet
        if self.signal is not None or isinstance(error, KeyboardInterrupt):
            self.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def end(self) -> NoReturn:
        """End the children and the process."""
        with self._ending:
            number = self.signal or signal.SIGINT
            with suppress(OSError, ValueError):
                sys.stdout.flush()
            with suppress(OSError):
                os.write(2, b"\nml-assets: interrupted; start the same command again to go on.\n")
            _end_children()
            shutil.rmtree(self._folder, ignore_errors=True)
            os._exit(128 + number)

    def _listen(self) -> None:
        until = None
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            is_over = not select.select([self._receiver], [], [], left)[0]
            is_first = until is None
            if (self._receive() and not is_first) or is_over:
                self.end()
            if self.signal is not None and is_first:
                until = time.monotonic() + GRACE_SECONDS

    def _receive(self) -> bool:
        """Record the signals that have arrived; return whether there were any."""
        with self._receiving, suppress(BlockingIOError):
            numbers = [number for number in self._receiver.recv(64) if number in _SIGNALS]
            self.signal = self.signal or next(iter(numbers), None)
            return bool(numbers)
        return False


def _end_children() -> None:
    """Ask all descendants to end, and kill those that have not after a moment. Without /proc, do nothing."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        children = _descendants()
        for child in children:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, number)
        until = time.monotonic() + _CHILDREN_SECONDS
        while time.monotonic() < until and any(_is_running(child) for child in children):
            time.sleep(0.02)


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name is in parentheses and may contain anything; the parent is the second field after it.
            parents[int(status.parent.name)] = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [*(found - {os.getpid()})]


def _is_running(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    return False
