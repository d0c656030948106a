"""One at a time: a lock that is an object of the lake, so that it holds between machines.

What is done under it stays out; see `ml_assets.provenance.gc.removal`.

    locks/<name>/000001.json
"""

import os
import socket
import uuid
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from ml_assets.lake.errors import LakeError, MissingArtifactError
from ml_assets.lake.objects import Objects
from ml_assets.lake.sealing import seal, unseal

STALE: Final = timedelta(days=1)
_MOST_BYTES: Final = 2**16
_FIX: Final = "Make sure that no garbage collection runs, then remove it."


class LockedError(LakeError):
    """Somebody else is at it."""


class Holder(BaseModel):
    """Who holds a lock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    pid: int
    since: AwareDatetime
    id: str


class Lock:
    """A lock held while its `with` lasts.

    Each taker creates the next number and looks then whether another is there. Of two at once one sees the other,
    whatever comes between; one that was left behind for a day is taken over.
    """

    def __init__(self, lake: Objects, name: str, *, now: datetime) -> None:
        """Prepare to take it; nothing is written before the `with`."""
        self.lake = lake
        self.folder = lake.path("locks", name)
        self.holder = Holder(host=socket.gethostname(), pid=os.getpid(), since=now, id=uuid.uuid4().hex)
        self.path = ""

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            LockedError: somebody else holds it.
        """
        stale = self._others()
        number = 1 + max((int(path.rsplit("/", 1)[1].removesuffix(".json")) for path in stale), default=0)
        path = f"{self.folder}/{number:06d}.json"
        try:
            self.lake.create(path, seal(self.holder))
        except FileExistsError as error:
            raise LockedError(f"somebody else took {path} at the same moment; try again when they are done.") from error
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
        """Let go of it."""
        self._release()

    def check(self) -> None:
        """Make sure that it is still held.

        Raises:
            LockedError: somebody took it over, after a day.
        """
        held = self._read(self.path)
        if held is None or held.id != self.holder.id:
            raise LockedError(f"{self.path} was taken over after a day; start again when the other one is done.")

    def _others(self) -> list[str]:
        """Return the locks that were left behind.

        Raises:
            LockedError: one of them may still be held.
        """
        stale = []
        for name in self.lake.names(self.folder):
            path = f"{self.folder}/{name}"
            if path == self.path or name.endswith(".part") or (held := self._read(path)) is None:
                continue
            if self.holder.since - held.since <= STALE:
                raise LockedError(
                    f"process {held.pid} on {held.host} is at it since {held.since:%Y-%m-%d %H:%M} UTC. Wait for it; "
                    f"if it is surely dead, remove {path}; after a day that is done by itself."
                )
            stale.append(path)
        return stale

    def _read(self, path: str) -> Holder | None:
        """Return who holds a lock; None where it was let go meanwhile.

        Raises:
            CorruptArtifactError: it is damaged.
        """
        try:
            text = self.lake.read(path, limit=_MOST_BYTES)
        except MissingArtifactError:
            return None
        return unseal(text, Holder, where=path, what="the record of who holds a lock", fix=_FIX)

    def _release(self) -> None:
        self._remove(self.path)
        self.path = ""

    def _remove(self, path: str) -> None:
        try:
            self.lake.remove(path)
        except MissingArtifactError:
            return
