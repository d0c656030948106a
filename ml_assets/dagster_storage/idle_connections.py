"""Caches a database connection for a second, so that a busy process reuses it and an idle process has none.

Dagster opens a connection for each statement, so that many idle processes do not use up the server's connections. For a
process that writes a run's events, each connection costs 30 ms.
"""

import threading
import time
from typing import Any, Final

import sqlalchemy as db
from sqlalchemy.engine import Engine

SECONDS: Final = 1.0


class IdleConnections:
    """Closes the connections of an engine's pool that are idle for some time."""

    def __init__(self, engine: Engine, *, seconds: float = SECONDS) -> None:
        """Start watching an engine, which should have a pool of size one."""
        self._engine = engine
        self._seconds = seconds
        self._turn = threading.Lock()
        self._used_at = 0.0
        self._is_watched = False
        db.event.listen(engine, "checkin", self._used)

    def _used(self, *_: Any) -> None:
        with self._turn:
            self._used_at = time.monotonic()
            if not self._is_watched:
                self._is_watched = True
                self._check_in(self._seconds)

    def _check_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._check)
        timer.name, timer.daemon = "idle-connections", True
        timer.start()

    def _check(self) -> None:
        with self._turn:
            left = self._used_at + self._seconds - time.monotonic()
            if left > 0:
                self._check_in(left)
                return
            self._is_watched = False
        self._engine.dispose()  # a connection in use is closed when it is returned
