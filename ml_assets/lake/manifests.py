"""Finding artifacts by their manifests: what there is, what is current, what it was made from.

Only reading, and light to import: neither Dagster nor polars. Writing artifacts stays out; see `ml_assets.lake.store`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, Manifest
from ml_assets.lake.objects import Objects, Stat
from ml_assets.lake.order import MANIFEST_NAME, OrderRecord, number_in, order_folder, record_numbers, run_digest
from ml_assets.lake.sealing import RESTORE, unseal

REMOVED: Final = "removed"
"""Where the manifests of removed artifacts go, at the path that they had."""

NOTE: Final = "removed.json"

_VERSION = re.compile(r"[0-9a-f]{32}")


class Removal(BaseModel):
    """Why an artifact is no more; it stands beside the manifests that are left of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: ArtifactRef
    removed_at: datetime
    by: str
    why: str
    bytes: int


class _Found(NamedTuple):
    """A manifest as it was listed: its partition or '', version and file name, and what the listing said of it."""

    partition: str
    version: str
    name: str
    stat: Stat | None

    @property
    def number(self) -> int:
        """The number of the publication that its name says."""
        return number_in(self.name)

    def is_of(self, run: str) -> bool:
        """Tell whether its name stands for a run."""
        return self.name.split("-")[2].startswith(run_digest(run))


