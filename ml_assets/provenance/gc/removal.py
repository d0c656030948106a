"""Removes what is no longer needed while runs are writing. If it is killed, nothing is left half removed.

    removed/artifacts/<asset>/[<partition>/]<version>/   manifests, with the time and reason of the removal
    trash/artifacts/<asset>/[<partition>/]<version>/     data, until it is certain that no run materialized it again
    trash/journal.json                                   what is being removed

The manifests of an artifact move first, which ends its existence. Then its data moves to the trash, and everything is
checked again. If a person has decided about any of it, everything is restored. If a run has materialized the same
content again, its data is restored. Then the trash is emptied. The next collection undoes a removal that was killed
before this step, and completes one that was killed after it. Not here: what is needed (see
`ml_assets.provenance.gc.retention`).
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from pydantic import BaseModel, ConfigDict

from ml_assets.contracts.errors import DataError
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError
from ml_assets.lake.lock import Lock
from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, SafePath
from ml_assets.lake.manifests import NOTE, REMOVED, Removal
from ml_assets.lake.order import MANIFEST_NAME
from ml_assets.lake.sealing import seal, unseal
from ml_assets.lake.store import Lake
from ml_assets.provenance.gc.census import ALERT_DAY, Census, Version, decisions, environments_since, take_census
from ml_assets.provenance.gc.retention import DAY, HOUR, Policy, RetentionDecision, decide_retention
from ml_assets.provenance.gc.uploads import abort
from ml_assets.provenance.lineage import ref_of

WHY: Final = "nothing needed it"
TRASH: Final = "trash"

_JOURNAL = "journal.json"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class UndoneError(LakeError):
    """Everything was restored, because the champion changed during the removal."""


class _Journal(BaseModel):
    """What is being removed.

    Attributes:
        versions: the folders of artifacts.
        leftovers: folders that were not artifacts. Their data may be incomplete.
        is_irreversible: whether nothing can be restored, because data is being deleted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: tuple[SafePath, ...]
    leftovers: tuple[SafePath, ...]
    is_irreversible: bool = False

    @property
    def folders(self) -> list[tuple[str, bool]]:
        """The folders, and whether each was an artifact."""
        return [*((folder, True) for folder in self.versions), *((folder, False) for folder in self.leftovers)]


@dataclass(frozen=True)
class Removed:
    """The result of a collection.

    Attributes:
        folders: the folders of removed artifacts and leftovers, relative to the lake's root.
        bytes: the freed bytes, without unfinished uploads, whose size is unknown.
        returned: folders that were materialized again during the removal.
    """

    folders: frozenset[str]
    bytes: int
    returned: Sequence[str]


def look(lake: Lake, policy: Policy) -> RetentionDecision:
    """Return what is kept and what would be removed, without changing anything.

    Raises:
        CorruptArtifactError: something is damaged or missing, so its inputs are unknown.
    """
    return decide_retention(take_census(lake, since=policy.at_work_since), policy)


def collect(lake: Lake, policy: Policy, log: Callable[[str], None]) -> tuple[RetentionDecision, Removed]:
    """Remove what is not needed; return the decision and the result.

    Raises:
        CorruptArtifactError: something cannot be read, so nothing is removed.
        LockedError: another collection is running.
        UndoneError: the champion changed during the removal.
    """
    with Lock(lake, "gc", now=policy.now) as lock:
        recover(lake, log)
        judgement = look(lake, policy)
        log(f"{len(judgement.kept)} artifacts are needed, {len(judgement.removed)} are not")
        return judgement, _remove(lake, judgement, lock, log)


def give_up(lake: Lake, ref: ArtifactRef, *, by: str, why: str, now: datetime) -> None:
    """Record that an artifact without a manifest is lost, so that it no longer blocks collections.

    Raises:
        DataError: it is not lost.
    """
    if _manifests(lake, lake.directory(ref)):
        raise DataError(f"{ref} has a manifest, so it is not lost; nothing was given up.")
    _put(
        lake,
        f"{lake.folder_left(ref)}/{NOTE}",
        Removal(artifact=ref, removed_at=now, removed_by=by, reason=why, bytes=0),
    )


