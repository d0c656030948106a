"""The lake: versioned, immutable artifacts with manifests, under one root.

Nothing is edited. Data is written first, then the manifest, and last the order record that publishes it
(`ml_assets.lake.order`). An artifact without a manifest does not exist. Not here: writing whole objects (see
`ml_assets.lake.objects`), and finding artifacts (see `ml_assets.lake.manifests`).
"""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import polars as pl
from pydantic import JsonValue

from ml_assets.lake import content
from ml_assets.lake.days import Days, span_of
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError, PublicationConflictError
from ml_assets.lake.manifest import ArtifactRef, Cost, FileEntry, Manifest
from ml_assets.lake.manifests import Manifests
from ml_assets.lake.objects import Stat
from ml_assets.lake.order import MANIFEST_NAME, RECORDS, OrderRecord, manifest_name
from ml_assets.lake.origin import git_state, memory_bytes, peak_memory_bytes, store_environment

_FRAME = "data.parquet"

_FETCHED_WHOLE = 64 * 2**20
"""The total size of a lazy frame's files up to which they are fetched whole from an object store."""


@dataclass(frozen=True)
class Origin:
    """The origin of an artifact that is being written.

    Attributes:
        input_numbers: the numbers of the inputs' publications, as far as they are known.
        step: the name of the step that writes it.
        retry_number: the number of earlier attempts of that step.
        after: the number of the publication that it is based on, 0 for none. It must be the next publication, or it is
            not published. None if it may replace any publication.
    """

    inputs: tuple[ArtifactRef, ...] = ()
    input_numbers: Mapping[ArtifactRef, int] = field(default_factory=dict)
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    code_version: str | None = None
    run_id: str | None = None
    step: str | None = None
    retry_number: int | None = None
    seconds: float | None = None
    cost: Cost | None = None
    missing_days: Days = field(default_factory=dict)
    after: int | None = None


class _Draft(NamedTuple):
    """An artifact that is about to be stored."""

    ref: ArtifactRef
    artifact: object
    parts: Mapping[str, content.Part]
    origin: Origin

    @classmethod
    def of(cls, asset: str, partition: str, artifact: object, origin: Origin) -> "_Draft":
        parts = content.parts_of(artifact)
        ref = ArtifactRef(asset=asset, partition=partition or None, version=content.content_version(parts))
        return cls(ref, artifact, parts, origin)

    @property
    def partition(self) -> str:
        """The partition key; '' for an asset without partitions."""
        return self.ref.partition or ""


class _Stored(NamedTuple):
    """A stored manifest and its file name."""

    manifest: Manifest
    name: str


