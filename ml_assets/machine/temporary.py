"""Folders of this machine that go when their process is done with them; those of killed processes go later.

A process holds a lock on its folder, which the system releases however the process ends. A folder whose lock is free,
and in which nothing was written for an hour, belongs to nobody: the next process that makes one removes it, and so does
garbage collection.
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
"""How long nothing was written in a folder before it counts as abandoned: its process may be about to lock it."""


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Give an empty folder, removed at the end; abandoned ones are removed first.

    Args:
        purpose: a word that says what for, which is in its name.
    """
    remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{purpose}-") as name:
        handle = locked(Path(name))
        try:
            yield Path(name)
        finally:
            os.close(handle)


def locked(folder: Path) -> int:
    """Lock a folder of this process, and of those forked from it, until the handle is closed that is returned."""
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return handle


def abandoned(*, grace_seconds: float = GRACE_SECONDS) -> list[Path]:
    """Return this user's folders that belong to no process."""
    with contextlib.suppress(FileNotFoundError), os.scandir(_where()) as entries:
        mine = [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False) and _is_mine(entry)
        ]
        return sorted(path for path in mine if _is_free(path) and _written_at(path) < time.time() - grace_seconds)
    return []


def remove_abandoned(*, grace_seconds: float = GRACE_SECONDS) -> list[Path]:
    """Remove this user's folders that belong to no process, and return them; another process may do so at once."""
    found = abandoned(grace_seconds=grace_seconds)
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return [path for path in found if not path.exists()]


def _where() -> Path:
    """Return where the folders of all processes lie; a command has one for all that it makes itself."""
    mine = Path(tempfile.gettempdir())
    return mine.parent if mine.name.startswith(PREFIX) else mine


def _is_mine(entry: "os.DirEntry[str]") -> bool:
    with contextlib.suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False).st_uid == os.getuid()
    return False


def _is_free(path: Path) -> bool:
    """Tell whether no process holds a folder's lock."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # it went just now, or cannot be opened, so it cannot be removed either
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
    """Return when something was last written in a folder, in seconds since the epoch."""
    newest = 0.0
    for folder, _, files in os.walk(path):
        for name in (folder, *(f"{folder}/{file}" for file in files)):
            with contextlib.suppress(FileNotFoundError):
                newest = max(newest, os.lstat(name).st_mtime)
    return newest
