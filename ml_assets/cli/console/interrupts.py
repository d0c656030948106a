"""Ctrl-C and SIGTERM end a command within seconds, wherever it is: in Python, in a library, in a child process.

Python looks at signals between two instructions of its main thread, and a query or a training can hold that for
minutes. So a thread reads them too, from the descriptor to which Python's handler writes at once. It lets the command
end by itself for some seconds, so that Dagster records the run as cancelled, and then ends it.
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
"""For the command to end by itself; a second signal ends it at once."""

_CHILDREN_SECONDS: Final = 1.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What ends this process when it is interrupted: its children, its folder of temporary files, then itself.

    Attributes:
        signal: the first that came.
    """

    def __init__(self) -> None:
        """Change nothing yet."""
        self.signal: int | None = None
        self._hearing, self._ending = threading.Lock(), threading.Lock()

    def __enter__(self) -> Self:
        """Listen, and let temporary files of this process and its children lie in one folder.

        Raises:
            OSError: no temporary folder can be made.
        """
        self._folder = tempfile.mkdtemp(prefix=PREFIX)
        locked(Path(self._folder))  # until the process ends
        remove_abandoned()
        tempfile.tempdir = os.environ["TMPDIR"] = self._folder
        self._heard, self._told = socket.socketpair()
        for end in (self._heard, self._told):
            end.setblocking(False)
        signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:  # SIGINT too: a shell's background job would ignore it until Dagster changes that
            signal.signal(number, signal.default_int_handler)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the temporary files; end the process if it was interrupted, whatever that led to."""
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # polars and Python each raise one for the same signal
        except KeyboardInterrupt as second:
            error = second
        self._hear()  # the other thread may not have got to it
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
            is_over = not select.select([self._heard], [], [], left)[0]
            is_first = until is None
            if (self._hear() and not is_first) or is_over:
                self.end()
            if self.signal is not None and is_first:
                until = time.monotonic() + GRACE_SECONDS

    def _hear(self) -> bool:
        """Note the signals that have come; return whether there were any."""
        with self._hearing, suppress(BlockingIOError):
            numbers = [number for number in self._heard.recv(64) if number in _SIGNALS]
            self.signal = self.signal or next(iter(numbers), None)
            return bool(numbers)
        return False


def _end_children() -> None:
    """Ask all descendants to end, and kill those that have not after a moment; where there is no /proc, none."""
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
            # The name stands in parentheses and may hold anything; the parent is the second field behind it.
            parents[int(status.parent.name)] = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [*(found - {os.getpid()})]


def _is_running(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    return False