def recover(lake: Lake, log: Callable[[str], None]) -> None:
    """Undo a removal that was killed, or complete it if deletion had begun.

    Raises:
        CorruptArtifactError: its journal is damaged or lost.
    """
    path = lake.path(TRASH, _JOURNAL)
    try:
        text = lake.read(path, limit=MOST_BYTES)
    except MissingArtifactError:
        _refuse_trash(lake)
        return
    fix = f"Restore it; if that is impossible, restore what is needed from {lake.path(TRASH)}, then remove the rest."
    journal = unseal(text, _Journal, where=path, what="the journal of a removal", fix=fix)
    outcome = "completed" if journal.is_irreversible else "undone"
    log(f"a removal of {len(journal.folders)} folders was killed; it is {outcome}")
    _end(lake, journal)
    _refuse_trash(lake)


def _refuse_trash(lake: Lake) -> None:
    """Refuse to continue if a removal without its journal has left files.

    Raises:
        CorruptArtifactError: there are such files.
    """
    if left := lake.tree(lake.path(TRASH)):
        raise CorruptArtifactError(
            f"{lake.path(TRASH, left[0])} and {len(left) - 1} more are left from a removal whose journal is lost or "
            "not "
            f"its own. Move them back to their paths without {TRASH}/, and their manifests from "
            f"{REMOVED}/; then start again."
        )


def _remove(lake: Lake, judgement: RetentionDecision, lock: Lock, log: Callable[[str], None]) -> Removed:
    now, census = judgement.policy.now, judgement.census
    sizes = {version.folder: version.bytes for version in judgement.removed}
    sizes |= {left.folder: left.bytes for left in judgement.leftovers}
    gone: list[str] = []
    if sizes:
        journal = _Journal(
            versions=tuple(version.folder for version in judgement.removed),
            leftovers=tuple(left.folder for left in judgement.leftovers),
        )
        _write(lake, journal)
        retired = _each(lake, lambda version: _retire(lake, version, now), judgement.removed)
        left = _each(lake, lambda folder: folder if _is_left(lake, folder, now) else None, journal.leftovers)
        sure = _Journal(
            versions=tuple(filter(None, retired)),
            leftovers=tuple(folder for folder in left if folder),
            is_irreversible=True,
        )
        _each(lake, lambda it: _set_aside(lake, it[0]), sure.folders)
        log(f"{len(sure.folders)} folders are set aside")
        lock.check()
        if named := sorted(_decided_since(lake, census).intersection(sure.versions)):
            _end(lake, journal)
            raise UndoneError(
                f"a decision about {named[0].removeprefix('artifacts/')} was made during its removal, so everything "
                "was "
                "restored. Start again."
            )
        _write(lake, sure)
        gone = _end(lake, sure)
        log(f"{len(gone)} folders are removed")
    freed = sum(sizes[folder] for folder in gone) + _remove_loose(lake, judgement)
    _prune(lake, now)
    return Removed(frozenset(gone), freed, sorted(sizes.keys() - set(gone)))


def _end(lake: Lake, journal: _Journal) -> list[str]:
    """Undo a removal or, if it is sure, complete it; return the folders that are gone."""
    end = _delete if journal.is_irreversible else _restore
    gone = _each(lake, lambda it: end(lake, *it), journal.folders)
    _prune_under(lake, TRASH, before=None)
    lake.remove(lake.path(TRASH, _JOURNAL))
    return [folder for (folder, _), is_gone in zip(journal.folders, gone, strict=True) if is_gone]


def _retire(lake: Lake, version: Version, now: datetime) -> str | None:
    """Move an artifact's manifests away and return its folder; None if it was materialized again since the decision.

    The newest moves last, so that the artifact does not change until it is gone.
    """
    folder, ref = lake.path(version.folder), ref_of(version.key)
    if set(_manifests(lake, folder)) != {manifest.name for manifest in version.made}:
        return None
    left = lake.folder_left(ref)
    note = Removal(artifact=ref, removed_at=now, removed_by="gc", reason=WHY, bytes=version.bytes)
    _put(lake, f"{left}/{NOTE}", note)
    for manifest in version.made:
        lake.move(f"{folder}/{manifest.name}", f"{left}/{manifest.name}")
    return version.folder


def _is_left(lake: Lake, folder: str, now: datetime) -> bool:
    """Return whether a folder is still a leftover that no run has begun to write."""
    files = lake.tree_with_sizes(lake.path(folder))
    return not any(map(MANIFEST_NAME.fullmatch, files)) and all(stat.modified_at < now - DAY for stat in files.values())


