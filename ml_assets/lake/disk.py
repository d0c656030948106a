"""Stores a lake's objects on a disk: written under a temporary name, and renamed when complete.

All changes of the disk go through the functions at the top, where tests inject faults. Not here: what the objects mean
(see `ml_assets.lake.objects`).
"""

import contextlib
import errno
import functools
import os
import stat as modes
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from ml_assets.lake.errors import LakeError, MissingArtifactError
from ml_assets.lake.objects import Stat, Written

_PART: Final = ".part"
_WAITED_FOR: Final = 2**24
"""The size up to which a write waits for the disk."""

_TRIES: Final = 3
"""How often a folder is created for one file."""
_Done = TypeVar("_Done")

_OPEN_FILES: Final = "/proc/self/fd" if Path("/proc/self/fd").is_dir() else None


def make_folder(path: str) -> None:
    """Create a folder and its parents.

    Raises:
        NotADirectoryError: a file is in the place of a folder. Callers take `FileExistsError` for an existing object.
    """
    try:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - hot path, 10 times pathlib, here and below
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "a file is in the place of a folder", path) from error


def open_new(path: str) -> BinaryIO:
    """Open a file that does not exist yet."""
    return open(path, "x+b")  # noqa: PTH123 - the caller closes it


def fill(file: BinaryIO, write: Callable[[BinaryIO], object]) -> None:
    """Run a writer on an open file. A real file lets native code write without copying."""
    write(file)
    file.flush()


def sync(file: BinaryIO) -> None:
    """Wait until a file's bytes are on the disk."""
    getattr(os, "fdatasync", os.fsync)(file.fileno())


