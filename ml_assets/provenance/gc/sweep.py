"""Removes what is not marked, while runs are writing. If it is killed, nothing is left half removed.

    trash/artifacts/<asset>/[<partition>/]<version>/     data, and removed.json: a note, while it may still be restored
    removed/artifacts/<asset>/[<partition>/]<version>/   manifests, and the note with the time and reason of the removal

The note of an artifact is written to the trash, then its manifests move, which ends its existence, then its data moves
to the trash. Then the mark is checked again. What a person or a run has begun to use meanwhile, or has materialized
again, is restored: data first, manifests next, and the note is deleted last. Of the rest, the note moves first, then
the data is deleted. So a folder in the trash with a note can be restored, and one without a note was being deleted. The
next collection ends a killed one this way. Not here: what is needed (see `ml_assets.provenance.gc.mark`).
"""

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from ml_assets.contracts.errors import DataError
from ml_assets.lake.errors import LakeError, MissingArtifactError
from ml_assets.lake.lock import Lock
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.manifests import NOTE, REMOVED, Removal
from ml_assets.lake.order import MANIFEST_NAME
from ml_assets.lake.request_files import REQUESTS
from ml_assets.lake.sealing import seal
from ml_assets.lake.store import Lake
from ml_assets.provenance.gc.census import PART, Version, decisions, folder_of, steps_since, take_census
from ml_assets.provenance.gc.mark import DAY, HOUR, Marked, Policy, mark, needed
from ml_assets.provenance.gc.requests import old_requests
from ml_assets.provenance.gc.uploads import abort
from ml_assets.provenance.lineage import ref_of

WHY: Final = "nothing needed it"
TRASH: Final = "trash"


@dataclass(frozen=True)
class Removed:
    """The result of a collection.

    Attributes:
        folders: the folders of removed artifacts and leftovers, relative to the lake's root.
        bytes: the freed bytes, without unfinished uploads, whose size is unknown.
        returned: folders that were used or materialized again during the removal.
    """

    folders: frozenset[str]
    bytes: int
    returned: Sequence[str]


def look(lake: Lake, policy: Policy) -> Marked:
    """Return what is kept and what would be removed, without changing anything.

    Raises:
        CorruptArtifactError: something is damaged or missing, so its inputs are unknown.
    """
    marked = mark(take_census(lake, since=policy.at_work_since), policy)
    old = old_requests(lake, policy.requests, policy.now)
    return replace(marked, loose={**marked.loose, **({"logged requests": old} if old else {})})


def collect(lake: Lake, policy: Policy, log: Callable[[str], None]) -> tuple[Marked, Removed]:
    """Remove what is not needed; return the mark and the result.

    Raises:
        CorruptArtifactError: something cannot be read, so nothing is removed.
        LockedError: another collection is running.
    """
    with Lock(lake, "gc", now=policy.now) as lock:
        recover(lake, log)
        marked = look(lake, policy)
        log(f"{len(marked.kept)} artifacts are needed, {len(marked.removed)} are not")
        aside = [
            *lake.map(lambda version: _set_aside(lake, version, policy.now), marked.removed),
            *lake.map(lambda folder: _set_leftover_aside(lake, folder, policy.now), marked.leftovers),
        ]
        lock.check()
        used = _used(lake, marked)
        gone = lake.map(lambda folder: _end(lake, folder, is_used=folder in used), [*filter(None, aside)])
        folders = frozenset(filter(None, gone))
        log(f"{len(folders)} folders are removed")
        loose = [path for files in marked.loose.values() for path in files]
        lake.map(lambda path: _remove(lake, lake.path(path)), loose)
        lake.map(lambda upload: abort(lake, upload), marked.uploads)
        _prune(lake, policy.now)
    sizes = marked.sizes
    returned = sorted(sizes.keys() - folders)
    return marked, Removed(folders, marked.bytes - sum(sizes[folder] for folder in returned), returned)


def give_up(lake: Lake, ref: ArtifactRef, *, by: str, why: str, now: datetime) -> None:
    """Record that an artifact without a manifest is lost, so that it no longer blocks collections.

    Raises:
        DataError: it is not lost.
    """
    if _manifests(lake, lake.directory(ref)):
        raise DataError(f"{ref} has a manifest, so it is not lost; nothing was given up.")
    note = Removal(artifact=ref, removed_at=now, removed_by=by, reason=why, bytes=0)
    _put(lake, f"{lake.folder_left(ref)}/{NOTE}", note)


def recover(lake: Lake, log: Callable[[str], None]) -> None:
    """End a removal that was killed: restore what can be restored, and delete what was being deleted."""
    if left := lake.folders(f"{TRASH}/artifacts"):
        log(f"a removal was killed; {len(left)} folders are restored, or deleted if that had begun")
        lake.map(lambda it: _end(lake, f"artifacts/{it[0]}", is_used=NOTE in it[1]), left.items())


