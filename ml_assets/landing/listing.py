"""Lists source files that arrive by day, in a folder or on S3, and reads them.

Not here: their content (see `ml_assets.landing.sources`), and the patterns of their names (see
`ml_assets.landing.day_pattern`).
"""

import errno
import os
import stat as modes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from pydantic import JsonValue

from ml_assets.contracts.periods import BY_DAY, BY_HOUR, DAILY, Calendar
from ml_assets.lake.access import Access
from ml_assets.lake.errors import SourceError
from ml_assets.lake.manifest import FILES, Manifest
from ml_assets.lake.origin import memory_bytes
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.landing.source_bytes import digest
from ml_assets.project import declared_place

_FEW_DAYS = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Arrived:
    """A listed file.

    Attributes:
        name: its path below the pattern's root.
        etag: S3's ETag; None in a folder, where the modification time is used instead.
    """

    name: str
    bytes: int
    modified_at: datetime
    etag: str | None = None

    @property
    def facts(self) -> dict[str, JsonValue]:
        """Facts that change if the file is replaced under the same name."""
        version = {"modified_at": self.modified_at.isoformat()} if self.etag is None else {"etag": self.etag}
        return {"name": self.name, "bytes": self.bytes, **version}

    def is_growing(self, now: datetime, settle_seconds: float) -> bool:
        """Return whether a process may still be writing the file. An object of S3 appears complete."""
        # A modification time far in the future is wrong. Waiting for it would take forever.
        return self.etag is None and abs((now - self.modified_at).total_seconds()) < settle_seconds


@dataclass(frozen=True)
class Listing:
    """The files of each period by key, ordered by name, and names that match the pattern except for their day."""

    periods: Mapping[str, tuple[Arrived, ...]]
    strange: tuple[str, ...] = ()


def list_files(pattern: DayPattern, access: Access, calendar: Calendar = DAILY) -> Listing:
    """Return the files of every period, from one listing.

    Raises:
        SourceError: the folder or bucket cannot be listed.
    """
    found: dict[str, list[Arrived]] = {}
    strange = []
    for arrived in sorted(listed(pattern, access), key=lambda it: it.name):
        day = pattern.day_of(arrived.name)
        if day is not None:
            found.setdefault(calendar.key_of(day), []).append(arrived)
        elif pattern.resembles(arrived.name):
            strange.append(arrived.name)
    return Listing({key: tuple(files) for key, files in sorted(found.items())}, tuple(strange))


def files_of_periods(
    pattern: DayPattern, keys: Sequence[str], access: Access, calendar: Calendar = DAILY
) -> dict[str, tuple[Arrived, ...]]:
    """Return the files of some periods by their keys, ordered by name. Periods without files are absent.

    Raises:
        SourceError: the folder or bucket cannot be listed.
    """
    if len(keys) > _FEW_DAYS or calendar.grain not in {BY_HOUR, BY_DAY}:  # a file may be of any day of a longer period
        found = list_files(pattern, access, calendar).periods
        return {key: found[key] for key in keys if key in found}
    days = {key: calendar.begin(key) for key in keys}
    each = {key: sorted(listed(pattern.for_day(day), access), key=lambda it: it.name) for key, day in days.items()}
    # A one-day pattern accepts anything for `*`. The whole pattern decides whether a file belongs to the day.
    of_day = {key: tuple(it for it in its if pattern.day_of(it.name) == days[key]) for key, its in each.items()}
    return {key: files for key, files in of_day.items() if files}


def read_arrived(pattern: DayPattern, arrived: Arrived, access: Access) -> bytes:
    """Return a file's bytes.

    Raises:
        SourceError: it was removed, is not a regular file, is larger than this machine's memory, or cannot be read.
    """
    where = f"{pattern.root}/{arrived.name}"
    try:
        return _object(pattern, arrived.name, access) if pattern.is_s3 else _plain_file(where)
    except FileNotFoundError as error:
        raise SourceError(
            f"source file {where} was removed after it was listed; materialize the table again."
        ) from error
    except OSError as error:
        raise SourceError(f"source file {where} cannot be read: {_reason(error)}") from error


def file_facts(arrived: Arrived, data: bytes) -> dict[str, JsonValue]:
    """Return the facts about a landed file for the manifest."""
    return {**arrived.facts, "digest": digest(data)}


def landed_files(manifest: Manifest | None) -> list[Mapping[str, Any]]:
    """Return the facts in a raw day's manifest about its source files."""
    facts = manifest.parameters.get(FILES) if manifest is not None else None
    own = facts.get(str(manifest.partition)) if manifest is not None and isinstance(facts, Mapping) else None
    return [it for it in own if isinstance(it, Mapping)] if isinstance(own, list) else []


def is_made_from(manifest: Manifest | None, files: Iterable[Arrived]) -> bool:
    """Return whether a raw day was landed from exactly these files."""
    facts = [{name: value for name, value in it.items() if name != "digest"} for it in landed_files(manifest)]
    return manifest is not None and facts == [it.facts for it in files]


def _reason(error: OSError) -> str:
    """Return why a file or folder cannot be read, with how to fix it. S3's errors already contain both."""
    if error.errno == errno.ELOOP:
        return "it is a link, which is not followed. Put the file itself there."
    if isinstance(error, PermissionError):
        return "this user may not read it. Give the user read permission."
    return f"{(error.strerror or str(error)).rstrip('.')}."


def listed(pattern: DayPattern, access: Access) -> Iterator[Arrived]:
    """Yield the files of a folder that match a pattern, or the objects of a bucket that have its prefix.

    Raises:
        SourceError: the folder or bucket cannot be listed.
    """
    try:
        yield from _objects(pattern, access) if pattern.is_s3 else _folder(pattern)
    except OSError as error:
        where = f"{pattern.root}/{pattern.prefix}" if pattern.is_s3 else pattern.root
        raise SourceError(
            f"{where} cannot be listed for {pattern.text}: {_reason(error)} Create it, give this user "
            "read permission, or correct the declaration."
        ) from error


def _folder(pattern: DayPattern) -> Iterator[Arrived]:
    """Yield the files below a folder. Symbolic links are not followed, because they could lead anywhere."""
    with os.scandir(declared_place(pattern.root)):  # an empty folder is not an error, but a missing one is
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
                except FileNotFoundError:  # it was removed after it was listed
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
    # Without O_NONBLOCK, opening a named pipe would block forever.
    handle = os.open(declared_place(path), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        return _whole(file, path)


def _whole(file: BinaryIO, path: str) -> bytes:
    status = os.fstat(file.fileno())
    if not modes.S_ISREG(status.st_mode):
        raise SourceError(f"source file {path} is not a regular file; put the file itself there.")
    _check_size(path, status.st_size)
    return file.read()


def _check_size(path: str, size: int) -> None:
    if size > memory_bytes():
        raise SourceError(
            f"source file {path} has {size:,} bytes, more than this machine's memory, so it is not read. Split it: "
            "a day may have several files."
        )
