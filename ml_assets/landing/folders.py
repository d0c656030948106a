"""Reads a `file` that stands for several: every file of a folder, or every file that matches a pattern with `*`.

Not here: files by day (see `ml_assets.landing.listing`), and the content of a file (see `ml_assets.landing.sources`).
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator

from ml_assets.lake.access import Access
from ml_assets.lake.errors import SourceError
from ml_assets.lake.origin import memory_bytes
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.landing.listing import Arrived, listed, read_arrived
from ml_assets.landing.source_bytes import digest
from ml_assets.landing.sources import Source
from ml_assets.project import declared_place
from ml_assets.secrets import redact

_HIDDEN = (".", "_")
_SHOWN = 3


def is_several(file: str) -> bool:
    """Return whether a declared file is a folder (`data/orders/`) or a pattern (`data/*.parquet`), here or on S3."""
    return (file.startswith("s3://") or "://" not in file) and (file.endswith("/") or "*" in file)


def pattern_of(file: str) -> DayPattern:
    """Return the pattern of the files in a folder, or of a pattern.

    Raises:
        ValueError: it is not a pattern. The message names what is expected.
    """
    return DayPattern.of_files(f"{file}*" if file.endswith("/") else file)


def each_file(file: str, access: Access) -> Iterator[tuple[str, str, bytes]]:
    """Yield the name, the address and the bytes of each file, in the order of the names.

    Raises:
        SourceError: there is no file, the folder has a folder in it, or something cannot be listed or read.
    """
    pattern = pattern_of(file)
    for arrived in listed_files(file, access):
        yield arrived.name, f"{pattern.root}/{arrived.name}", read_arrived(pattern, arrived, access)


def content_of(source: Source, access: Access) -> bytes:
    """Return the bytes of one declared file, unpacked. An object of S3 is read with the access of the lake.

    Raises:
        SourceError: the file is missing, cannot be read or cannot be unpacked.
    """
    if not source.file.startswith("s3://"):
        return source.content()
    try:
        pattern_of(source.file)
    except ValueError as error:
        raise SourceError(f"source file {redact(source.file)} is not a file on S3: {error}.") from error
    [(_, _, data)] = each_file(source.file, access)
    return source.unpacked(data)


def source_digest(file: str, access: Access) -> str:
    """Return the digest of a declared `file`, or of all files that it stands for, as they are now.

    Raises:
        SourceError: there is no file, or one cannot be read.
    """
    if not is_several(file):
        return digest(content_of(Source(file, {}), access))
    return joint_digest((name, digest(data)) for name, _, data in each_file(file, access))


def joint_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return one digest of the names and digests of several files."""
    return hashlib.blake2b(json.dumps([*files]).encode(), digest_size=16, usedforsecurity=False).hexdigest()


def listed_files(file: str, access: Access) -> list[Arrived]:
    """Return the files that a declared `file` stands for, in the order of their names.

    Raises:
        SourceError: there is no file, they are larger than memory, or something cannot be listed.
    """
    pattern = pattern_of(file)
    there = sorted(listed(pattern, access), key=lambda it: it.name)
    found = [it for it in there if pattern.matches(it.name)]
    if file.endswith("/"):
        found = [it for it in found if not _is_hidden(it.name, pattern)]
        _check_all_are_read(file, pattern, there)
    if not found:
        raise SourceError(f"there is no file {pattern.text}. Put one there, or correct 'file' in the declaration.")
    size = sum(it.bytes for it in found)
    if size > memory_bytes():
        raise SourceError(
            f"the {len(found)} files of {file} have {size:,} bytes, more than this machine's memory. Declare them by "
            "day, with 'files' and {day}."
        )
    return found


def _check_all_are_read(file: str, pattern: DayPattern, there: Iterable[Arrived]) -> None:
    """Refuse a folder with folders or links in it, because their rows would be missing without notice."""
    if pattern.is_s3:
        visible = (it.name for it in there if not _is_hidden(it.name, pattern) and not pattern.matches(it.name))
        others = sorted({f"{name.removeprefix(pattern.prefix).partition('/')[0]}/" for name in visible})
    else:
        with os.scandir(declared_place(pattern.root)) as entries:
            others = sorted(it.name for it in entries if not it.name.startswith(_HIDDEN) and not _is_file(it))
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        raise SourceError(
            f"the folder {file} contains {', '.join(others[:_SHOWN])}{more}, which would not be read: folders in it "
            f"and links are not followed. Name the files by a pattern as 'file', such as {file}*.parquet or "
            f"{file}*/*.parquet."
        )


def _is_file(entry: "os.DirEntry[str]") -> bool:
    return entry.is_file(follow_symlinks=False)


def _is_hidden(name: str, pattern: DayPattern) -> bool:
    """Return whether tools do not regard a file as data, such as `_SUCCESS` and everything below `_temporary`."""
    return any(part.startswith(_HIDDEN) for part in name.removeprefix(pattern.prefix).split("/"))