class Lake(Manifests):
    """Artifacts under a root, each a folder of files with a manifest.

    It remembers nothing about the steps that use it (see `ml_assets.lake.ledger`), so threads and steps may share it.

    Attributes:
        continues: runs that are continued here, newest first, although Dagster does not know them.
    """

    continues: tuple[str, ...] = ()

    def put(self, asset: str, partition: str | None, artifact: object, origin: Origin) -> Manifest:
        """Store and publish an artifact. The same content again adds only a manifest and a record.

        Raises:
            As `put_each`.
        """
        return self.put_each(asset, {partition or "": (artifact, origin)})[partition or ""]

    def put_each(self, asset: str, artifacts: Mapping[str, tuple[object, Origin]]) -> dict[str, Manifest]:
        """Store and publish one artifact for each partition ('' for an asset without partitions), each with its origin.

        Raises:
            LakeError: the lake cannot be written. Existing artifacts are not changed.
            PublicationConflictError: another process published a partition after the publication that `after` names.
            TypeError: an artifact is of a type that cannot be stored.
        """
        after = {key: origin.after for key, (_, origin) in artifacts.items()}
        made: dict[str, _Stored] = {}
        # One after the other: threads that hash hundreds of small frames mostly wait for each other.
        waiting = [_Draft.of(asset, key, *it) for key, it in artifacts.items()]
        last = self.last_numbers(asset, [*artifacts])
        _refuse_overtaken(asset, [key for key in artifacts if after[key] not in {None, last[key]}])
        while waiting:
            there = self.list_each([self.directory(draft.ref) for draft in waiting])
            store = functools.partial(self._store, there, last)
            stored = self.map(store, waiting, writes=True)
            made |= {draft.partition: it for draft, it in zip(waiting, stored, strict=True)}
            there = self.list_each([self.directory(draft.ref) for draft in waiting])
            # Garbage collection may have removed files before their manifest was visible. That happens at most once.
            waiting = [
                draft
                for draft, it in zip(waiting, stored, strict=True)
                if not {entry.name for entry in it.manifest.files} <= there[self.directory(draft.ref)].keys()
            ]
        published = self.map(lambda key: self._publish(made[key], after=after[key]), artifacts, writes=True)
        _refuse_overtaken(asset, [key for key, it in zip(artifacts, published, strict=True) if it is None])
        return {key: it for key, it in zip(artifacts, published, strict=True) if it is not None}

    def _publish(self, stored: "_Stored", *, after: int | None) -> Manifest | None:
        """Add the record that makes an artifact current, with the next number if its own was taken.

        Returns:
            Its manifest; None if it must follow `after` and does not.
        """
        while True:
            record = OrderRecord.of(stored.manifest, stored.name)
            if RECORDS.claim(self, record):
                return stored.manifest
            old = f"{self.directory(record.ref)}/{stored.name}"
            if after is None:
                taken = self.numbers(record.asset, [record.partition or ""])[record.partition or ""]
                stored = self._add_manifest(stored.manifest.model_copy(update={"number": taken[-1] + 1}))
            self.remove(old)
            if after is not None:
                return None

    def _add_manifest(self, manifest: Manifest) -> "_Stored":
        name = manifest_name(manifest)
        self.create(f"{self.directory(manifest.ref)}/{name}", manifest.text())
        return _Stored(manifest, name)

    def _store(self, there: Mapping[str, Mapping[str, Stat]], last: Mapping[str, int], draft: "_Draft") -> "_Stored":
        """Write an artifact's missing files and its manifest.

        Args:
            there: the content of each artifact's folder.
            last: the number of each partition's last publication.
            draft: the artifact.
        """
        ref, parts, origin = draft.ref, draft.parts, draft.origin
        folder = self.directory(ref)
        existing = self._intact_files(ref, there[folder])
        files = () if existing is None else existing.files
        if existing is None:
            entries = []
            names = content.file_names(draft.artifact, parts)
            for name, part in parts.items():
                target = names[name]
                put = self.write(f"{folder}/{target}", functools.partial(content.write_part, draft.artifact, part))
                rows = part.height if isinstance(part, pl.DataFrame) else None
                entries.append(FileEntry(name=target, bytes=put.bytes, digest=put.digest, etag=put.etag, rows=rows))
            files = tuple(entries)
        table = next((it for name in ("data", "rows") if isinstance(it := parts.get(name), pl.DataFrame)), None)
        git = git_state()
        manifest = Manifest(
            asset=ref.asset,
            partition=ref.partition,
            version=ref.version,
            number=last[draft.partition] + 1,
            created_at=datetime.now(tz=UTC),
            inputs=origin.inputs,
            input_numbers=tuple(origin.input_numbers.get(it, 0) for it in origin.inputs),
            parameters=dict(origin.parameters),
            code_version=origin.code_version,
            git_commit=git.commit,
            git_is_dirty=git.is_dirty,
            environment=self.environment(),
            run_id=origin.run_id,
            step=origin.step,
            retry_number=origin.retry_number,
            rows=None if table is None else table.height,
            columns=None if table is None else {name: str(dtype) for name, dtype in table.schema.items()},
            seconds=None if origin.seconds is None else round(origin.seconds, 3),
            peak_memory_bytes=peak_memory_bytes() if origin.cost is None else origin.cost.peak_memory_bytes,
            cost=origin.cost,
            missing_days=dict(origin.missing_days),
            files=files,
        )
        return self._add_manifest(manifest)

    def _intact_files(self, ref: ArtifactRef, there: Mapping[str, Stat]) -> Manifest | None:
        """Return an artifact's manifest if its files are intact; None if they must be written.

        Because they are read here, materializing a damaged artifact again repairs it.
        """
        folder = self.directory(ref)
        if not any(map(MANIFEST_NAME.fullmatch, there)):
            return None
        try:
            made = self.manifest(ref, there=there)
            for entry in made.files:
                with self.opened(f"{folder}/{entry.name}", known=there.get(entry.name)) as file:
                    if content.file_digest(file) != entry.digest:
                        return None
        except MissingArtifactError:
            return None
        return made

    def get(self, ref: ArtifactRef, kind: type) -> Any:
        """Return an artifact, after checking every file against its manifest.

        Raises:
            MissingArtifactError: it does not exist.
            CorruptArtifactError: a file is missing, damaged, or not of the expected shape.
        """
        return self.get_each([ref], kind)[0]

    def get_each(self, refs: Sequence[ArtifactRef], kind: type) -> list[Any]:
        """Return several artifacts of one type in order; see `get`. Their folders are listed together."""
        return [artifact for artifact, _ in self.read_each(refs, kind)]

    def read_each(self, refs: Sequence[ArtifactRef], kind: type) -> list[tuple[Any, Manifest]]:
        """Return several artifacts of one type in order, each with its newest manifest; see `get`."""
        there = self.list_each([self.directory(ref) for ref in refs])
        return self.map(lambda ref: self._read(ref, kind, there[self.directory(ref)]), refs)

    def _read(self, ref: ArtifactRef, kind: type, there: Mapping[str, Stat]) -> tuple[Any, Manifest]:
        folder = self.directory(ref)
        made = self.manifest(ref, there=there)
        entries = {entry.name: entry for entry in made.files}
        parts: dict[str, object] = {}
        for name, file, hint in content.expected_files(kind):
            entry = entries.get(file)
            if entry is None and content.may_lack(kind, name):
                parts[name] = None
                continue
            if entry is None:
                raise CorruptArtifactError(f"{ref} has no file '{file}' in its manifest; {kind.__name__} requires it.")
            with self.opened(f"{folder}/{file}", known=there.get(file)) as opened:
                _check(ref, f"{folder}/{file}", entry, opened)
                try:
                    parts[name] = content.read_part(hint, opened, rows=_rows(ref, entry))
                except (ValueError, pl.exceptions.PolarsError) as error:
                    raise CorruptArtifactError(f"{folder}/{file} is not a {hint.__name__}: {error}") from error
        return content.build_artifact(kind, parts), made

    def scan(self, refs: Sequence[ArtifactRef]) -> pl.LazyFrame:
        """Return the frames of several artifacts as one lazy frame, in order.

        polars does not name a damaged file, so each file is checked first. On a disk the digest is checked, which takes
        a tenth of the time of decoding. On an object store, which checks its bytes itself, size and ETag are compared,
        and the digest only if they differ, as after a copy of the lake. From an object store, many small files are
        fetched whole, which needs fewer requests. Of few or large files, only the needed parts are fetched.

        Raises:
            MissingArtifactError: an artifact does not exist.
            CorruptArtifactError: a file is missing or damaged.
        """
        return self.scan_each(refs)[0]

    def scan_each(self, refs: Sequence[ArtifactRef]) -> tuple[pl.LazyFrame, list[Manifest]]:
        """Return one lazy frame over several artifacts, and the newest manifest of each; see `scan`."""
        there = self.list_each([self.directory(ref) for ref in refs])
        frames = self.map(lambda ref: self._whole_frame(ref, there[self.directory(ref)]), refs)
        copies = self._cached_copies({path: there[path.removesuffix(f"/{_FRAME}")][_FRAME] for path, _ in frames})
        paths, options = ([path for path, _ in frames], self.polars_options()) if copies is None else (copies, None)
        manifests = [made for _, made in frames]
        if not _differ_in_width([made.columns for made in manifests]):
            return pl.scan_parquet(paths, storage_options=options, glob=False), manifests
        parts = [pl.scan_parquet(path, storage_options=options, glob=False) for path in paths]
        return pl.concat(parts, how="vertical_relaxed"), manifests

    def _cached_copies(self, listed: Mapping[str, Stat]) -> list[Path] | None:
        """Return cached copies of all these objects; None if one is not cached."""
        if self.protocol == "file" or sum(it.bytes for it in listed.values()) > _FETCHED_WHOLE:
            return None
        copies = [it for it in self.map(lambda path: self.cached_copy(path, listed[path]), listed) if it is not None]
        return copies if len(copies) == len(listed) else None

    def frames_here(self, refs: Sequence[ArtifactRef], folder: Path) -> list[tuple[Path, Manifest]]:
        """Return the Parquet files of several artifacts on this machine, unchanged, each with its newest manifest.

        Args:
            refs: the artifacts.
            folder: where fetched files are written. Files of a lake on a disk stay where they are.

        Raises:
            MissingArtifactError: an artifact does not exist.
            CorruptArtifactError: a file is missing or damaged.
        """
        there = self.list_each([self.directory(ref) for ref in refs])

        def here(ref: ArtifactRef) -> tuple[Path, Manifest]:
            if self.protocol == "file":
                path, made = self._whole_frame(ref, there[self.directory(ref)])
                return Path(path), made
            path, made, entry = self._frame_of(ref, there[self.directory(ref)])
            known = there[self.directory(ref)].get(_FRAME)
            target = None if known is None else self.cached_copy(path, known)
            if target is None:
                target = folder / ref.asset / (ref.partition or "whole") / _FRAME
                self.download(path, target)
            with target.open("rb") as file:
                _check(ref, path, entry, file)
            return target, made

        return self.map(here, refs)

    def _frame_of(self, ref: ArtifactRef, there: Mapping[str, Stat]) -> tuple[str, Manifest, FileEntry]:
        """Return the path of an artifact's only Parquet file, its manifest, and the file's entry in it."""
        made = self.manifest(ref, there=there)
        entry = next((entry for entry in made.files if entry.name == _FRAME), None)
        if entry is None:
            raise CorruptArtifactError(f"{ref} has no file '{_FRAME}' in its manifest; a frame requires it.")
        return f"{self.directory(ref)}/{_FRAME}", made, entry

    def _whole_frame(self, ref: ArtifactRef, there: Mapping[str, Stat]) -> tuple[str, Manifest]:
        """Return the path of an artifact's only Parquet file after checking it, and its newest manifest."""
        path, made, entry = self._frame_of(ref, there)
        # An object store's ETag shows whether an object was replaced. A disk has no such mark.
        found = None if entry.etag is None else there.get(entry.name)
        if found is None or (found.bytes, found.etag) != (entry.bytes, entry.etag):
            with self.opened(path, known=there.get(entry.name)) as file:
                _check(ref, path, entry, file)
        return path, made

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(tz=UTC)

    @functools.cache  # noqa: B019 - lakes exist as long as the process
    def environment(self) -> str:
        """Return the digest of the environment, which is stored once under `environments/`."""
        return store_environment(self)