def _set_aside(lake: Lake, folder: str) -> None:
    """Move a folder's data to the trash, unless it is an artifact again."""
    files = lake.tree(lake.path(folder))
    if not any(map(MANIFEST_NAME.fullmatch, files)):
        for name in files:
            lake.move(lake.path(folder, name), lake.path(TRASH, folder, name))


def _delete(lake: Lake, folder: str, was_artifact: bool) -> bool:  # noqa: FBT001 - as `_restore`
    """Delete a folder's data from the trash and return True; restore it if it is an artifact again."""
    if _manifests(lake, lake.path(folder)):
        return _restore(lake, folder, was_artifact)
    for name in lake.tree(lake.path(TRASH, folder)):
        lake.remove(lake.path(TRASH, folder, name))
    return True


def _restore(lake: Lake, folder: str, was_artifact: bool) -> bool:  # noqa: FBT001 - a row of the journal
    """Restore the missing files of a folder, data first and manifests last, and return False: it is not gone."""
    trash, left = lake.path(TRASH, folder), lake.path(REMOVED, folder)
    there = set(lake.tree(lake.path(folder)))
    for name in lake.tree(trash):
        if name in there:
            lake.remove(f"{trash}/{name}")
        else:
            lake.move(f"{trash}/{name}", lake.path(folder, name))
    if not was_artifact:
        return False
    names = _manifests(lake, left)
    for name in names:
        if name not in there:
            lake.move(f"{left}/{name}", lake.path(folder, name))
    if there.isdisjoint(names) and NOTE in lake.names(left):
        lake.remove(f"{left}/{NOTE}")
    return False


def _decided_since(lake: Lake, census: Census) -> set[str]:
    """Return the folders that promotion logs have named since the census."""
    found = set()
    for model, entries in decisions(lake).items():
        for entry in entries[len(census.decisions.get(model, ())) :]:
            versions = {
                ("model", entry.champion),
                ("model", entry.challenger),
                ("evaluation", entry.evaluation_version),
            }
            found |= {f"artifacts/{model}/{stage}/{version}" for stage, version in versions}
    return found


def _remove_loose(lake: Lake, judgement: RetentionDecision) -> int:
    """Remove what is not an artifact, and return its bytes."""
    freed = 0
    for kind, files in judgement.loose.items():
        named = environments_since(lake, judgement.policy.now - HOUR) if kind == "environments" else set()
        paths = [path for path in files if path not in named]
        _each(lake, lambda path: _remove_one(lake, lake.path(path)), paths)
        freed += sum(files[path] for path in paths)
    _each(lake, lambda upload: abort(lake, upload), judgement.uploads)
    return freed


def _remove_one(lake: Lake, path: str) -> None:
    with contextlib.suppress(MissingArtifactError):  # its writer has removed it
        lake.remove(path)


def _prune(lake: Lake, now: datetime) -> None:
    """Remove folders that have been empty for a day. A run may be about to write to a newer one."""
    days = [f"alerts/{name}" for name in lake.names(lake.path("alerts")) if ALERT_DAY.fullmatch(name)]
    for top in ("artifacts", "runs", "studies", *days):
        _prune_under(lake, top, before=now - DAY)


def _prune_under(lake: Lake, top: str, *, before: datetime | None) -> None:
    """Remove empty folders; object stores have none."""
    if lake.protocol != "file":
        return
    for folder, _, _ in os.walk(lake.path(top), topdown=False):
        try:
            _remove_empty(Path(folder), before)
        except FileNotFoundError:
            continue  # it was removed meanwhile
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # a run has written to it
                raise LakeError(f"cannot remove the empty folder {folder}: {error.strerror}.") from error


def _remove_empty(folder: Path, before: datetime | None) -> None:
    with os.scandir(folder) as entries:
        is_empty = next(entries, None) is None
    if is_empty and (before is None or folder.stat().st_mtime < before.timestamp()):
        folder.rmdir()


def _manifests(lake: Lake, folder: str) -> list[str]:
    return [name for name in lake.names(folder) if MANIFEST_NAME.fullmatch(name)]


def _write(lake: Lake, journal: _Journal) -> None:
    _put(lake, lake.path(TRASH, _JOURNAL), journal)


def _put(lake: Lake, path: str, record: BaseModel) -> None:
    def write(file: BinaryIO) -> None:
        file.write(seal(record))

    lake.write(path, write)


def _each(lake: Lake, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Apply a function to many folders, in parallel if each needs requests."""
    wanted = [*items]
    with lake.pool(len(wanted)) as each:
        return each(function, wanted)
