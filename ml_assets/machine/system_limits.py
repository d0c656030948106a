"""Gives advice when the operating system refuses something: full disk, too many open files, no memory, no permission.

Each library reports these in its own words, and a step's error reaches the command as text. So the text is searched.
"""

import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ml_assets.settings import LAKE

_MIB: Final = 2**20

ENOUGH_FILES: Final = 4096
_LEAST_FILES: Final = 256
"""With fewer, DuckDB 2.0 ends the process instead of raising an error."""


_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def container_memory() -> int | None:
    """Return this container's memory limit in bytes; None if it has none."""
    for path in _LIMITS:
        if path.is_file():
            text = path.read_text(encoding="ascii").strip()
            return int(text) if text.isdecimal() else None
    return None


def allow_files() -> str:
    """Raise this process's limit of open files if possible; return the problem if the limit stays too low, else ''."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < ENOUGH_FILES and (hard == resource.RLIM_INFINITY or soft < hard):
        soft = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(ENOUGH_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= _LEAST_FILES or soft == resource.RLIM_INFINITY:
        return ""
    expected = f"expected at least {_LEAST_FILES}. Raise the limit: ulimit -n {ENOUGH_FILES}"
    return f"this process may open {soft} files; {expected}."


def advice(message: str) -> str:
    """Return how to fix the system error in a message; '' if there is none, or if the message already contains it."""
    for pattern, sentence in _KINDS:
        if pattern.search(message):
            found = sentence()
            return "" if found.partition(":")[0] in message else found
    return ""


def _disk() -> str:
    free = ", ".join(f"{name} ({path}) {_free(path)}" for name, path in _folders())
    return f"A disk is full. Free space: {free}. Free some with ml-assets gc, or set the variable to another disk."


def _folders() -> Iterator[tuple[str, Path]]:
    lake = os.environ.get(LAKE) or ".lake"
    if "://" not in lake:
        yield LAKE, Path(lake)
    yield "TMPDIR", Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - where Python looks too
    yield "DAGSTER_HOME", Path(os.environ.get("DAGSTER_HOME") or ".dagster")


def _free(path: Path) -> str:
    there = next((it for it in (path, *path.absolute().parents) if it.exists()), Path("/"))
    usage = shutil.disk_usage(there)
    return f"{usage.free // _MIB:,} of {usage.total // _MIB:,} MiB"


def _temporary() -> str:
    free = ", ".join(f"{path} {_free(path)}" for name, path in _folders() if name == "TMPDIR")
    return f"No temporary folder is writable. Free space: {free}. Set TMPDIR to a folder that this user may write to."


def _quota() -> str:
    return "The disk quota of this user is used up. Free some space with ml-assets gc, or have the quota raised."


def _file_size() -> str:
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return f"The file size limit is reached: {most:,} bytes. Raise it: ulimit -f unlimited."


def _io() -> str:
    """Return the likely cause of SQLite's I/O error, which does not name it."""
    return _disk() if resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY else _file_size()


def _files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"The limit of open files is reached: {soft} per process, at most {hard}. Raise it: ulimit -n {ENOUGH_FILES}."
    )


def _memory() -> str:
    address, container = resource.getrlimit(resource.RLIMIT_AS)[0], container_memory()
    limits = [
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        *([] if address == resource.RLIM_INFINITY else [address]),
        *([] if container is None else [container]),
    ]
    return (
        f"There is not enough memory: this process may use {min(limits) // _MIB:,} MiB. Build fewer days at once "
        "(--from, --to), set ML_ASSETS_DBT_MEMORY for dbt, or raise the limit; in a cluster, 'memory' under 'compute' "
        "of the stage."
    )


def _right() -> str:
    return (
        f"Missing permission: this process runs as user {os.geteuid()}, group {os.getegid()}. Give that user "
        "permission to read and write there (chown, chmod), or use another folder."
    )


def _read_only() -> str:
    return "The disk is mounted read-only. Mount it writable, or use a folder on another disk."


_NO_MEMORY: Final = (
    r"MemoryError|Cannot allocate memory|Out of Memory Error|bad_?alloc|bad allocation|malloc of size|"
    r"[Uu]nable to allocate|failed to map segment"
)
_KINDS: Final[tuple[tuple[re.Pattern[str], Callable[[], str]], ...]] = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (r"No usable temporary directory", _temporary),
        (r"No space left on device|os error 28\b|disk is full|failed to offload data block", _disk),
        (r"Disk quota exceeded|os error 122\b", _quota),
        (r"File too large|os error 27\b", _file_size),
        (r"disk I/O error", _io),
        (r"Too many open files|os error 24\b|unable to open database file", _files),
        (_NO_MEMORY, _memory),
        (r"Read-only file system|os error 30\b|readonly database", _read_only),
        (r"Permission denied|Operation not permitted|os error 13\b", _right),
    )
)
