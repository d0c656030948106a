"""A lake's objects on a disk: written under another name, and renamed when they are whole.

Whatever changes the disk goes through the few functions at the top, which is where tests inject faults. What the
objects mean stays out; see `ml_assets.lake.objects`.
"""

import contextlib
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
"""Bytes up to which a write waits for the disk."""

_TRIES: Final = 3
"""Times that a folder is made for one file."""
_Done = TypeVar("_Done")

_OPEN_FILES: Final = "/proc/self/fd" if Path("/proc/self/fd").is_dir() else None


def make_folder(path: str) -> None:
    """Make a folder and those above it."""
    os.makedirs(path, exist_ok=True)  # noqa: PTH103 - hot path, 10 times pathlib, here and below


def open_new(path: str) -> BinaryIO:
    """Open a file that does not exist yet."""
    return open(path, "x+b")  # noqa: PTH123 - who calls closes


def fill(file: BinaryIO, write: Callable[[BinaryIO], None]) -> None:
    """Let somebody write into an open file; what writes past Python into a real file need not copy."""
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
    """Give a file another name, whatever stood there."""
    os.replace(source, target)  # noqa: PTH105


def link(source: str, target: str) -> None:
    """Give a file one more name; it appears whole or not at all, and only where nothing stands."""
    os.link(source, target)


def unlink(path: str) -> None:
    """Take a name away."""
    os.unlink(path)  # noqa: PTH108


class Disk:
    """The files under a folder; paths are relative to it, with '/' between their parts."""

    def __init__(self, root: str) -> None:
        self.root = root

    @functools.cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self.root)

    def _path(self, relative: str) -> str:
        return f"{self.root}/{relative}" if relative else self.root or "/"

    def open(self, relative: str, check: Callable[[int], None]) -> BinaryIO:
        """Open a file to read; `check` is told its size first."""
        path = self._path(relative)
        # Without O_NONBLOCK a named pipe would be waited for, for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            self._refuse_outside(path, handle)
            check(_size_of_file(path, os.fstat(handle)))
        except BaseException:
            os.close(handle)
            raise
        return os.fdopen(handle, "rb")

    def read(self, relative: str, check: Callable[[int], None]) -> bytes:
        """Return a file's bytes; `check` is told their number first."""
        with self.open(relative, check) as file:
            return file.read()

    def write(self, relative: str, write: Callable[[BinaryIO], None]) -> Written:
        """Write a file as a whole, whatever stood there.

        Its bytes are on the disk before its name is. The name is not waited for: file systems with a journal bring
        names to the disk in the order in which they were given, and `create`, which writes manifests, waits for its.
        Large files are not waited for, which would double what they cost: where the power goes in the seconds until the
        system has written one, its digest tells, and making it again mends it.
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
        """Write a file where none stands, and wait until it is on the disk, with its name and those given before it.

        Raises:
            FileExistsError: one stands there.
        """
        path = self._path(relative)
        with self._scratch(path) as (scratch, file):
            fill(file, lambda target: _all(target, data))
            sync(file)
            link(scratch, path)
            unlink(scratch)
        sync_folder(os.path.dirname(path))  # noqa: PTH120
        return None

    @contextlib.contextmanager
    def _scratch(self, path: str) -> Iterator[tuple[str, BinaryIO]]:
        """Open a file beside `path`; if it still has that name in the end, it goes."""
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
        """Do something in the folder of a path, which is made for it, again where `gc` takes it away before.

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
        """Return the names directly under a folder, sorted; none where it does not exist."""
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
        """Return the relative paths of all files under a folder, those half written left out."""
        path = self._path(relative)
        self._refuse_outside(path)
        return sorted(name for name, _ in _walk(path) if not name.endswith(_PART))

    def tree_with_sizes(self, relative: str) -> dict[str, Stat]:
        """Return all files under a folder by relative path, those half written too."""
        path = self._path(relative)
        self._refuse_folder_outside(path)
        found = {}
        for name, entry in _walk(path):
            with contextlib.suppress(FileNotFoundError):  # it went since it was listed
                found[name] = _stat(entry.stat(follow_symlinks=False))
        return dict(sorted(found.items()))

    def trees(self, relatives: Sequence[str]) -> dict[str, dict[str, Stat]]:
        """Return all files under each of some folders by path from there, those half written left out."""
        whole = {relative: self.tree_with_sizes(relative) for relative in relatives}
        return {
            relative: {name: stat for name, stat in tree.items() if not name.endswith(_PART)}
            for relative, tree in whole.items()
        }

    def near(self, relative: str, known: Stat) -> None:
        """Keep no copies: a file is near as it is."""

    def stat(self, relative: str) -> Stat:
        """Return a file's size and age."""
        path = self._path(relative)
        self._refuse_outside(path)
        status = os.stat(path)  # noqa: PTH116
        if not modes.S_ISREG(status.st_mode):
            raise FileNotFoundError(path)
        return _stat(status)

    def move(self, source: str, target: str) -> None:
        """Give a file another name, whatever stood there."""
        old, new = self._path(source), self._path(target)
        self._refuse_outside(os.path.dirname(old))  # noqa: PTH120
        os.lstat(old)  # before a folder is made for it
        self._in_folder(new, lambda: replace(old, new))

    def remove(self, relative: str) -> None:
        """Remove a file."""
        path = self._path(relative)
        self._refuse_outside(os.path.dirname(path))  # noqa: PTH120
        unlink(path)

    def _refuse_folder_outside(self, path: str) -> None:
        """Follow symbolic links to a folder, and stay: asking what an open folder is takes a tenth of following them.

        Raises:
            LakeError: it lies outside of the lake.
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
        """Follow symbolic links, and stay.

        Args:
            path: what is about to be used.
            handle: the same, opened: where the system says what a handle stands for, nobody can swap it meanwhile.

        Raises:
            LakeError: it lies outside of the lake.
        """
        opened = handle is not None and _OPEN_FILES is not None
        real = os.readlink(f"{_OPEN_FILES}/{handle}") if opened else os.path.realpath(path)  # noqa: PTH115
        if real != self._real_root and not real.startswith(self._real_root.rstrip("/") + "/"):
            raise LakeError(
                f"{path} leads out of the lake {self.root}, by a symbolic link to {real}; nothing there is read or "
                "written. Put the files themselves into the lake, or set the lake's address to where they are."
            )


def _all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _size_of_file(path: str, status: os.stat_result) -> int:
    """Return the size of a plain file.

    Raises:
        MissingArtifactError: it is something else, such as a pipe, which may never end.
    """
    if not modes.S_ISREG(status.st_mode):
        raise MissingArtifactError(f"{path} is no file, so it is no object of the lake. Take it away.")
    return status.st_size


def _stat(status: os.stat_result) -> Stat:
    return Stat(status.st_size, datetime.fromtimestamp(status.st_mtime, tz=UTC), None)


def _walk(root: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield files with their paths relative to a root; links are files here, and not followed."""
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