class Manifests(Objects):
    """The manifests of the artifacts under a root."""

    def directory(self, ref: ArtifactRef) -> str:
        """Return the folder of one version of an artifact."""
        return self.path("artifacts", ref.asset, *([ref.partition] if ref.partition else []), ref.version)

    def partitions(self, asset: str) -> list[str]:
        """Return the partitions of an asset that have at least one whole artifact, sorted."""
        return sorted({found.partition for found in self._manifests(asset, None) if found.partition})

    def _manifests(self, asset: str, partitions: Sequence[str] | None) -> Iterator[_Found]:
        """Yield the manifests of whole artifacts, as they are listed."""
        root = self.path("artifacts", asset)
        if partitions is None:
            for parts in (relative.split("/") for relative in self.tree(root)):
                if len(parts) in {2, 3} and _is_manifest(parts):
                    yield _Found(parts[0] if len(parts) == 3 else "", parts[-2], parts[-1], None)
            return
        folders = {key: f"{root}/{key}" if key else root for key in partitions}
        there = self.look_into([*folders.values()])
        for key, folder in folders.items():
            for relative, stat in there[folder].items():
                parts = relative.split("/")
                if len(parts) == 2 and _is_manifest(parts):
                    yield _Found(key, parts[0], parts[1], stat)

    def newest(
        self, asset: str, partitions: Sequence[str] | None = None, *, runs: Sequence[str] = ()
    ) -> dict[str, ArtifactRef]:
        """Return the current artifact of each partition ('' where the asset has none).

        What the first of `runs` that published any produced wins: a run itself, then the one that it goes on with; else
        the publication with the highest number. Only partitions with more than one version cost a look at their order.

        Raises:
            CorruptArtifactError: records of the order are missing, or name what does not exist.
        """
        found = self._by_partition(asset, partitions)
        several = [key for key, them in found.items() if len({it.version for it in them}) > 1]
        records = self.numbers(asset, several)
        current = {}
        for partition, entries in found.items():
            is_only = partition not in records
            chosen = entries[0] if is_only else self._latest(asset, partition, entries, records[partition], runs)
            if chosen is not None:
                current[partition] = _ref(asset, chosen)
        return current

    def numbers(self, asset: str, partitions: Sequence[str]) -> dict[str, list[int]]:
        """Return the numbers of the publications of some partitions ('' where the asset has none), ascending."""
        folders = {key: self.path(order_folder(asset, key)) for key in partitions}
        there = self.look_into([*folders.values()]) if folders else {}
        return {key: record_numbers(there[folder]) for key, folder in folders.items()}

    def last_numbers(self, asset: str, partitions: Sequence[str]) -> dict[str, int]:
        """Return the number of the last publication of some partitions; 0 where there is none."""
        return {key: max(numbers, default=0) for key, numbers in self.numbers(asset, partitions).items()}

    def publications(self, asset: str, partitions: Sequence[str] | None = None) -> dict[str, list[Manifest]]:
        """Return the manifests that were published of each partition, in their order; those that are left of them.

        Raises:
            CorruptArtifactError: a manifest or a record is damaged.
        """
        found = self._by_partition(asset, partitions)
        several = [key for key, them in found.items() if len({it.version for it in them}) > 1]
        records = self.numbers(asset, several)
        chosen: list[_Found] = []
        for key, them in found.items():
            numbers = {it.number for it in them}.intersection(records[key]) if key in records else set()
            chosen += [it for number in sorted(numbers) for it in self._published(asset, _numbered(them, number))]
            chosen += [] if key in records else sorted(them, key=lambda it: it.number)
        with self.pool(len(chosen)) as each:
            read = each(lambda it: self._read_found(asset, it), chosen)
        made: dict[str, list[Manifest]] = {}
        for manifest in read:
            if manifest is not None:
                made.setdefault(manifest.partition or "", []).append(manifest)
        return made

    def _by_partition(self, asset: str, partitions: Sequence[str] | None) -> dict[str, list[_Found]]:
        found: dict[str, list[_Found]] = {}
        for it in self._manifests(asset, partitions):
            found.setdefault(it.partition, []).append(it)
        return found

    def _latest(
        self, asset: str, partition: str, entries: Sequence[_Found], records: Sequence[int], runs: Sequence[str]
    ) -> _Found | None:
        """Return the current one of a partition's manifests, of several versions; None where none was published.

        Raises:
            CorruptArtifactError: records are missing, or name what does not exist.
        """
        folder, top = self.path(order_folder(asset, partition)), max(records, default=0)
        what = f"{asset}[{partition}]" if partition else asset
        if (beyond := max(it.number for it in entries)) > top + 1:
            raise CorruptArtifactError(
                f"{what} has a manifest of publication {beyond}, and {folder} has records up to {top} "
                "only, so nobody can tell what is current. Put back the records that are missing."
            )
        if not records:
            return None  # two writers ended before they could publish anything
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
                f"{folder}/{top:06d}.json names what is current of {what}, and that does not exist. Put "
                "it back; or remove that record, and what was published before becomes current."
            )
        return current[0]

    def _published(self, asset: str, same: Sequence[_Found]) -> Sequence[_Found]:
        """Return which of the manifests with one number was published; a record is read where there are several."""
        if len(same) <= 1:
            return same
        record = self.order_record(asset, same[0].partition, same[0].number)
        return [it for it in same if (it.version, it.name) == (record.version, record.manifest)]

    def order_record(self, asset: str, partition: str | None, number: int) -> OrderRecord:
        """Return the record of a publication.

        Raises:
            MissingArtifactError: there is none.
            CorruptArtifactError: it is damaged.
        """
        path = self.path(order_folder(asset, partition), f"{number:06d}.json")
        return OrderRecord.read(self.read(path, limit=MOST_BYTES), path)

    def _read_found(self, asset: str, found: _Found) -> Manifest | None:
        """Return a manifest that was listed; None where garbage collection has taken it since."""
        ref = _ref(asset, found)
        path = f"{self.directory(ref)}/{found.name}"
        made = next(self._read_those_there({path: found.stat}), None)
        return None if made is None else _of(ref, made, path)

    def find(self, asset: str, partition: str | None = None, version: str | None = None) -> ArtifactRef:
        """Return one artifact: the current one, or the one whose version starts with `version`.

        Raises:
            MissingArtifactError: there is none, or the abbreviation is ambiguous.
        """
        what = asset if partition is None else f"{asset}[{partition}]"
        if version is None:
            current = self.newest(asset, [partition or ""])
            if not current:
                raise MissingArtifactError(f"{what} has not been made yet; materialize it first.")
            return current[partition or ""]
        found = {it.version for it in self._manifests(asset, [partition or ""])}
        versions = sorted(it for it in found if it.startswith(version))
        if len(versions) != 1:
            raise MissingArtifactError(f"{what} has {len(versions) or 'no'} versions starting with '{version}'.")
        return ArtifactRef(asset=asset, partition=partition, version=versions[0])

    def versions(self, asset: str, partitions: Sequence[str] | None = None) -> dict[str, list[ArtifactRef]]:
        """Return every version there is of each partition ('' where the asset has none), current or not."""
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
            there: what its folder has, where that was listed a moment ago.

        Raises:
            MissingArtifactError: the artifact does not exist.
            CorruptArtifactError: the manifest is not one, or speaks of another artifact.
        """
        for path, known in reversed(self._manifests_in(ref, there).items()):
            for made in self._read_those_there({path: known}):
                return _of(ref, made, path)
        raise MissingArtifactError(self._why_missing(ref))

    def manifest_of_each(self, refs: Sequence[ArtifactRef]) -> dict[ArtifactRef, Manifest]:
        """Return the newest manifests of several artifacts; their folders are listed together.

        Raises:
            As `manifest`.
        """
        there = self.look_into([self.directory(ref) for ref in refs])
        with self.pool(len(refs)) as each:
            found = each(lambda ref: self.manifest(ref, there=there[self.directory(ref)]), refs)
        return dict(zip(refs, found, strict=True))

    def manifests(self, ref: ArtifactRef, *, there: Mapping[str, Stat] | None = None) -> list[Manifest]:
        """Return all of an artifact's manifests, one for each time it was made, in the order of their numbers.

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
        """Return an artifact's manifests by path, as they are listed, in the order of their numbers."""
        folder = self.directory(ref)
        there = self.look_into([folder])[folder] if there is None else there
        names = sorted(filter(MANIFEST_NAME.fullmatch, there), key=number_in)
        return {f"{folder}/{name}": there[name] for name in names}

    def _read_those_there(self, listed: Mapping[str, Stat | None]) -> Iterator[Manifest]:
        """Yield manifests that were just listed; garbage collection may have taken some since, which nobody needs."""
        for path, known in listed.items():
            try:
                text = self.read(path, limit=MOST_BYTES, known=known)
            except MissingArtifactError:
                continue
            yield Manifest.read(text, path)

    def folder_left(self, ref: ArtifactRef) -> str:
        """Return the folder of the manifests that are left of a removed artifact."""
        return self.path(REMOVED, self.directory(ref).removeprefix(f"{self.url}/"))

    def removed_manifest(self, ref: ArtifactRef) -> Manifest:
        """Return the newest manifest that is left of a removed artifact.

        Raises:
            MissingArtifactError: the artifact was never removed.
            CorruptArtifactError: the manifest is not one.
        """
        folder = self.folder_left(ref)
        names = sorted(filter(MANIFEST_NAME.fullmatch, self.names(folder)), key=number_in)
        found = [*self._read_those_there(dict.fromkeys(f"{folder}/{name}" for name in names[-1:]))]
        if not found:
            raise MissingArtifactError(f"{ref} has no manifest under {folder}, so it was never removed.")
        if strange := [str(it.ref) for it in found if it.ref != ref]:
            raise CorruptArtifactError(f"a manifest in {folder} is that of {strange[0]}, not of {ref}. {RESTORE}")
        return found[0]

    def removal(self, ref: ArtifactRef) -> Removal | None:
        """Return when and why an artifact was removed; None where it was not.

        Raises:
            CorruptArtifactError: the note about it is damaged, or another artifact's.
        """
        path = f"{self.folder_left(ref)}/{NOTE}"
        try:
            text = self.read(path, limit=MOST_BYTES)
        except MissingArtifactError:
            return None
        note = unseal(text, Removal, where=path, what=f"the note that says when and why {ref} was removed")
        if note.artifact != ref:
            raise CorruptArtifactError(f"{path} is the note about {note.artifact}, not about {ref}. {RESTORE}")
        return note

    def _why_missing(self, ref: ArtifactRef) -> str:
        removal = self.removal(ref)
        if removal is None:
            return f"{ref} has no manifest under {self.directory(ref)}, so it does not exist."
        return f"{ref} was removed by {removal.by} on {removal.removed_at:%Y-%m-%d} ({removal.why})."

    def folders(self) -> dict[str, dict[str, Stat]]:
        """Return all that lies in versions' folders, by folder under `artifacts/` and name, from one listing.

        A folder may have no manifest. What lies elsewhere is no part of an artifact, and not told.
        """
        found: dict[str, dict[str, Stat]] = {}
        for relative, stat in self.tree_with_sizes(self.path("artifacts")).items():
            parts = relative.split("/")
            depth = next((n for n in range(len(parts) - 1, 1, -1) if _VERSION.fullmatch(parts[n - 1])), None)
            if depth is not None:
                found.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = stat
        return found