def sync_folder(path: str) -> None:
    """Wait until a folder's names are on the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace(source: str, target: str) -> None:
    """Rename a file, replacing any existing file."""
    os.replace(source, target)  # noqa: PTH105


def link(source: str, target: str) -> None:
    """Give a file a second name, atomically and only if that name is free."""
    os.link(source, target)


def unlink(path: str) -> None:
    """Remove a name."""
    os.unlink(path)  # noqa: PTH108


class Disk:
    """The files under a folder. Paths are relative to it, with '/' as separator."""

    def __init__(self, root: str) -> None:
        self.root = root

    @functools.cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self.root)

    def _path(self, relative: str) -> str:
        return f"{self.root}/{relative}" if relative else self.root or "/"

    def open(self, relative: str, check: Callable[[int], None]) -> BinaryIO:
        """Open a file for reading. `check` receives its size first."""
        path = self._path(relative)
        # Without O_NONBLOCK, opening a named pipe would block forever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            self._refuse_outside(path, handle)
            check(_size_of_file(path, os.fstat(handle)))
        except BaseException:
            os.close(handle)
            raise
        return os.fdopen(handle, "rb")

    def read(self, relative: str, check: Callable[[int], None]) -> bytes:
        """Return a file's bytes. `check` receives their number first."""
        with self.open(relative, check) as file:
            return file.read()

    def write(self, relative: str, write: Callable[[BinaryIO], object]) -> Written:
        """Write a complete file, replacing any existing file.

        Its bytes reach the disk before its name does. The name is not waited for: journaling file systems write names
        in order, and `create`, which writes manifests, waits for its own. Large files are not waited for, which would
        double their cost. If power fails before the system has written one, its digest shows the damage, and
        materializing the artifact again repairs it.
        """
        from ml_assets.lake.content import file_digest

        path = self._path(relative)
        with self._scratch(path) as (scratch, file):
            fill(file, write)
            size = os.fstat(file.fileno()).st_size
            if size <= _WAITED_FOR:
                sync(file)
            file.seek(0)
            written = Written(size, file_digest(file), None)
            replace(scratch, path)
        return written

    def create(self, relative: str, data: bytes) -> str | None:
        """Write a file that does not exist yet, and wait until it and all earlier names are on the disk.

        Raises:
            FileExistsError: the file exists.
        """
        path = self._path(relative)
        with self._scratch(path) as (scratch, file):
            fill(file, lambda target: target.write(data))
            sync(file)
            link(scratch, path)
            unlink(scratch)
        sync_folder(os.path.dirname(path))  # noqa: PTH120
        return None

    @contextlib.contextmanager
    def _scratch(self, path: str) -> Iterator[tuple[str, BinaryIO]]:
        """Open a temporary file beside `path`. If it still has that name at the end, it is removed."""
        scratch = f"{path}.{uuid.uuid4().hex[:8]}{_PART}"
        file = self._in_folder(path, lambda: open_new(scratch))
        try:
            with file:
                yield scratch, file
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                unlink(scratch)
            raise

    def _in_folder(self, path: str, act: Callable[[], _Done]) -> _Done:
        """Run an action in the folder of a path. The folder is created, and created again if `gc` removes it meanwhile.

        `gc` removes folders that are empty and a day old by its own clock, which may be ahead.
        """
        folder = os.path.dirname(path)  # noqa: PTH120
        for _ in range(_TRIES - 1):
            with contextlib.suppress(FileNotFoundError):
                make_folder(folder)
                self._refuse_outside(folder)
                return act()
        make_folder(folder)
        self._refuse_outside(folder)
        return act()

    def names(self, relative: str) -> list[str]:
        """Return the names directly under a folder, sorted; empty if it does not exist."""
        path = self._path(relative)
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            self._refuse_outside(path, handle)
            return sorted(name for name in os.listdir(handle) if not name.endswith(_PART))  # noqa: PTH208
        finally:
            os.close(handle)

    def tree(self, relative: str) -> list[str]:
        """Return the relative paths of all files under a folder, without incomplete ones."""
        path = self._path(relative)
        self._refuse_outside(path)
        return sorted(name for name, _ in _walk(path) if not name.endswith(_PART))

    def tree_with_sizes(self, relative: str) -> dict[str, Stat]:
        """Return all files under a folder by relative path, including incomplete ones."""
        path = self._path(relative)
        self._refuse_folder_outside(path)
        found = {}
        for name, entry in _walk(path):
            with contextlib.suppress(FileNotFoundError):  # removed after it was listed
                found[name] = _stat(entry.stat(follow_symlinks=False))
        return dict(sorted(found.items()))

    def trees(self, relatives: Sequence[str]) -> dict[str, dict[str, Stat]]:
        """Return all files under each of several folders by relative path, without incomplete ones."""
        whole = {relative: self.tree_with_sizes(relative) for relative in relatives}
        return {
            relative: {name: stat for name, stat in tree.items() if not name.endswith(_PART)}
            for relative, tree in whole.items()
        }

    def cached_copy(self, relative: str, known: Stat) -> None:
        """Return None: files on a disk are not cached."""

    def stat(self, relative: str) -> Stat:
        """Return a file's size and age."""
        path = self._path(relative)
        self._refuse_outside(path)
        status = os.stat(path)  # noqa: PTH116
        if not modes.S_ISREG(status.st_mode):
            raise FileNotFoundError(path)
        return _stat(status)

    def move(self, source: str, target: str) -> None:
        """Rename a file, replacing any existing file."""
        old, new = self._path(source), self._path(target)
        self._refuse_outside(os.path.dirname(old))  # noqa: PTH120
        os.lstat(old)  # before a folder is created for it
        self._in_folder(new, lambda: replace(old, new))

    def remove(self, relative: str) -> None:
        """Remove a file."""
        path = self._path(relative)
        self._refuse_outside(os.path.dirname(path))  # noqa: PTH120
        unlink(path)

    def _refuse_folder_outside(self, path: str) -> None:
        """Resolve symbolic links of a folder, and check that it is inside the lake.

        Resolving an open handle takes a tenth of the time of resolving a path.

        Raises:
            LakeError: it is outside of the lake.
        """
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except (FileNotFoundError, NotADirectoryError):
            self._refuse_outside(path)
            return
        try:
            self._refuse_outside(path, handle)
        finally:
            os.close(handle)

    def _refuse_outside(self, path: str, handle: int | None = None) -> None:
        """Resolve symbolic links, and check that the path is inside the lake.

        Args:
            path: the path to use.
            handle: the same, opened. If the system can resolve handles, the path cannot be swapped meanwhile.

        Raises:
            LakeError: it is outside of the lake.
        """
        opened = handle is not None and _OPEN_FILES is not None
        real = os.readlink(f"{_OPEN_FILES}/{handle}") if opened else os.path.realpath(path)  # noqa: PTH115
        if real != self._real_root and not real.startswith(self._real_root.rstrip("/") + "/"):
            raise LakeError(
                f"{path} is outside of the lake {self.root}, through a symbolic link to {real}; it is neither read nor "
                "written. Put the files themselves into the lake, or set the lake's address to their folder."
            )


def _size_of_file(path: str, status: os.stat_result) -> int:
    """Return the size of a regular file.

    Raises:
        MissingArtifactError: it is something else, such as a pipe, which may never end.
    """
    if not modes.S_ISREG(status.st_mode):
        raise MissingArtifactError(f"{path} is not a regular file, so it is not an object of the lake. Remove it.")
    return status.st_size


def _stat(status: os.stat_result) -> Stat:
    return Stat(status.st_size, datetime.fromtimestamp(status.st_mtime, tz=UTC), None)


def _walk(root: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield files with their paths relative to a root. Links are treated as files, and not followed."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(f"{root}/{prefix}") as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{prefix}{entry.name}/")
                    else:
                        yield prefix + entry.name, entry
        except (FileNotFoundError, NotADirectoryError):
            continue
