"""Caches small objects of an object store on this machine, so that they are not fetched again.

An object is identified by its ETag, which changes when the object is overwritten. Not here: fetching (see
`ml_assets.lake.s3`).
"""

import functools
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import uuid
import weakref
from pathlib import Path
from typing import Final

from ml_assets.machine.temporary import PREFIX, locked, remove_abandoned

LARGEST: Final = 8 * 2**20
"""The largest object that is cached. A reader may need only a part of a larger one."""

MOST: Final = 256 * 2**20
"""The limit of all copies of a process. Copies are never evicted, because a lazy frame may still read them."""

_log = logging.getLogger(__name__)


class Copies:
    """Cached copies in a folder of this process, which is removed when the process ends."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._bytes = 0
        self._turn = threading.Lock()

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the copies."""
        remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}copies-"))
        locked(folder)  # until the process ends
        weakref.finalize(self, _remove, folder, os.getpid())
        return folder

    def has_room(self, size: int) -> bool:
        """Return whether there is room for an object of this size."""
        return size <= LARGEST and self._bytes + size <= self.most

    def find(self, url: str, etag: str) -> Path | None:
        """Return the copy of an object; None if it is not cached."""
        if not self._bytes:
            return None
        path = self._path(url, etag)
        return path if path.exists() else None

    def store(self, url: str, etag: str, data: bytes | bytearray) -> None:
        """Cache an object if there is room. If the folder is not writable, caching is turned off."""
        if not self.has_room(len(data)):
            return
        try:
            path = self._path(url, etag)
            if path.exists():
                return
            unfinished = path.with_name(uuid.uuid4().hex)
            unfinished.write_bytes(data)
            unfinished.replace(path)
        except OSError as error:
            self.most = 0
            _log.warning("caching is off from now on, so objects are fetched each time: %s", error)
            return
        with self._turn:
            self._bytes += len(data)

    def _path(self, url: str, etag: str) -> Path:
        return (
            self.folder / hashlib.blake2b(f"{url}\0{etag}".encode(), digest_size=16, usedforsecurity=False).hexdigest()
        )


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # not in a forked child
        shutil.rmtree(folder, ignore_errors=True)


COPIES: Final = Copies()