def current_of(manifests: Sequence[Manifest], runs: Sequence[str]) -> Manifest:
    """Return which of a partition's publications, at least one, is the current one; see `Manifests.newest`."""
    own = next((made for run in runs if (made := [m for m in manifests if m.run_id == run])), manifests)
    return max(own, key=lambda m: m.number)


def _is_manifest(parts: Sequence[str]) -> bool:
    """Tell whether a path's last two parts are a version and its manifest; what else lies there is no artifact."""
    return _VERSION.fullmatch(parts[-2]) is not None and MANIFEST_NAME.fullmatch(parts[-1]) is not None


def _numbered(found: Sequence[_Found], number: int) -> list[_Found]:
    return [it for it in found if it.number == number]


def _ref(asset: str, found: _Found) -> ArtifactRef:
    return ArtifactRef(asset=asset, partition=found.partition or None, version=found.version)


def _of(ref: ArtifactRef, made: Manifest, path: str) -> Manifest:
    """Return a manifest.

    Raises:
        CorruptArtifactError: it is another's, by what it says or by its number.
    """
    if made.ref != ref:
        raise CorruptArtifactError(f"{path} speaks of {made.ref}, not of {ref}; do not use it.")
    if made.number != number_in(path):
        raise CorruptArtifactError(f"{path} is the manifest of publication {made.number}; do not use it.")
    return made
