"""Finds artifacts by their manifests: which exist, which are current, and what they were built from.

Read-only, and light to import: neither Dagster nor polars. Not here: writing artifacts (see `ml_assets.lake.store`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ml_assets.contracts.json_record import Record
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, Manifest
from ml_assets.lake.objects import Objects, Stat
from ml_assets.lake.order import (
    MANIFEST_NAME,
    RECORDS,
    OrderRecord,
    number_in,
    order_folder,
    record_numbers,
    run_digest,
)
from ml_assets.lake.sealing import RESTORE, unseal

REMOVED: Final = "removed"
"""The folder of the manifests of removed artifacts, at their former paths."""

MANIFEST_FOLDERS: Final = ("artifacts", f"{REMOVED}/artifacts")
"""The folders of manifests: of artifacts, and of removed artifacts."""

NOTE: Final = "removed.json"

_VERSION = re.compile(r"[0-9a-f]{32}")


class Removal(Record):
    """Why an artifact was removed. It is stored beside the artifact's remaining manifests."""

    artifact: ArtifactRef
    removed_at: datetime
    removed_by: str
    reason: str
    bytes: int


class _Found(NamedTuple):
    """A listed manifest: its partition or '', version, file name and listing entry."""

    partition: str
    version: str
    name: str
    stat: Stat | None

    @property
    def number(self) -> int:
        """The publication number in its name."""
        return number_in(self.name)

    def is_of(self, run: str) -> bool:
        """Return whether its name contains the digest of a run."""
        return self.name.split("-")[2].startswith(run_digest(run))


