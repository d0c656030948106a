"""Caches a database connection for a second, so that a busy process reuses it and an idle process has none.

Dagster opens a connection for each statement, so that many idle processes do not use up the server's connections. For a
process that writes a run's events, each connection costs 30 ms.
"""

import threading
import time
from typing import Final

import sqlalchemy as db
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

SECONDS: Final = 1.0
_POOL: Final = "ml_assets_pool"
"""Which of an engine's pools, one after the other, a connection belongs to."""


class IdleConnections:
    """Closes the connections of an engine's pool that are idle for some time."""

    def __init__(self, engine: Engine, *, seconds: float = SECONDS) -> None:
        """Start watching an engine, which should have a pool of size one."""
        self._engine = engine
        self._seconds = seconds
        self._turn = threading.Lock()
        self._used_at = 0.0
        self._is_watched = False
        self._pools = 0
        db.event.listen(engine, "connect", self._opened)
        db.event.listen(engine, "checkin", self._used)

    def _opened(self, _: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        entry.info[_POOL] = self._pools

    def _used(self, _: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        with self._turn:
            if entry.info.get(_POOL, 0) != self._pools:
                entry.close()  # its pool was disposed of while it was in use, and nothing else would close it
                return
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
            self._pools += 1
