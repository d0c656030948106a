"""Temporary folders that are removed when their process ends, even if it is killed.

A process holds a lock on its folder. The system releases the lock however the process ends. A folder is abandoned if
its lock is free and nothing was written to it for an hour. The next process that creates a folder removes abandoned
ones, and so does garbage collection.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PREFIX: Final = "ml-assets-"
GRACE_SECONDS: Final = 3600.0
"""How long a folder must be unchanged to count as abandoned. A new folder is not locked for a moment."""


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty folder and remove it at the end. Abandoned folders are removed first.

    Args:
        purpose: a word that becomes part of the folder's name.
    """
    remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{purpose}-") as name:
        handle = locked(Path(name))
        try:
            yield Path(name)
        finally:
            os.close(handle)


def locked(folder: Path) -> int:
    """Lock a folder for this process and its forks until the returned handle is closed."""
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return handle


def abandoned() -> list[Path]:
    """Return this user's folders that no process uses."""
    with contextlib.suppress(FileNotFoundError), os.scandir(_where()) as entries:
        mine = [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False) and _is_mine(entry)
        ]
        return sorted(path for path in mine if _is_free(path) and _written_at(path) < time.time() - GRACE_SECONDS)
    return []


def remove_abandoned() -> list[Path]:
    """Remove this user's abandoned folders and return them. Another process may do the same concurrently."""
    found = abandoned()
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return [path for path in found if not path.exists()]


def _where() -> Path:
    """Return the parent of all processes' folders. A command's own temporary folder lies one level deeper."""
    mine = Path(tempfile.gettempdir())
    return mine.parent if mine.name.startswith(PREFIX) else mine


def _is_mine(entry: "os.DirEntry[str]") -> bool:
    with contextlib.suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False).st_uid == os.getuid()
    return False


def _is_free(path: Path) -> bool:
    """Return whether no process holds a folder's lock."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # it was removed just now, or cannot be opened and so cannot be removed
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(handle)


def _written_at(path: Path) -> float:
    """Return when something was last written to a folder, in seconds since the epoch."""
    newest = 0.0
    for folder, _, files in os.walk(path):
        for name in (folder, *(f"{folder}/{file}" for file in files)):
            with contextlib.suppress(FileNotFoundError):
                newest = max(newest, os.lstat(name).st_mtime)
    return newest
