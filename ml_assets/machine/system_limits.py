"""What to do where the machine refuses: a full disk, too many files, no memory, a missing right.

Libraries report these in words of their own, and a step's error reaches the command as text, so the text is looked at.
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
"""With fewer, DuckDB ends the process instead of reporting it (2.0)."""


def allow_files() -> str:
    """Let this process have enough files open; return why it cannot, '' where it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < ENOUGH_FILES and (hard == resource.RLIM_INFINITY or soft < hard):
        soft = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(ENOUGH_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= _LEAST_FILES or soft == resource.RLIM_INFINITY:
        return ""
    expected = f"expected {_LEAST_FILES} at least. Raise it: ulimit -n {ENOUGH_FILES}"
    return f"this process may have {soft} files open; {expected}."


def advice(message: str) -> str:
    """Return how to fix what an error's message reports; '' where that is of another kind, or says so already."""
    for pattern, sentence in _KINDS:
        if pattern.search(message):
            found = sentence()
            return "" if found.partition(":")[0] in message else found
    return ""


def _disk() -> str:
    free = ", ".join(f"{name} ({path}) {_free(path)}" for name, path in _folders())
    return f"A disk is full: free are {free}. Free some with ml-assets gc, or set the variable to another disk."


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
    return f"No temporary folder can be written: free are {free}. Set TMPDIR to a folder that this user may write."


def _quota() -> str:
    return "The disk quota of this user is used up. Free some with ml-assets gc, or have it raised."


def _file_size() -> str:
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return f"The limit of a file's size is reached: {most:,} bytes. Raise it: ulimit -f unlimited."


def _io() -> str:
    """Return what stops SQLite, which does not say it."""
    return _disk() if resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY else _file_size()


def _files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"The limit of open files is reached: {soft} for a process, {hard} at most. Raise it: ulimit -n {ENOUGH_FILES}."
    )


def _memory() -> str:
    address = resource.getrlimit(resource.RLIMIT_AS)[0]
    limits = [
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        *([address] if address != resource.RLIM_INFINITY else []),
        *_cgroup(),
    ]
    return (
        f"There is not enough memory: this process may use {min(limits) // _MIB:,} MiB. Build fewer days at once "
        "(--from, --to), set ML_ASSETS_DBT_MEMORY for dbt, or raise the limit; in a cluster, 'memory' under 'compute' "
        "of the stage."
    )


def _cgroup() -> Iterator[int]:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = Path(path)
        if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
            yield int(text)


def _right() -> str:
    return (
        f"A right is missing: this process runs as user {os.geteuid()}, group {os.getegid()}. Give that user the right "
        "to read and write there (chown, chmod), or name another folder."
    )


def _read_only() -> str:
    return "The disk is mounted read-only. Mount it writable, or name a folder of another disk."


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
