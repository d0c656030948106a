"""A mutual exclusion lock stored in the lake, so that it works across machines.

Not here: garbage collection, which uses it (see `ml_assets.provenance.gc.sweep`).

    locks/<name>/000001.json
"""

import contextlib
import os
import socket
import uuid
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from pydantic import AwareDatetime

from ml_assets.contracts.json_record import Record
from ml_assets.lake.errors import LakeError, MissingArtifactError
from ml_assets.lake.objects import Objects
from ml_assets.lake.sealing import seal, unseal

STALE: Final = timedelta(days=1)
_MOST_BYTES: Final = 2**16
_FIX: Final = "Check that no garbage collection runs, then remove it."


class LockedError(LakeError):
    """Another process holds the lock."""


class Holder(Record):
    """The holder of a lock."""

    host: str
    pid: int
    acquired_at: AwareDatetime
    id: str


class Lock:
    """A lock that is held within its `with` block.

    Each process creates the file with the next number, then checks for others. If two do so at once, at least one sees
    the other. A lock that is older than a day is taken over.
    """

    def __init__(self, lake: Objects, name: str, *, now: datetime) -> None:
        """Prepare the lock. Nothing is written before the `with` block."""
        self.lake = lake
        self.folder = lake.path("locks", name)
        self.holder = Holder(host=socket.gethostname(), pid=os.getpid(), acquired_at=now, id=uuid.uuid4().hex)
        self.path = ""

    def __enter__(self) -> Self:
        """Acquire the lock.

        Raises:
            LockedError: another process holds it.
        """
        stale = self._others()
        number = 1 + max((int(path.rsplit("/", 1)[1].removesuffix(".json")) for path in stale), default=0)
        path = f"{self.folder}/{number:06d}.json"
        try:
            self.lake.create(path, seal(self.holder))
        except FileExistsError as error:
            raise LockedError(
                f"another process created {path} at the same moment; try again when it is done."
            ) from error
        self.path = path
        try:
            stale = self._others()
        except LockedError:
            self._release()
            raise
        for left in stale:
            self._remove(left)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        self._release()

    def check(self) -> None:
        """Check that the lock is still held.

        Raises:
            LockedError: another process took it over after a day.
        """
        held = self._read(self.path)
        if held is None or held.id != self.holder.id:
            raise LockedError(
                f"{self.path} was taken over by another process after a day; start again when it is done."
            )

    def _others(self) -> list[str]:
        """Return stale locks.

        Raises:
            LockedError: another lock may still be held.
        """
        stale = []
        for name in self.lake.names(self.folder):
            path = f"{self.folder}/{name}"
            if path == self.path or name.endswith(".part") or (held := self._read(path)) is None:
                continue
            if self.holder.acquired_at - held.acquired_at <= STALE:
                raise LockedError(
                    f"process {held.pid} on {held.host} has held the lock since {held.acquired_at:%Y-%m-%d %H:%M} UTC. "
                    f"Wait for it. If it does not run any more, remove {path}; after a day that happens automatically."
                )
            stale.append(path)
        return stale

    def _read(self, path: str) -> Holder | None:
        """Return the holder of a lock; None if it was released meanwhile.

        Raises:
            CorruptArtifactError: the lock file is damaged.
        """
        try:
            text = self.lake.read(path, limit=_MOST_BYTES)
        except MissingArtifactError:
            return None
        return unseal(text, Holder, where=path, what="the record of a lock's holder", fix=_FIX)

    def _release(self) -> None:
        self._remove(self.path)
        self.path = ""

    def _remove(self, path: str) -> None:
        with contextlib.suppress(MissingArtifactError):
            self.lake.remove(path)
