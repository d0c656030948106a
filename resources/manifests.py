"""Finding artifacts by their manifests: what there is, what is current, what it was made from.

Only reading, and light to import: neither Dagster nor polars. Writing artifacts stays out; see `resources.lake`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from resources.errors import CorruptArtifactError, MissingArtifactError
from resources.manifest import MOST_BYTES, ArtifactRef, Manifest
from resources.objects import Objects, Stat
from resources.sealing import RESTORE, unseal

REMOVED: Final = "removed"
"""Where the manifests of removed artifacts go, at the path that they had."""

NOTE: Final = "removed.json"

_VERSION = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"manifest(-[0-9A-Za-z.-]+)?\.json")


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

        What the first of `runs` that made any produced wins: a run itself, then the one that it goes on with; else the
        newest materialization. Only partitions with more than one version cost a read of their manifests.
        """
        found: dict[str, list[_Found]] = {}
        for it in self._manifests(asset, partitions):
            found.setdefault(it.partition, []).append(it)
        current = {}
        for partition, entries in found.items():
            versions = {it.version for it in entries}
            version = next(iter(versions)) if len(versions) == 1 else self._latest(asset, partition, entries, runs)
            current[partition] = ArtifactRef(asset=asset, partition=partition or None, version=version)
        return current

    def _latest(self, asset: str, partition: str, entries: Sequence[_Found], runs: Sequence[str]) -> str:
        folder = self.path("artifacts", asset, *([partition] if partition else []))
        listed = {f"{folder}/{it.version}/{it.name}": it.stat for it in entries}
        manifests = [*self._read_those_there(listed)]
        if not manifests:
            raise MissingArtifactError(f"all of {folder} was removed while it was read; materialize {asset} again.")
        return current_of(manifests, runs).version

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

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Return an artifact's newest manifest.

        Raises:
            MissingArtifactError: the artifact does not exist.
            CorruptArtifactError: the manifest is not one, or speaks of another artifact.
        """
        return self.manifests(ref)[-1]

    def manifest_of_each(self, refs: Sequence[ArtifactRef]) -> dict[ArtifactRef, Manifest]:
        """Return the newest manifests of several artifacts; their folders are listed together.

        Raises:
            As `manifest`.
        """
        there = self.look_into([self.directory(ref) for ref in refs])
        with self.pool(len(refs)) as each:
            found = each(lambda ref: self.manifests(ref, there=there[self.directory(ref)])[-1], refs)
        return dict(zip(refs, found, strict=True))

    def manifests(self, ref: ArtifactRef, *, there: Mapping[str, Stat] | None = None) -> list[Manifest]:
        """Return all of an artifact's manifests, one for each time it was made, oldest first.

        Args:
            ref: the artifact.
            there: what its folder has, where that was listed a moment ago.

        Raises:
            MissingArtifactError: the artifact does not exist.
            CorruptArtifactError: a manifest is not one, or speaks of another artifact.
        """
        folder = self.directory(ref)
        there = self.look_into([folder])[folder] if there is None else there
        found = [*self._read_those_there({f"{folder}/{it}": there[it] for it in sorted(there) if _NAME.fullmatch(it)})]
        if not found:
            raise MissingArtifactError(self._why_missing(ref))
        strange = [str(m.ref) for m in found if m.ref != ref]
        if strange:
            raise CorruptArtifactError(f"a manifest in {folder} speaks of {strange[0]}, not of {ref}; do not use it.")
        return sorted(found, key=lambda m: m.created_at)

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
        names = [name for name in self.names(folder) if _NAME.fullmatch(name)]
        found = [*self._read_those_there(dict.fromkeys(f"{folder}/{name}" for name in names))]
        if not found:
            raise MissingArtifactError(f"{ref} has no manifest under {folder}, so it was never removed.")
        return max(found, key=lambda m: m.created_at)

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
    """Return which of a partition's makings, at least one, is the current one; see `Manifests.newest`."""
    own = next((made for run in runs if (made := [m for m in manifests if m.run_id == run])), manifests)
    return max(own, key=lambda m: m.created_at)


def _is_manifest(parts: Sequence[str]) -> bool:
    """Tell whether a path's last two parts are a version and its manifest; what else lies there is no artifact."""
    return _VERSION.fullmatch(parts[-2]) is not None and _NAME.fullmatch(parts[-1]) is not None
