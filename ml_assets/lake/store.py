"""The lake: versioned, immutable artifacts with manifests, under one root.

Nothing is edited: data first, then the manifest, last the record of the order that publishes it
(`ml_assets.lake.order`). What has no manifest does not exist. How objects are written whole and how artifacts are
found: `ml_assets.lake.objects` and `ml_assets.lake.manifests`.
"""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import polars as pl
from pydantic import JsonValue

from ml_assets.dagster_storage.code_versions import code_parts
from ml_assets.lake import content
from ml_assets.lake.days import Days, merged, span_of
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError, PublicationConflictError
from ml_assets.lake.manifest import ArtifactRef, Cost, FileEntry, Manifest
from ml_assets.lake.manifests import Manifests
from ml_assets.lake.objects import Stat
from ml_assets.lake.order import MANIFEST_NAME, OrderRecord, manifest_name
from ml_assets.lake.origin import git_state, memory_bytes, peak_memory_bytes, store_environment
from ml_assets.lake.usage import Meter

_FRAME = "data.parquet"

_FETCHED_WHOLE = 64 * 2**20
"""Bytes of the files of one lazy frame up to which they are fetched whole from an object store."""


class Step(NamedTuple):
    """One attempt at a step of a run."""

    run_id: str
    name: str
    attempt: int


@dataclass(frozen=True)
class Making:
    """What is known of an artifact's origin while it is written.

    Attributes:
        after: the number of the publication that it was made from, 0 for none: it is published as the next one or not
            at all. None where whatever was published meanwhile may be replaced.
    """

    inputs: tuple[ArtifactRef, ...] = ()
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    code_version: str | None = None
    run_id: str | None = None
    seconds: float | None = None
    cost: Cost | None = None
    missing_days: Days = field(default_factory=dict)
    after: int | None = None


class _Draft(NamedTuple):
    """An artifact that is about to be kept: what it is called, and its parts."""

    ref: ArtifactRef
    artifact: object
    parts: Mapping[str, content.Part]
    making: Making

    @classmethod
    def of(cls, asset: str, partition: str, artifact: object, making: Making) -> "_Draft":
        parts = content.parts_of(artifact)
        ref = ArtifactRef(asset=asset, partition=partition or None, version=content.version_of(parts))
        return cls(ref, artifact, parts, making)

    @property
    def partition(self) -> str:
        """The key of its partition, '' where the asset has none."""
        return self.ref.partition or ""


class _Stored(NamedTuple):
    """A manifest as it is stored, and its file's name."""

    manifest: Manifest
    name: str


