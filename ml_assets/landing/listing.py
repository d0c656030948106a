"""Files that come day by day, in a folder or on S3: what there is of each day, and their bytes.

What is in them stays out; see `ml_assets.landing.sources`. Which names stand for which day:
`ml_assets.landing.day_pattern`.
"""

import errno
import hashlib
import os
import stat as modes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, BinaryIO

from pydantic import JsonValue

from ml_assets.lake.access import Access
from ml_assets.lake.errors import SourceError
from ml_assets.lake.manifest import FILES, Manifest
from ml_assets.lake.origin import memory_bytes
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.project import declared_place

_FEW_DAYS = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Arrived:
    """A file as it is listed.

    Attributes:
        name: its path below the pattern's root.
        etag: what S3 says of its content; None in a folder, where the time at which it was written has to do.
    """

    name: str
    bytes: int
    modified_at: datetime
    etag: str | None = None

    @property
    def facts(self) -> dict[str, JsonValue]:
        """What tells it from what stood under its name before."""
        told = {"modified_at": self.modified_at.isoformat()} if self.etag is None else {"etag": self.etag}
        return {"name": self.name, "bytes": self.bytes, **told}

    def is_growing(self, now: datetime, settle_seconds: float) -> bool:
        """Tell whether somebody may still be writing it; an object of S3 appears whole."""
        # What bears a time far ahead bears a wrong one: to wait for that would be to wait for ever.
        return self.etag is None and abs((now - self.modified_at).total_seconds()) < settle_seconds


@dataclass(frozen=True)
class Listing:
    """The files of each day, in the order of their names, and names that look like the pattern's but have no day."""

    days: Mapping[date, tuple[Arrived, ...]]
    strange: tuple[str, ...] = ()


def list_files(pattern: DayPattern, access: Access) -> Listing:
    """Return what there is of every day, from one listing.

    Raises:
        SourceError: the folder or bucket cannot be listed.
    """
    found: dict[date, list[Arrived]] = {}
    strange = []
    for arrived in sorted(_listed(pattern, access), key=lambda it: it.name):
        day = pattern.day_of(arrived.name)
        if day is not None:
            found.setdefault(day, []).append(arrived)
        elif pattern.resembles(arrived.name):
            strange.append(arrived.name)
    return Listing({day: tuple(files) for day, files in sorted(found.items())}, tuple(strange))


def files_of_days(pattern: DayPattern, days: Sequence[date], access: Access) -> dict[date, tuple[Arrived, ...]]:
    """Return the files of some days, in the order of their names; nothing for days that have none.

    Raises:
        SourceError: the folder or bucket cannot be listed.
    """
    if len(days) > _FEW_DAYS:
        found = list_files(pattern, access).days
        return {day: found[day] for day in days if day in found}
    each = {day: sorted(_listed(pattern.for_day(day), access), key=lambda it: it.name) for day in days}
    # A pattern of one day takes what `*` stands for as it is; whether it is of the day, the whole pattern says.
    kept = {day: tuple(it for it in files if pattern.day_of(it.name) == day) for day, files in each.items()}
    return {day: files for day, files in kept.items() if files}


def read_file(pattern: DayPattern, arrived: Arrived, access: Access) -> bytes:
    """Return a file's bytes.

    Raises:
        SourceError: it is gone, is no plain file, is larger than this machine's memory, or cannot be read.
    """
    where = f"{pattern.root}/{arrived.name}"
    try:
        return _object(pattern, arrived.name, access) if pattern.is_s3 else _plain_file(where)
    except FileNotFoundError as error:
        raise SourceError(f"source file {where} is gone since it was listed; materialize the day again.") from error
    except OSError as error:
        raise SourceError(f"source file {where} cannot be read: {_reason(error)}") from error


def file_facts(arrived: Arrived, data: bytes) -> dict[str, JsonValue]:
    """Return what a manifest says of a file that was landed."""
    return {**arrived.facts, "digest": hashlib.blake2b(data, digest_size=16, usedforsecurity=False).hexdigest()}