def _set_aside(lake: Lake, version: Version, now: datetime) -> str | None:
    """Move an artifact to the trash and return its folder; None if it was materialized again since the mark.

    The newest manifest moves last, so that the artifact does not change until it is gone.
    """
    folder, left = lake.path(version.folder), lake.path(REMOVED, version.folder)
    if set(_manifests(lake, folder)) != {made.name for made in version.made}:
        return None
    note = Removal(artifact=ref_of(version.key), removed_at=now, removed_by="gc", reason=WHY, bytes=version.bytes)
    _put(lake, lake.path(TRASH, version.folder, NOTE), note)
    for made in version.made:
        lake.move(f"{folder}/{made.name}", f"{left}/{made.name}")
    return _move_data(lake, version.folder)


def _set_leftover_aside(lake: Lake, folder: str, now: datetime) -> str | None:
    """Move a folder without a manifest to the trash and return it; None if a run has begun to write it."""
    files = lake.tree_with_sizes(lake.path(folder))
    is_old = all(stat.modified_at < now - DAY for stat in files.values())
    return _move_data(lake, folder) if is_old and not any(map(MANIFEST_NAME.fullmatch, files)) else None


def _move_data(lake: Lake, folder: str) -> str:
    """Move a folder's files to the trash, unless it is an artifact again; return the folder."""
    files = lake.tree(lake.path(folder))
    if not any(map(MANIFEST_NAME.fullmatch, files)):
        for name in files:
            lake.move(lake.path(folder, name), lake.path(TRASH, folder, name))
    return folder


def _used(lake: Lake, marked: Marked) -> set[str]:
    """Return the folders of what the mark lacks: what promotion logs and steps have named since, and its lineage."""
    steps = [*marked.census.steps, *steps_since(lake, marked.policy.now - HOUR)]
    keys = needed(replace(marked.census, decisions=decisions(lake), steps=steps), marked.policy)
    return {folder_of(key) for key in keys - marked.kept.keys()}


def _end(lake: Lake, folder: str, *, is_used: bool) -> str | None:
    """Delete a folder from the trash and return it; restore it if it is used, or an artifact again."""
    if is_used or _manifests(lake, lake.path(folder)):
        _restore(lake, folder)
        return None
    trash = lake.path(TRASH, folder)
    names = [*lake.tree_with_sizes(trash)]
    if NOTE in names:
        lake.move(f"{trash}/{NOTE}", lake.path(REMOVED, folder, NOTE))
        names.remove(NOTE)
    for name in names:
        _remove(lake, f"{trash}/{name}")
    return folder


def _restore(lake: Lake, folder: str) -> None:
    """Move a folder's files back, unless they exist again: data, then manifests. The note is deleted last."""
    place, trash, left = lake.path(folder), lake.path(TRASH, folder), lake.path(REMOVED, folder)
    there, names = set(lake.tree(place)), [*lake.tree_with_sizes(trash)]
    for name in names:
        if name in there or name.endswith(PART):
            _remove(lake, f"{trash}/{name}")
        elif name != NOTE:
            lake.move(f"{trash}/{name}", f"{place}/{name}")
    if NOTE in names:
        for name in _manifests(lake, left):
            if name not in there:
                lake.move(f"{left}/{name}", f"{place}/{name}")
        _remove(lake, f"{trash}/{NOTE}")


def _remove(lake: Lake, path: str) -> None:
    with contextlib.suppress(MissingArtifactError):  # its writer has removed it
        lake.remove(path)


def _prune(lake: Lake, now: datetime) -> None:
    """Remove folders that have been empty for a day; object stores have none. A run may be about to write to one."""
    if lake.protocol != "file":
        return
    days = [f"alerts/{name}" for name in lake.names(lake.path("alerts")) if name[:1].isdigit()]
    for top in ("artifacts", "runs", "studies", REQUESTS, TRASH, *days):
        for folder, _, _ in os.walk(lake.path(top), topdown=False):
            try:
                if Path(folder).stat().st_mtime < (now - DAY).timestamp():
                    Path(folder).rmdir()
            except FileNotFoundError:
                continue  # it was removed meanwhile
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise LakeError(f"cannot remove the empty folder {folder}: {error.strerror}.") from error


def _manifests(lake: Lake, folder: str) -> list[str]:
    return [name for name in lake.names(folder) if MANIFEST_NAME.fullmatch(name)]


def _put(lake: Lake, path: str, note: Removal) -> None:
    lake.write(path, lambda file: file.write(seal(note)))