class Lake(Manifests):
    """Artifacts under a root, each a folder of files with a manifest."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(url, options)
        self._reads: list[ArtifactRef] = []
        self._reads_of: dict[str, list[ArtifactRef]] = {}
        self._notes: dict[str, JsonValue] = {}
        self._missing_days: dict[ArtifactRef, Days] = {}
        self._code_behind: dict[ArtifactRef, str] = {}
        self._rows: dict[ArtifactRef, int] = {}
        self._numbers: dict[ArtifactRef, int] = {}
        self._missing_noted: list[Days] = []
        self._after: dict[str, int] = {}
        self.step: Step | None = None
        self.recorded: Step | None = None
        self.runs: tuple[str, ...] = ()
        self.since: datetime | None = None
        self.meter = Meter()

    def put(self, asset: str, partition: str | None, artifact: object, making: Making) -> Manifest:
        """Store and publish an artifact. The same content again adds a manifest and a record only.

        Raises:
            As `put_each`.
        """
        return self.put_each(asset, {partition or "": (artifact, making)})[partition or ""]

    def put_each(self, asset: str, artifacts: Mapping[str, tuple[object, Making]]) -> dict[str, Manifest]:
        """Store one artifact for each partition ('' where the asset has none), each with its own origin; publish them.

        Raises:
            LakeError: the lake cannot be written; nothing that stood before is touched.
            PublicationConflictError: somebody published a partition after the publication that an artifact must follow.
            TypeError: an artifact is of a kind that cannot be kept.
        """
        after = {key: making.after for key, (_, making) in artifacts.items()}
        made: dict[str, _Stored] = {}
        with self.pool(len(artifacts), writes=True) as each:
            waiting = each(lambda item: _Draft.of(asset, item[0], *item[1]), artifacts.items())
            last = self.last_numbers(asset, [*artifacts])
            _refuse_overtaken(asset, [key for key in artifacts if after[key] not in {None, last[key]}])
            while waiting:
                there = self.look_into([self.directory(draft.ref) for draft in waiting])
                stored = each(
                    lambda it, there=there: self._store(it, there[self.directory(it.ref)], last[it.partition] + 1),
                    waiting,
                )
                made |= {draft.partition: it for draft, it in zip(waiting, stored, strict=True)}
                there = self.look_into([self.directory(draft.ref) for draft in waiting])
                # Garbage collection may have taken files before it could see their manifest; it does so once.
                waiting = [
                    draft
                    for draft, it in zip(waiting, stored, strict=True)
                    if not {entry.name for entry in it.manifest.files} <= there[self.directory(draft.ref)].keys()
                ]
            published = each(lambda key: self._publish(made[key], after=after[key]), artifacts)
        _refuse_overtaken(asset, [key for key, it in zip(artifacts, published, strict=True) if it is None])
        return {key: self._remembered(it) for key, it in zip(artifacts, published, strict=True)}

    def _publish(self, stored: "_Stored", *, after: int | None) -> Manifest | None:
        """Add the record that makes an artifact current, under the next number if somebody else took its own.

        Returns:
            Its manifest; None where it may only follow `after` and does not.
        """
        while True:
            record = OrderRecord.of(stored.manifest, stored.name)
            try:
                self.create(self.path(record.path), record.text())
            except FileExistsError:
                old = f"{self.directory(record.ref)}/{stored.name}"
                if after is None:
                    taken = self.numbers(record.asset, [record.partition or ""])[record.partition or ""]
                    stored = self._add_manifest(stored.manifest.model_copy(update={"number": taken[-1] + 1}))
                self.remove(old)
                if after is not None:
                    return None
            else:
                return stored.manifest

    def _add_manifest(self, manifest: Manifest) -> "_Stored":
        name = manifest_name(manifest)
        self.create(f"{self.directory(manifest.ref)}/{name}", manifest.text())
        return _Stored(manifest, name)

    def _store(self, draft: "_Draft", there: Mapping[str, Stat], number: int) -> "_Stored":
        """Write an artifact's files, as far as they do not exist, and its manifest; `there` is what its folder has."""
        ref, parts, making = draft.ref, draft.parts, draft.making
        folder = self.directory(ref)
        standing = self._files_that_stand(ref, there)
        files = () if standing is None else standing.files
        if standing is None:
            entries = []
            names = content.file_names(draft.artifact, parts)
            for name, part in parts.items():
                target = names[name]
                put = self.put_object(f"{folder}/{target}", functools.partial(content.write_part, draft.artifact, part))
                rows = part.height if isinstance(part, pl.DataFrame) else None
                entries.append(FileEntry(name=target, bytes=put.bytes, digest=put.digest, etag=put.etag, rows=rows))
            files = tuple(entries)
        table = next((it for name in ("data", "rows") if isinstance(it := parts.get(name), pl.DataFrame)), None)
        git = git_state()
        step = self.step if self.step and self.step.run_id == making.run_id else None
        manifest = Manifest(
            asset=ref.asset,
            partition=ref.partition,
            version=ref.version,
            number=number,
            created_at=datetime.now(tz=UTC),
            inputs=making.inputs,
            input_numbers=tuple(self._numbers.get(it, 0) for it in making.inputs),
            parameters=dict(making.parameters),
            code_version=making.code_version,
            git_commit=git.commit,
            git_is_dirty=git.is_dirty,
            environment=self.environment(),
            run_id=making.run_id,
            step=step.name if step else None,
            attempt=step.attempt if step else None,
            rows=None if table is None else table.height,
            columns=None if table is None else {name: str(dtype) for name, dtype in table.schema.items()},
            seconds=None if making.seconds is None else round(making.seconds, 3),
            peak_memory_bytes=peak_memory_bytes() if making.cost is None else making.cost.peak_memory_bytes,
            cost=making.cost,
            missing_days=dict(making.missing_days),
            files=files,
        )
        return self._add_manifest(manifest)

    def _files_that_stand(self, ref: ArtifactRef, there: Mapping[str, Stat]) -> Manifest | None:
        """Return an artifact's manifest if its files are as they were written; None where they must be written (again).

        Reading them is what lets an artifact be mended by materializing it again.
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

    def get(self, ref: ArtifactRef, kind: type, *, noted: bool = True) -> Any:
        """Return an artifact whole, after checking every file against its manifest.

        Args:
            ref: the artifact.
            kind: what it is.
            noted: whether it is an input of the step that reads it; what is only looked at for comparison is none.

        Raises:
            MissingArtifactError: it does not exist.
            CorruptArtifactError: a file is missing, damaged, or not of the expected shape.
        """
        return self.get_each([ref], kind, noted=noted)[0]

    def get_each(self, refs: Sequence[ArtifactRef], kind: type, *, noted: bool = True) -> list[Any]:
        """Return several artifacts of one kind in their order; their folders are listed together.

        Args:
            refs: the artifacts.
            kind: what they are.
            noted: as for `get`.

        Raises:
            As `get`.
        """
        there = self.look_into([self.directory(ref) for ref in refs])
        with self.pool(len(refs)) as each:
            found = each(lambda ref: self._get(ref, kind, there[self.directory(ref)]), refs)
        if noted:
            self._reads.extend(refs)
        return found

    def _get(self, ref: ArtifactRef, kind: type, there: Mapping[str, Stat]) -> Any:
        folder = self.directory(ref)
        made = self._newest_manifest(ref, there)
        entries = {entry.name: entry for entry in made.files}
        parts: dict[str, object] = {}
        for name, file, hint in content.expected_files(kind):
            entry = entries.get(file)
            if entry is None and content.may_lack(kind, name):
                continue
            if entry is None:
                raise CorruptArtifactError(f"{ref} has no file '{file}' in its manifest; {kind.__name__} wants it.")
            with self.opened(f"{folder}/{file}", known=there.get(file)) as opened:
                _check(ref, f"{folder}/{file}", entry, opened)
                try:
                    parts[name] = content.read_part(hint, opened, rows=_rows(ref, entry))
                except (ValueError, pl.exceptions.PolarsError) as error:
                    raise CorruptArtifactError(f"{folder}/{file} is not a {hint.__name__}: {error}") from error
        return content.assemble(kind, parts)

    def scan(self, refs: Sequence[ArtifactRef], *, noted: bool = True) -> pl.LazyFrame:
        """Return the frames of several artifacts as one lazy frame, in the order given.

        Polars names no file when one is damaged, so each is checked first: on a disk by its digest, which costs a
        tenth of decoding it; on an object store, which watches its bytes itself, by size and ETag, and by its digest
        only where they have changed, as after a copy of the lake. Of an object store, many small files are fetched
        whole, which are fewer requests than for their parts; of few or large ones what is asked for of the frame.

        Args:
            refs: the artifacts.
            noted: as for `get`.

        Raises:
            MissingArtifactError: an artifact does not exist.
            CorruptArtifactError: a file is missing or damaged.
        """
        there = self.look_into([self.directory(ref) for ref in refs])
        with self.pool(len(refs)) as each:
            frames = each(lambda ref: self._whole_frame(ref, there[self.directory(ref)]), refs)
            near = self._all_near({path: there[path.removesuffix(f"/{_FRAME}")][_FRAME] for path, _ in frames}, each)
        if noted:
            self._reads.extend(refs)
        paths, options = ([path for path, _ in frames], self.polars_options()) if near is None else (near, None)
        types = [columns for _, columns in frames]
        if not _differ_in_width(types):
            return pl.scan_parquet(paths, storage_options=options, glob=False)
        parts = [pl.scan_parquet(path, storage_options=options, glob=False) for path in paths]
        return pl.concat(parts, how="vertical_relaxed")

    def _all_near(self, listed: Mapping[str, Stat], each: Callable[..., list[Path | None]]) -> list[Path] | None:
        """Return copies on this machine of all of some objects; None where there is none of one of them."""
        if self.protocol == "file" or sum(it.bytes for it in listed.values()) > _FETCHED_WHOLE:
            return None
        near = [it for it in each(lambda path: self.near(path, listed[path]), listed) if it is not None]
        return near if len(near) == len(listed) else None

    def frames_here(self, refs: Sequence[ArtifactRef], folder: Path) -> list[Path]:
        """Return the Parquet files of several artifacts on this machine, each as it was written.

        Args:
            refs: the artifacts.
            folder: where files go that must be fetched first; those of a lake on a disk are where they are.

        Raises:
            MissingArtifactError: an artifact does not exist.
            CorruptArtifactError: a file is missing or damaged.
        """
        there = self.look_into([self.directory(ref) for ref in refs])

        def here(ref: ArtifactRef) -> Path:
            if self.protocol == "file":
                return Path(self._whole_frame(ref, there[self.directory(ref)])[0])
            path, _, entry = self._frame_of(ref, there[self.directory(ref)])
            known = there[self.directory(ref)].get(_FRAME)
            target = None if known is None else self.near(path, known)
            if target is None:
                target = folder / ref.asset / (ref.partition or "whole") / _FRAME
                self.download(path, target)
            with target.open("rb") as file:
                _check(ref, path, entry, file)
            return target

        with self.pool(len(refs)) as each:
            return each(here, refs)

    def _frame_of(self, ref: ArtifactRef, there: Mapping[str, Stat]) -> tuple[str, Manifest, FileEntry]:
        """Return the path of an artifact's one Parquet file, its manifest, and what that says of the file."""
        made = self._newest_manifest(ref, there)
        entry = next((entry for entry in made.files if entry.name == _FRAME), None)
        if entry is None:
            raise CorruptArtifactError(f"{ref} has no file '{_FRAME}' in its manifest; a frame wants it.")
        return f"{self.directory(ref)}/{_FRAME}", made, entry

    def _whole_frame(self, ref: ArtifactRef, there: Mapping[str, Stat]) -> tuple[str, dict[str, str] | None]:
        """Return the path of an artifact's one Parquet file, which is as it was written, and its columns' types."""
        path, made, entry = self._frame_of(ref, there)
        # An object store says whether an object is the one that was written; a disk cannot tell.
        found = None if entry.etag is None else there.get(entry.name)
        if found is None or (found.bytes, found.etag) != (entry.bytes, entry.etag):
            with self.opened(path, known=there.get(entry.name)) as file:
                _check(ref, path, entry, file)
        return path, made.columns

    def _newest_manifest(self, ref: ArtifactRef, there: Mapping[str, Stat]) -> Manifest:
        """Return an artifact's newest manifest; remember its rows, and the days missing of what it was made from."""
        return self._remembered(self.manifest(ref, there=there))

    def _remembered(self, made: Manifest) -> Manifest:
        self._missing_days.pop(made.ref, None)
        self._code_behind.pop(made.ref, None)
        if behind := code_parts(made.code_version)[1]:
            self._code_behind[made.ref] = behind
        self._numbers[made.ref] = made.number
        if made.rows is not None:
            self._rows[made.ref] = made.rows
        if made.missing_days:
            self._missing_days[made.ref] = made.missing_days
        return made

    def missing_days_of(self, refs: Iterable[ArtifactRef]) -> list[Days]:
        """Return the days that were missing of what some artifacts are made from; of those read or written before."""
        return [self._missing_days[ref] for ref in refs if ref in self._missing_days]

    def code_behind(self, refs: Iterable[ArtifactRef]) -> str:
        """Return the code behind the first of some artifacts that has any; of those read or written before."""
        return next((self._code_behind[ref] for ref in refs if ref in self._code_behind), "")

    def rows_of(self, refs: Iterable[ArtifactRef]) -> dict[str, int]:
        """Return the rows of some tables, by asset; of those read or written before."""
        found: dict[str, int] = {}
        for ref in refs:
            if ref in self._rows:
                found[ref.asset] = found.get(ref.asset, 0) + self._rows[ref]
        return found

    def begin(self, step: Step, *, runs: Sequence[str] = ()) -> None:
        """Begin to note what a step reads.

        A step that failed never came to write down what it had read: that is not the lineage of the next.

        Args:
            step: the step.
            runs: its run and those which that goes on with; what they made is read first, see `newest`.
        """
        self.take_reads()
        self.take_notes()
        self.take_missing()
        self.take_after()
        self.step, self.runs, self.since = step, tuple(runs), None

    def now(self) -> datetime:
        """Return when the running step began, as its record says, so that a replay of it sees the same; else the time.

        The moment is in UTC.
        """
        return self.since or datetime.now(tz=UTC)

    @property
    def reads(self) -> tuple[ArtifactRef, ...]:
        """What was read since the last call of `take_reads`, each once, in a stable order."""
        return tuple(sorted(set(self._reads), key=lambda ref: (ref.asset, ref.partition or "", ref.version)))

    def versions_read(self) -> dict[str, str]:
        """Return the version last read of each asset in this step, as `asset` or `asset/partition`."""
        return {f"{ref.asset}/{ref.partition}" if ref.partition else ref.asset: ref.version for ref in self._reads}

    def days_read(self, asset: str) -> list[str]:
        """Return the partitions of an asset that were read in this step."""
        return [ref.partition for ref in self._reads if ref.asset == asset and ref.partition]

    def note_reads(self, refs: Iterable[ArtifactRef], *, partition: str | None = None) -> None:
        """Count artifacts among what this step has read; for one partition alone, where it is named."""
        if partition is None:
            self._reads.extend(refs)
        else:
            self._reads_of.setdefault(partition, []).extend(refs)

    def note(self, **facts: JsonValue) -> None:
        """Add facts to the parameters in the manifest of what this step makes."""
        self._notes |= facts

    def take_notes(self) -> dict[str, JsonValue]:
        """Return the facts noted since the last call."""
        notes, self._notes = self._notes, {}
        return notes

    def note_missing(self, days: Days) -> None:
        """Note days, by asset, that this step reads and that are not there."""
        self._missing_noted.append(days)

    def take_missing(self) -> Days:
        """Return the days noted as missing since the last call."""
        noted, self._missing_noted = self._missing_noted, []
        return merged(noted)

    def note_after(self, numbers: Mapping[str, int]) -> None:
        """Note, by partition, the number of the publication that the next output of this step is made from."""
        self._after |= numbers

    def take_after(self) -> dict[str, int]:
        """Return the numbers noted since the last call."""
        after, self._after = self._after, {}
        return after

    def take_reads(self) -> tuple[ArtifactRef, ...]:
        """Return what was read since the last call, and forget it."""
        reads, self._reads, self._reads_of = self.reads, [], {}
        return reads

    def reads_of(self, partition: str) -> tuple[ArtifactRef, ...]:
        """Return what was read for one partition alone since the last call of `take_reads`."""
        return tuple(dict.fromkeys(self._reads_of.get(partition, ())))

    @functools.cache  # noqa: B019 - lakes live as long as the process
    def environment(self) -> str:
        """Return the digest of the environment, kept whole once under `environments/`."""
        return store_environment(self)


