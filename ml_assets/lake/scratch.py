"""A scratch lake: reads come from another lake as of a moment, writes stay in a local folder.

Not here: what runs in it (see `ml_assets.provenance.replay` and `ml_assets.provenance.reproduction`).
"""

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_assets.lake.content import bytes_digest
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, FileEntry, Manifest
from ml_assets.lake.manifests import current_of
from ml_assets.lake.objects import Stat
from ml_assets.lake.order import MANIFEST_NAME, manifest_name
from ml_assets.lake.request_files import REQUESTS
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake, Origin

_OPEN: dict[str, "ScratchLake"] = {}


class ScratchLake(Lake):
    """A folder over another lake.

    The current artifact is the one made here, or else the pinned one, or else the one that was current in the other
    lake at the moment. Only requested artifacts are fetched.
    """

    def __init__(
        self,
        folder: Path,
        source: Lake,
        *,
        at: datetime,
        pins: Iterable[ArtifactRef] = (),
        hidden: Collection[str] = (),
        continues: Sequence[str] = (),
    ) -> None:
        """Create an empty scratch lake.

        Args:
            folder: its folder.
            source: the lake that is read, and never written.
            at: the moment as of which it is read. It is also the time of all steps here.
            pins: artifacts that are current regardless of others.
            hidden: assets of which only pinned artifacts and those made here are visible.
            continues: runs that are continued here, newest first. Their artifacts are read first.
        """
        super().__init__(str(folder), source.options)
        self.source = source
        self.at = at
        self.pinned = tuple(pins)
        self.pins = {(ref.asset, ref.partition or ""): ref for ref in self.pinned}
        self.hidden = frozenset(hidden)
        self.continues = tuple(continues)
        self.made: dict[tuple[str, str], ArtifactRef] = {}
        _OPEN[self.url] = self

    def now(self) -> datetime:
        """Return the moment as of which the other lake is read."""
        return self.at

    def put_each(self, asset: str, artifacts: Mapping[str, tuple[object, Origin]]) -> dict[str, Manifest]:
        """Store artifacts here; see `Lake.put_each`."""
        manifests = super().put_each(asset, artifacts)
        self.made |= {(asset, partition): manifest.ref for partition, manifest in manifests.items()}
        return manifests

    def newest(
        self, asset: str, partitions: Sequence[str] | None = None, *, runs: Sequence[str] = ()
    ) -> dict[str, ArtifactRef]:
        """Return the current artifact of each partition; see the class."""
        known = {key: ref for (name, key), ref in {**self.pins, **self.made}.items() if name == asset}
        wanted = None if partitions is None else [key for key in partitions if key not in known]
        others = {} if wanted == [] or asset in self.hidden else self._current_then(asset, wanted, runs)
        found = {key: ref for key, ref in {**others, **known}.items() if partitions is None or key in partitions}
        self.fetch(found.values())
        return found

    def _current_then(
        self, asset: str, partitions: Sequence[str] | None, runs: Sequence[str]
    ) -> dict[str, ArtifactRef]:
        """Return what was current in the other lake at the moment."""
        published = self._publications(asset, partitions)
        return {partition: current_of(manifests, runs).ref for partition, manifests in published.items()}

    def _publications(self, asset: str, partitions: Sequence[str] | None) -> dict[str, list[Manifest]]:
        """Return what was published in the other lake until the moment.

        Publications are ordered by their numbers, not by clocks, which may be wrong. So a publication is included if it
        or any later one was made before the moment.
        """
        found = {}
        for partition, manifests in self.source.publications(asset, partitions).items():
            before = [place for place, made in enumerate(manifests, 1) if made.created_at <= self.at]
            if before:
                found[partition] = manifests[: before[-1]]
        return found

    def numbers(self, asset: str, partitions: Sequence[str]) -> dict[str, list[int]]:
        """Return the numbers of publications here, which continue those of the other lake."""
        there = self.source.numbers(asset, partitions)
        return {key: sorted({*there[key], *own}) for key, own in super().numbers(asset, partitions).items()}

    def versions(self, asset: str, partitions: Sequence[str] | None = None) -> dict[str, list[ArtifactRef]]:
        """Return every version that existed at the moment, and those pinned or made here."""
        found: dict[str, set[ArtifactRef]] = {}
        for ref in (*self.pinned, *self.made.values()):
            if ref.asset == asset:
                found.setdefault(ref.partition or "", set()).add(ref)
        if asset not in self.hidden:
            for key, manifests in self._publications(asset, partitions).items():
                found[key] = found.get(key, set()) | {made.ref for made in manifests}
        wanted = {key: refs for key, refs in found.items() if refs and (partitions is None or key in partitions)}
        self.fetch(ref for refs in wanted.values() for ref in refs)
        return {key: sorted(refs, key=lambda ref: ref.version) for key, refs in wanted.items()}

    def partitions(self, asset: str) -> list[str]:
        """Return the partitions that existed at the moment, and those made here."""
        return sorted(key for key in self.newest(asset) if key)

    def find(self, asset: str, partition: str | None = None, version: str | None = None) -> ArtifactRef:
        """Return one artifact; see `Lake.find`."""
        if version is None:
            return super().find(asset, partition)
        try:
            return super().find(asset, partition, version)
        except MissingArtifactError:
            ref = self.source.find(asset, partition, version)
            self.fetch([ref])
            return ref

    def manifest(self, ref: ArtifactRef, *, there: Mapping[str, Stat] | None = None) -> Manifest:
        """Return an artifact's newest manifest, from here or the other lake."""
        try:
            return super().manifest(ref, there=there)
        except MissingArtifactError:
            return self.source.manifest(ref)

    def manifests(self, ref: ArtifactRef, *, there: Mapping[str, Stat] | None = None) -> list[Manifest]:
        """Return all manifests of an artifact, from here or the other lake."""
        try:
            return super().manifests(ref, there=there)
        except MissingArtifactError:
            return self.source.manifests(ref)

    def read_each(self, refs: Sequence[ArtifactRef], kind: type) -> list[tuple[Any, Manifest]]:
        """Return artifacts whole; see `Lake.read_each`."""
        self.fetch(refs)
        return super().read_each(refs, kind)

    def fetch(self, refs: Iterable[ArtifactRef]) -> None:
        """Copy artifacts here, files first and manifest last.

        Raises:
            MissingArtifactError: an artifact does not exist in the other lake.
            CorruptArtifactError: an artifact is damaged there.
        """
        there = {ref: self.names(self.directory(ref)) for ref in dict.fromkeys(refs)}
        missing = [ref for ref, names in there.items() if not any(map(MANIFEST_NAME.fullmatch, names))]
        self.source.map(self._fetch, missing)

    def _fetch(self, ref: ArtifactRef) -> None:
        known = self.source.manifests(ref)
        manifest = ([one for one in known if one.created_at <= self.at] or known)[-1]
        for entry in manifest.files:
            self._copy(ref, entry)
        self.create(f"{self.directory(ref)}/{manifest_name(manifest)}", manifest.text())

    def _copy(self, ref: ArtifactRef, entry: FileEntry) -> None:
        """Copy a file of an artifact. On the same disk a hard link suffices, because files are never edited in place.

        It is checked here, so that an error names its path in the other lake.
        """
        path = f"{self.source.directory(ref)}/{entry.name}"
        data = self.source.read(path)
        if bytes_digest(data) != entry.digest:
            raise CorruptArtifactError(
                f"{path} is damaged: {entry.bytes} bytes with digest {entry.digest} were written, but {len(data)} "
                f"other bytes were read. Materialize {ref.asset} again."
            )
        target = Path(self.directory(ref)) / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # never write through a hard link into the other lake
        if self.source.protocol == "file":
            with contextlib.suppress(OSError):  # another disk, or one without hard links
                os.link(path, target)
                return
        target.write_bytes(data)

    def fetch_requests(self, model: str, files: Iterable[str]) -> None:
        """Copy files of a model's request log, by their paths below its folder.

        Raises:
            MissingArtifactError: a file was removed by garbage collection.
        """
        for file in files:
            data = self.source.read(self.source.path(REQUESTS, model, file))
            self.create(self.path(REQUESTS, model, file), data)

    def fetch_promotions(self, model: str) -> None:
        """Copy the entries of a model's promotion log that existed at the moment.

        Entries are ordered by their numbers: an entry is included if it or any later one was decided before the moment.

        Raises:
            CorruptArtifactError: an entry has no time of decision.
        """
        folder = self.source.path("promotions", model)
        entries = {name: self.source.read(f"{folder}/{name}", limit=MOST_BYTES) for name in self.source.names(folder)}
        before = [name for name, entry in entries.items() if _decided_at(entry, f"{folder}/{name}") < self.at]
        for name, entry in entries.items():
            if name <= max(before, default=""):
                self.create(self.path("promotions", model, name), entry)


def _decided_at(entry: bytes, path: str) -> datetime:
    try:
        decided = datetime.fromisoformat(json.loads(entry)["decided_at"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArtifactError(f"{path} is not an entry of the promotion log: {error!r}.") from error
    if decided.tzinfo is None:
        raise CorruptArtifactError(f"{path} was decided at {decided}, without a time zone; expected UTC.")
    return decided


class ScratchLakeResource(LakeResource):
    """A scratch lake that this process has opened, as a Dagster resource. `url` is its folder."""

    def connect(self) -> Lake:
        """Return the scratch lake."""
        return _OPEN[self.url]
