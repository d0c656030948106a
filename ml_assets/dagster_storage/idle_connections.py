"""A database connection that is kept for the next use while that comes soon, and closed when nobody comes.

Dagster opens one for each statement, so that many processes which do little do not use up the server's connections. A
process that writes a run's events pays 30 ms of the server for each of them. With this a busy process has one, and one
that does nothing has none.
"""

import threading
import time
from typing import Any, Final

import sqlalchemy as db
from sqlalchemy.engine import Engine

SECONDS: Final = 1.0


class IdleConnections:
    """Closes the connections of an engine's pool that nobody has used for some time."""

    def __init__(self, engine: Engine, *, seconds: float = SECONDS) -> None:
        """Begin to watch an engine, which should have a pool of one."""
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
                self._look_in(self._seconds)

    def _look_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._look)
        timer.name, timer.daemon = "idle-connections", True
        timer.start()

    def _look(self) -> None:
        with self._turn:
            left = self._used_at + self._seconds - time.monotonic()
            if left > 0:
                self._look_in(left)
                return
            self._is_watched = False
        self._engine.dispose()  # one that is in use right now is closed when it comes back
