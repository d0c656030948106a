"""Copies, on this machine, of small objects of an object store: what is read again is not fetched again.

An object is known by its ETag: one that was written anew since has another. How objects are fetched stays out; see
`ml_assets.lake.s3`.
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
"""Bytes of an object up to which it is copied; of a larger one a reader may want a part."""

MOST: Final = 256 * 2**20
"""Bytes of all copies of a process. Nothing makes room: a lazy frame may be about to read any of them."""

_log = logging.getLogger(__name__)


class Copies:
    """Copies in a folder of this process, which goes when it ends."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._bytes = 0
        self._turn = threading.Lock()

    @functools.cached_property
    def folder(self) -> Path:
        """Where they lie."""
        remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}copies-"))
        locked(folder)  # until the process ends
        weakref.finalize(self, _remove, folder, os.getpid())
        return folder

    def takes(self, size: int) -> bool:
        """Tell whether there is room for an object."""
        return size <= LARGEST and self._bytes + size <= self.most

    def find(self, url: str, etag: str) -> Path | None:
        """Return the copy of an object."""
        if not self._bytes:
            return None
        path = self._path(url, etag)
        return path if path.exists() else None

    def keep(self, url: str, etag: str, data: bytes | bytearray) -> None:
        """Keep a copy of an object, where there is room for it; a machine without a place for it does without."""
        if not self.takes(len(data)):
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
            _log.warning("no copies are kept on this machine from now on, so objects are fetched each time: %s", error)
            return
        with self._turn:
            self._bytes += len(data)

    def _path(self, url: str, etag: str) -> Path:
        return (
            self.folder / hashlib.blake2b(f"{url}\0{etag}".encode(), digest_size=16, usedforsecurity=False).hexdigest()
        )


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # not in a child that was forked from it
        shutil.rmtree(folder, ignore_errors=True)


COPIES: Final = Copies()