class Manifests(Objects):
    """The manifests of the artifacts under a root."""

    def directory(self, ref: ArtifactRef) -> str:
        """Return the folder of one version of an artifact."""
        return self.path("artifacts", ref.asset, *([ref.partition] if ref.partition else []), ref.version)

    def partitions(self, asset: str) -> list[str]:
        """Return the partitions of an asset that have at least one complete artifact, sorted."""
        return sorted({found.partition for found in self._manifests(asset, None) if found.partition})

    def _manifests(self, asset: str, partitions: Sequence[str] | None) -> Iterator[_Found]:
        """Yield the manifests of complete artifacts, as they are listed."""
        root = self.path("artifacts", asset)
        if partitions is None:
            for parts in (relative.split("/") for relative in self.tree(root)):
                if len(parts) in {2, 3} and _is_manifest(parts):
                    yield _Found(parts[0] if len(parts) == 3 else "", parts[-2], parts[-1], None)
            return
        folders = {key: f"{root}/{key}" if key else root for key in partitions}
        there = self.list_each([*folders.values()])
        for key, folder in folders.items():
            for relative, stat in there[folder].items():
                parts = relative.split("/")
                if len(parts) == 2 and _is_manifest(parts):
                    yield _Found(key, parts[0], parts[1], stat)

    def newest(
        self, asset: str, partitions: Sequence[str] | None = None, *, runs: Sequence[str] = ()
    ) -> dict[str, ArtifactRef]:
        """Return the current artifact of each partition ('' for an asset without partitions).

        If some of `runs` published a partition, the artifact of the first such run is current: the run itself, then the
        run that it continues. Otherwise it is the publication with the highest number. Order records are read only for
        partitions with several versions.

        Raises:
            CorruptArtifactError: order records are missing, or name a version that does not exist.
        """
        found = self._by_partition(asset, partitions)
        records = self._numbers_of_several(asset, found)
        current = {}
        for partition, entries in found.items():
            is_only = partition not in records
            chosen = entries[0] if is_only else self._latest(asset, partition, entries, records[partition], runs)
            if chosen is not None:
                current[partition] = _ref(asset, chosen)
        return current

    def numbers(self, asset: str, partitions: Sequence[str]) -> dict[str, list[int]]:
        """Return the publication numbers of some partitions ('' for an asset without partitions), ascending."""
        folders = {key: self.path(order_folder(asset, key)) for key in partitions}
        there = self.list_each([*folders.values()]) if folders else {}
        return {key: record_numbers(there[folder]) for key, folder in folders.items()}

    def last_numbers(self, asset: str, partitions: Sequence[str]) -> dict[str, int]:
        """Return the last publication number of some partitions; 0 if there is none."""
        return {key: max(numbers, default=0) for key, numbers in self.numbers(asset, partitions).items()}

    def publications(self, asset: str, partitions: Sequence[str] | None = None) -> dict[str, list[Manifest]]:
        """Return the remaining manifests of each partition that were published, in their order.

        Raises:
            CorruptArtifactError: a manifest or a record is damaged.
        """
        found = self._by_partition(asset, partitions)
        records = self._numbers_of_several(asset, found)
        chosen: list[_Found] = []
        for key, them in found.items():
            numbers = {it.number for it in them}.intersection(records[key]) if key in records else set()
            chosen += [it for number in sorted(numbers) for it in self._published(asset, _numbered(them, number))]
            chosen += [] if key in records else sorted(them, key=lambda it: it.number)
        made: dict[str, list[Manifest]] = {}
        for manifest in self.map(lambda it: self._read_found(asset, it), chosen):
            if manifest is not None:
                made.setdefault(manifest.partition or "", []).append(manifest)
        return made

    def _by_partition(self, asset: str, partitions: Sequence[str] | None) -> dict[str, list[_Found]]:
        found: dict[str, list[_Found]] = {}
        for it in self._manifests(asset, partitions):
            found.setdefault(it.partition, []).append(it)
        return found

    def _numbers_of_several(self, asset: str, found: Mapping[str, Sequence[_Found]]) -> dict[str, list[int]]:
        """Return the publication numbers of the partitions with several versions."""
        return self.numbers(asset, [key for key, them in found.items() if len({it.version for it in them}) > 1])

    def _latest(
        self, asset: str, partition: str, entries: Sequence[_Found], records: Sequence[int], runs: Sequence[str]
    ) -> _Found | None:
        """Return the current manifest of a partition with several versions; None if none was published.

        Raises:
            CorruptArtifactError: records are missing, or name a version that does not exist.
        """
        folder, top = self.path(order_folder(asset, partition)), max(records, default=0)
        what = f"{asset}[{partition}]" if partition else asset
        if (beyond := max(it.number for it in entries)) > top + 1:
            raise CorruptArtifactError(
                f"{what} has a manifest of publication {beyond}, but {folder} has records only up to {top}, so the "
                "current version is unknown. Restore the missing records."
            )
        if not records:
            return None  # two writers ended before they published anything
        if all(it.number != top for it in entries):  # published since the listing, or lost
            entries = self._by_partition(asset, [partition]).get(partition, [])
        for run in runs:
            own = [it for it in entries if it.number in records and it.is_of(run)]
            for it in sorted(own, key=lambda it: it.number, reverse=True):
                made = self._read_found(asset, it)
                is_own = made is not None and made.run_id == run
                if is_own and it in self._published(asset, _numbered(entries, it.number)):
                    return it
        current = self._published(asset, _numbered(entries, top))
        if not current:
            raise CorruptArtifactError(
                f"{folder}/{top:06d}.json names a current version of {what} that does not exist. Restore "
                "it; or remove that record, so that the publication before it becomes current."
            )
        return current[0]

    def _published(self, asset: str, same: Sequence[_Found]) -> Sequence[_Found]:
        """Return the manifest with a number that was published. The record is read if there are several."""
        if len(same) <= 1:
            return same
        record = self.order_record(asset, same[0].partition, same[0].number)
        return [it for it in same if (it.version, it.name) == (record.version, record.manifest)]

    def order_record(self, asset: str, partition: str | None, number: int) -> OrderRecord:
        """Return the record of a publication.

        Raises:
            MissingArtifactError: it does not exist.
            CorruptArtifactError: it is damaged.
        """
        path = self.path(order_folder(asset, partition), f"{number:06d}.json")
        return RECORDS.read(self, path).record

    def _read_found(self, asset: str, found: _Found) -> Manifest | None:
        """Return a listed manifest; None if garbage collection has removed it since."""
        ref = _ref(asset, found)
        path = f"{self.directory(ref)}/{found.name}"
        made = next(self._read_those_there({path: found.stat}), None)
        return None if made is None else _of(ref, made, path)

    def find(self, asset: str, partition: str | None = None, version: str | None = None) -> ArtifactRef:
        """Return one artifact: the current one, or the one whose version starts with `version`.

        Raises:
            MissingArtifactError: it does not exist, or the abbreviation is ambiguous.
        """
        what = asset if partition is None else f"{asset}[{partition}]"
        if version is None:
            current = self.newest(asset, [partition or ""])
            if not current:
                raise MissingArtifactError(f"{what} has not been materialized yet; materialize it first.")
            return current[partition or ""]
        found = {it.version for it in self._manifests(asset, [partition or ""])}
        versions = sorted(it for it in found if it.startswith(version))
        if len(versions) != 1:
            raise MissingArtifactError(f"{what} has {len(versions) or 'no'} versions starting with '{version}'.")
        return ArtifactRef(asset=asset, partition=partition, version=versions[0])

    def versions(self, asset: str, partitions: Sequence[str] | None = None) -> dict[str, list[ArtifactRef]]:
        """Return all existing versions of each partition ('' for an asset without partitions), current or not."""
        found: dict[str, set[str]] = {}
        for it in self._manifests(asset, partitions):
            found.setdefault(it.partition, set()).add(it.version)
        return {
            partition: [ArtifactRef(asset=asset, partition=partition or None, version=v) for v in sorted(versions)]
            for partition, versions in found.items()
        }

    def manifest(self, ref: ArtifactRef, *, there: Mapping[str, Stat] | None = None) -> Manifest:
        """Return an artifact's newest manifest.

        Args:
            ref: the artifact.
            there: the content of its folder, if it was just listed.

        Raises:
            MissingArtifactError: the artifact does not exist.
            CorruptArtifactError: the manifest is damaged, or belongs to another artifact.
        """
        for path, known in reversed(self._manifests_in(ref, there).items()):
            for made in self._read_those_there({path: known}):
                return _of(ref, made, path)
        raise MissingArtifactError(self._why_missing(ref))

    def manifest_of_each(self, refs: Sequence[ArtifactRef]) -> dict[ArtifactRef, Manifest]:
        """Return the newest manifests of several artifacts, whose folders are listed together.

        Raises:
            As `manifest`.
        """
        there = self.list_each([self.directory(ref) for ref in refs])
        found = self.map(lambda ref: self.manifest(ref, there=there[self.directory(ref)]), refs)
        return dict(zip(refs, found, strict=True))

    def manifests(self, ref: ArtifactRef, *, there: Mapping[str, Stat] | None = None) -> list[Manifest]:
        """Return all manifests of an artifact, one for each materialization, in the order of their numbers.

        Args:
            ref: the artifact.
            there: as for `manifest`.

        Raises:
            As `manifest`.
        """
        listed = self._manifests_in(ref, there)
        made = [(path, it) for path, known in listed.items() for it in self._read_those_there({path: known})]
        if not made:
            raise MissingArtifactError(self._why_missing(ref))
        return [_of(ref, it, path) for path, it in made]

    def _manifests_in(self, ref: ArtifactRef, there: Mapping[str, Stat] | None) -> dict[str, Stat]:
        """Return an artifact's manifests by path, as listed, in the order of their numbers."""
        folder = self.directory(ref)
        there = self.list_each([folder])[folder] if there is None else there
        names = sorted(filter(MANIFEST_NAME.fullmatch, there), key=number_in)
        return {f"{folder}/{name}": there[name] for name in names}

    def _read_those_there(self, listed: Mapping[str, Stat | None]) -> Iterator[Manifest]:
        """Yield manifests that were just listed, except those that garbage collection has removed since."""
        for path, known in listed.items():
            try:
                text = self.read(path, limit=MOST_BYTES, known=known)
            except MissingArtifactError:
                continue
            yield Manifest.read(text, path)

    def folder_left(self, ref: ArtifactRef) -> str:
        """Return the folder of the remaining manifests of a removed artifact."""
        return self.path(REMOVED, self.directory(ref).removeprefix(f"{self.url}/"))

    def removal(self, ref: ArtifactRef) -> Removal | None:
        """Return when and why an artifact was removed; None if it was not.

        Raises:
            CorruptArtifactError: the removal note is damaged, or belongs to another artifact.
        """
        path = f"{self.folder_left(ref)}/{NOTE}"
        try:
            text = self.read(path, limit=MOST_BYTES)
        except MissingArtifactError:
            return None
        note = unseal(text, Removal, where=path, what=f"the removal note of {ref}")
        if note.artifact != ref:
            raise CorruptArtifactError(f"{path} is the removal note of {note.artifact}, not of {ref}. {RESTORE}")
        return note

    def _why_missing(self, ref: ArtifactRef) -> str:
        removal = self.removal(ref)
        if removal is None:
            return f"{ref} has no manifest under {self.directory(ref)}, so it does not exist."
        return f"{ref} was removed by {removal.removed_by} on {removal.removed_at:%Y-%m-%d} ({removal.reason})."

    def folders(self, top: str = "artifacts") -> dict[str, dict[str, Stat]]:
        """Return the content of all version folders under `top`, by folder and name, from one listing.

        A folder may have no manifest. Files elsewhere are not part of an artifact, and not returned.
        """
        found: dict[str, dict[str, Stat]] = {}
        for relative, stat in self.tree_with_sizes(self.path(top)).items():
            parts = relative.split("/")
            depth = next((n for n in range(len(parts) - 1, 1, -1) if _VERSION.fullmatch(parts[n - 1])), None)
            if depth is not None:
                found.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = stat
        return found