def _refuse_overtaken(asset: str, partitions: Sequence[str]) -> None:
    """Refuse to hide what other processes published meanwhile.

    Raises:
        PublicationConflictError: there are such partitions.
    """
    if partitions:
        what = asset if partitions[0] == "" else f"{asset} of {span_of(partitions)}"
        raise PublicationConflictError(
            f"another process published {what} after this step read it, so this result was not published: it would "
            "hide the other one. Materialize it again."
        )


def _check(ref: ArtifactRef, path: str, entry: FileEntry, file: BinaryIO) -> None:
    """Compare a file with its entry in the manifest.

    Raises:
        CorruptArtifactError: they differ.
    """
    if (digest := content.file_digest(file)) != entry.digest:
        raise CorruptArtifactError(
            f"{path} is damaged: {entry.bytes} bytes with digest {entry.digest} were written, but "
            f"{file.seek(0, os.SEEK_END)} bytes with {digest} were read. Materialize {ref.asset} again."
        )


def _rows(ref: ArtifactRef, entry: FileEntry) -> int | None:
    """Return the number of rows that may be read from a file.

    Raises:
        CorruptArtifactError: one column of so many rows does not fit in this machine's memory.
    """
    if entry.rows is not None and entry.rows > memory_bytes():
        raise CorruptArtifactError(
            f"{ref} claims that '{entry.name}' has {entry.rows:,} rows, more than this machine's memory can hold; it "
            "is not read. Find out which process wrote it."
        )
    return entry.rows


def _differ_in_width(schemas: Sequence[Mapping[str, str] | None]) -> bool:
    """Return whether columns differ only in the width of their integer or floating-point types."""
    there = [schema for schema in schemas if schema is not None]
    families = [{name: dtype.rstrip("0123456789") for name, dtype in schema.items()} for schema in there]
    differ = any(schema != there[0] for schema in there)
    return differ and len(there) == len(schemas) and all(family == families[0] for family in families)