def _refuse_overtaken(asset: str, partitions: Sequence[str]) -> None:
    """Refuse to hide what others published meanwhile.

    Raises:
        PublicationConflictError: there are such partitions.
    """
    if partitions:
        what = asset if partitions[0] == "" else f"{asset} of {span_of(partitions)}"
        raise PublicationConflictError(
            f"somebody else published {what} while it was made here from what had been published before, so it was not "
            "published: it would hide theirs. Materialize it again."
        )


def _check(ref: ArtifactRef, path: str, entry: FileEntry, file: BinaryIO) -> None:
    """Compare a file with what its manifest says of it.

    Raises:
        CorruptArtifactError: they differ.
    """
    if (digest := content.file_digest(file)) != entry.digest:
        raise CorruptArtifactError(
            f"{path} is damaged: {entry.bytes} bytes with digest {entry.digest} were written, "
            f"{file.seek(0, os.SEEK_END)} bytes with {digest} were read. Materialize {ref.asset} again."
        )


def _rows(ref: ArtifactRef, entry: FileEntry) -> int | None:
    """Return the most rows that may be read of a file.

    Raises:
        CorruptArtifactError: not one column of so many rows fits in this machine's memory.
    """
    if entry.rows is not None and entry.rows > memory_bytes():
        raise CorruptArtifactError(
            f"{ref} says that '{entry.name}' has {entry.rows:,} rows, for which this machine has no memory; it is not "
            "read. Look at who wrote it."
        )
    return entry.rows


def _differ_in_width(schemas: Sequence[Mapping[str, str] | None]) -> bool:
    """Return whether columns differ, and only in how wide their whole or their floating-point numbers are."""
    there = [schema for schema in schemas if schema is not None]
    families = [{name: dtype.rstrip("0123456789") for name, dtype in schema.items()} for schema in there]
    differ = any(schema != there[0] for schema in there)
    return differ and len(there) == len(schemas) and all(family == families[0] for family in families)