def current_of(manifests: Sequence[Manifest], runs: Sequence[str]) -> Manifest:
    """Return the current one of a partition's publications; see `Manifests.newest`."""
    own = next((made for run in runs if (made := [m for m in manifests if m.run_id == run])), manifests)
    return max(own, key=lambda m: m.number)


def _is_manifest(parts: Sequence[str]) -> bool:
    """Return whether a path ends with a version and a manifest's name."""
    return _VERSION.fullmatch(parts[-2]) is not None and MANIFEST_NAME.fullmatch(parts[-1]) is not None


def _numbered(found: Sequence[_Found], number: int) -> list[_Found]:
    return [it for it in found if it.number == number]


def _ref(asset: str, found: _Found) -> ArtifactRef:
    return ArtifactRef(asset=asset, partition=found.partition or None, version=found.version)


def _of(ref: ArtifactRef, made: Manifest, path: str) -> Manifest:
    """Return a manifest after checking it.

    Raises:
        CorruptArtifactError: it belongs to another artifact or another publication.
    """
    if made.ref != ref:
        raise CorruptArtifactError(f"{path} is the manifest of {made.ref}, not of {ref}; do not use it.")
    if made.number != number_in(path):
        raise CorruptArtifactError(f"{path} is the manifest of publication {made.number}; do not use it.")
    return made