def landed_files(manifest: Manifest | None) -> list[Mapping[str, Any]]:
    """Return what a raw day's manifest says of the files that it was made from."""
    facts = manifest.parameters.get(FILES) if manifest is not None else None
    own = facts.get(str(manifest.partition)) if manifest is not None and isinstance(facts, Mapping) else None
    return [it for it in own if isinstance(it, Mapping)] if isinstance(own, list) else []


def is_made_from(manifest: Manifest | None, files: Iterable[Arrived]) -> bool:
    """Tell whether a raw day was made from these very files."""
    facts = [{name: value for name, value in it.items() if name != "digest"} for it in landed_files(manifest)]
    return manifest is not None and facts == [it.facts for it in files]


def _reason(error: OSError) -> str:
    """Return why a file or folder cannot be read, and what would help; the store's own sentences say both."""
    if error.errno == errno.ELOOP:
        return "it is a link, which is not followed. Put the file itself there."
    if isinstance(error, PermissionError):
        return "this user may not read it. Give it the right to."
    return f"{(error.strerror or str(error)).rstrip('.')}."


def _listed(pattern: DayPattern, access: Access) -> Iterator[Arrived]:
    try:
        yield from _objects(pattern, access) if pattern.is_s3 else _folder(pattern)
    except OSError as error:
        where = f"{pattern.root}/{pattern.prefix}" if pattern.is_s3 else pattern.root
        raise SourceError(
            f"{where} cannot be listed for 'files' {pattern.text}: {_reason(error)} Make it, let this user "
            "read it, or correct 'files' in the declaration."
        ) from error


def _folder(pattern: DayPattern) -> Iterator[Arrived]:
    """Yield the files below a folder; symbolic links are not followed, as they could lead anywhere."""
    with os.scandir(
        declared_place(pattern.root)
    ):  # that there is nothing below it is no error; that it is not there is one
        waiting = [("", 0)]
    while waiting:
        prefix, depth = waiting.pop()
        is_last = depth == len(pattern.parts) - 1
        for name, status in _entries(pattern, prefix, depth):
            if is_last and modes.S_ISREG(status.st_mode):
                yield Arrived(
                    prefix + name, status.st_size, _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
                )
            elif not is_last and modes.S_ISDIR(status.st_mode):
                waiting.append((f"{prefix}{name}/", depth + 1))


def _entries(pattern: DayPattern, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    folder = f"{declared_place(pattern.root)}/{prefix}"
    literal = pattern.literal(depth)
    if literal is not None:
        try:
            yield literal, os.lstat(folder + literal)
        except (FileNotFoundError, NotADirectoryError):
            return
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if pattern.is_like(depth, entry.name):
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # it went since it was listed
                    continue


def _objects(pattern: DayPattern, access: Access) -> Iterator[Arrived]:
    from ml_assets.lake.s3 import PatientS3

    fs = PatientS3(**access.fsspec())
    wanted = {"Bucket": pattern.root.removeprefix("s3://"), "Prefix": pattern.prefix}
    while True:
        page = fs.call_s3("list_objects_v2", **wanted)
        for it in page.get("Contents", []):
            if not it["Key"].endswith("/"):
                yield Arrived(it["Key"], it["Size"], it["LastModified"], it["ETag"].strip('"'))
        if not page.get("IsTruncated"):
            return
        wanted["ContinuationToken"] = page["NextContinuationToken"]


def _object(pattern: DayPattern, name: str, access: Access) -> bytes:
    from ml_assets.lake.s3 import Bucket

    return Bucket(pattern.root, access).read(name, lambda size: _check_size(f"{pattern.root}/{name}", size))


def _plain_file(path: str) -> bytes:
    # Without O_NONBLOCK a named pipe would be waited for, for ever.
    handle = os.open(declared_place(path), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        return _whole(file, path)


def _whole(file: BinaryIO, path: str) -> bytes:
    status = os.fstat(file.fileno())
    if not modes.S_ISREG(status.st_mode):
        raise SourceError(f"source file {path} is no plain file; put the rows themselves there.")
    _check_size(path, status.st_size)
    return file.read()


def _check_size(path: str, size: int) -> None:
    if size > memory_bytes():
        raise SourceError(
            f"source file {path} has {size:,} bytes, for which this machine has no memory; it is not read. Split it: "
            "a day may have several files."
        )
