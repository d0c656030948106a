"""The lake: versioned, immutable artifacts with manifests, under one root.

How objects are written whole, on disk and on S3, stays out; see `resources.objects`. Nothing is edited: data first,
manifest last, and what has no manifest does not exist.
"""

import contextlib
import functools
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.execution.context.system import StepExecutionContext  # an IO manager's `context.step_context`
from pydantic import JsonValue, ValidationError

from resources import content
from resources.errors import CorruptArtifactError, LakeError, MissingArtifactError
from resources.manifest import ArtifactRef, FileEntry, Manifest
from resources.objects import Objects
from resources.origin import environment, git_state, peak_memory_bytes

_FEW = 64
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Making:
    """What is known of an artifact's origin while it is written."""

    inputs: tuple[ArtifactRef, ...] = ()
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    code_version: str | None = None
    run_id: str | None = None
    seconds: float | None = None


class Lake(Objects):
    """Artifacts under a root, each a folder of files with a manifest."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(url, options)
        self._reads: list[ArtifactRef] = []
        self._notes: dict[str, JsonValue] = {}
        self._step: tuple[str, str, int] | None = None

    def directory(self, ref: ArtifactRef) -> str:
        """Return the folder of one version of an artifact."""
        return self.path("artifacts", ref.asset, *([ref.partition] if ref.partition else []), ref.version)

    def write_frame(self, path: str, frame: pl.DataFrame) -> None:
        """Write a frame that is not an artifact, replacing what stood there.

        Raises:
            LakeError: the lake cannot be written.
        """
        self.write(path, functools.partial(content.write_part, frame, frame))

    def read_frame(self, path: str) -> pl.DataFrame | None:
        """Return a frame that is not an artifact; None where there is none.

        Raises:
            CorruptArtifactError: it is not Parquet.
        """
        try:
            return pl.read_parquet(self.read(path))
        except MissingArtifactError:
            return None
        except pl.exceptions.PolarsError as error:
            raise CorruptArtifactError(f"{path} is not Parquet: {error}. Remove it; it will be made anew.") from error

    def partitions(self, asset: str) -> list[str]:
        """Return the partitions of an asset that have at least one whole artifact, sorted."""
        return sorted({key for key, _, _ in self._manifests(asset, None) if key})

    def _manifests(self, asset: str, partitions: Sequence[str] | None) -> Iterator[tuple[str, str, str]]:
        """Yield (partition or '', version, manifest file name) of whole artifacts."""
        root = self.path("artifacts", asset)
        if partitions is None or len(partitions) > _FEW:
            wanted = None if partitions is None else set(partitions)
            listed = ((relative, relative.split("/")) for relative in self.tree(root))
            for _, parts in listed:
                if not parts[-1].startswith("manifest") or len(parts) not in {2, 3}:
                    continue
                partition = parts[0] if len(parts) == 3 else ""
                if wanted is None or partition in wanted:
                    yield partition, parts[-2], parts[-1]
            return
        with self.pool(len(partitions)) as each:
            trees = each(lambda key: self.tree(f"{root}/{key}" if key else root), partitions)
        for partition, tree in zip(partitions, trees, strict=True):
            for relative in tree:
                parts = relative.split("/")
                if len(parts) == 2 and parts[1].startswith("manifest"):
                    yield partition, parts[0], parts[1]

    def newest(
        self, asset: str, partitions: Sequence[str] | None = None, *, run_id: str | None = None
    ) -> dict[str, ArtifactRef]:
        """Return the current artifact of each partition ('' where the asset has none).

        What the run `run_id` itself produced wins; else the newest materialization. Only partitions with more than
        one version cost a read of their manifests.
        """
        found: dict[str, list[tuple[str, str]]] = {}
        for partition, version, name in self._manifests(asset, partitions):
            found.setdefault(partition, []).append((version, name))
        current = {}
        for partition, entries in found.items():
            versions = {version for version, _ in entries}
            version = next(iter(versions)) if len(versions) == 1 else self._latest(asset, partition, entries, run_id)
            current[partition] = ArtifactRef(asset=asset, partition=partition or None, version=version)
        return current

    def _latest(self, asset: str, partition: str, entries: list[tuple[str, str]], run_id: str | None) -> str:
        folder = self.path("artifacts", asset, *([partition] if partition else []))
        manifests = [self._read_manifest(f"{folder}/{version}/{name}") for version, name in entries]
        own = [m for m in manifests if run_id is not None and m.run_id == run_id]
        return max(own or manifests, key=lambda m: m.created_at).version

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
        versions = sorted({v for _, v, _ in self._manifests(asset, [partition or ""]) if v.startswith(version)})
        if len(versions) != 1:
            raise MissingArtifactError(f"{what} has {len(versions) or 'no'} versions starting with '{version}'.")
        return ArtifactRef(asset=asset, partition=partition, version=versions[0])

    def versions(self, asset: str, partitions: Sequence[str] | None = None) -> dict[str, list[ArtifactRef]]:
        """Return every version there is of each partition ('' where the asset has none), current or not."""
        found: dict[str, set[str]] = {}
        for partition, version, _ in self._manifests(asset, partitions):
            found.setdefault(partition, set()).add(version)
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

    def manifests(self, ref: ArtifactRef) -> list[Manifest]:
        """Return all of an artifact's manifests, one for each time it was made, oldest first.

        Raises:
            MissingArtifactError: the artifact does not exist.
            CorruptArtifactError: a manifest is not one, or speaks of another artifact.
        """
        folder = self.directory(ref)
        names = [name for name in self.names(folder) if name.startswith("manifest")]
        if not names:
            raise MissingArtifactError(f"{ref} has no manifest under {folder}, so it does not exist.")
        found = [self._read_manifest(f"{folder}/{name}") for name in names]
        strange = [str(m.ref) for m in found if m.ref != ref]
        if strange:
            raise CorruptArtifactError(f"a manifest in {folder} speaks of {strange[0]}, not of {ref}; do not use it.")
        return sorted(found, key=lambda m: m.created_at)

    def _read_manifest(self, path: str) -> Manifest:
        try:
            return Manifest.model_validate_json(self.read(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise CorruptArtifactError(f"{path} is not a manifest ({where}: {first['msg']}); it was edited.") from error

    def put(self, asset: str, partition: str | None, artifact: object, making: Making) -> Manifest:
        """Keep an artifact: its files, then its manifest. The same content again adds a manifest only.

        Raises:
            LakeError: the lake cannot be written; nothing that stood before is touched.
            TypeError: the artifact is of a kind that cannot be kept.
        """
        parts = content.parts_of(artifact)
        version = content.version_of(parts)
        ref = ArtifactRef(asset=asset, partition=partition, version=version)
        folder = self.directory(ref)
        files = self._files_that_stand(ref)
        if files is None:
            entries = []
            names = content.file_names(artifact, parts)
            for name, part in parts.items():
                target = names[name]
                size, digest = self.write(f"{folder}/{target}", functools.partial(content.write_part, artifact, part))
                entries.append(FileEntry(name=target, bytes=size, digest=digest))
            files = tuple(entries)
        table = next((it for name in ("data", "rows") if isinstance(it := parts.get(name), pl.DataFrame)), None)
        git = git_state()
        manifest = Manifest(
            asset=asset,
            partition=partition,
            version=version,
            created_at=datetime.now(tz=UTC),
            inputs=making.inputs,
            parameters=dict(making.parameters),
            code_version=making.code_version,
            git_commit=git.commit,
            git_is_dirty=git.is_dirty,
            environment=self._environment(),
            run_id=making.run_id,
            rows=None if table is None else table.height,
            columns=None if table is None else {name: str(dtype) for name, dtype in table.schema.items()},
            seconds=None if making.seconds is None else round(making.seconds, 3),
            peak_memory_bytes=peak_memory_bytes(),
            files=files,
        )
        text = manifest.model_dump_json(indent=1).encode()
        try:
            self.create(f"{folder}/{_MANIFEST}", text)
        except FileExistsError:
            stamp = manifest.created_at.strftime("%Y%m%dT%H%M%S.%fZ")
            self.create(f"{folder}/manifest-{stamp}-{uuid.uuid4().hex[:8]}.json", text)
        return manifest

    def _files_that_stand(self, ref: ArtifactRef) -> tuple[FileEntry, ...] | None:
        """Return an artifact's files if all are there as they were written; None where they must be written (again).

        Reading them is what lets an artifact be mended by materializing it again.
        """
        folder = self.directory(ref)
        if not any(name.startswith("manifest") for name in self.names(folder)):
            return None
        files = self.manifest(ref).files
        try:
            whole = all(_digest(self.read(f"{folder}/{entry.name}")) == entry.digest for entry in files)
        except MissingArtifactError:
            return None
        return files if whole else None

    def put_each(self, asset: str, artifacts: Mapping[str, tuple[object, Making]]) -> dict[str, Manifest]:
        """Keep one artifact for each partition, in parallel, each with its own origin."""
        with self.pool(len(artifacts)) as each:
            manifests = each(lambda item: self.put(asset, item[0], *item[1]), artifacts.items())
        return dict(zip(artifacts, manifests, strict=True))

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
        entries = {entry.name: entry for entry in self.manifest(ref).files}
        folder = self.directory(ref)
        parts: dict[str, object] = {}
        for name, file, hint in content.expected_files(kind):
            entry = entries.get(file)
            if entry is None and content.may_lack(kind, name):
                continue
            if entry is None:
                raise CorruptArtifactError(f"{ref} has no file '{file}' in its manifest; {kind.__name__} wants it.")
            data = self.read(f"{folder}/{file}")
            _check(ref, f"{folder}/{file}", entry, data)
            try:
                parts[name] = content.read_part(hint, data)
            except (ValidationError, pl.exceptions.PolarsError) as error:
                raise CorruptArtifactError(f"{folder}/{file} is not a {hint.__name__}: {error}") from error
        if noted:
            self._reads.append(ref)
        return content.assemble(kind, parts)

    def scan(self, refs: Sequence[ArtifactRef], *, noted: bool = True) -> pl.LazyFrame:
        """Return the frames of several artifacts as one lazy frame, in the order given.

        Polars names no file when one is damaged, so each is checked first: on a disk by its digest, which costs a
        tenth of decoding it; on an object store, which watches its bytes itself, by its size.

        Args:
            refs: the artifacts.
            noted: as for `get`.

        Raises:
            MissingArtifactError: an artifact does not exist.
            CorruptArtifactError: a file is missing or damaged.
        """
        with self.pool(len(refs)) as each:
            paths = each(self._whole_frame, refs)
        if noted:
            self._reads.extend(refs)
        return pl.scan_parquet(paths, storage_options=self.polars_options(), glob=False)

    def _whole_frame(self, ref: ArtifactRef) -> str:
        """Return the path of an artifact's one Parquet file, which is as it was written."""
        path = f"{self.directory(ref)}/data.parquet"
        entry = next((entry for entry in self.manifest(ref).files if entry.name == "data.parquet"), None)
        if entry is None:
            raise CorruptArtifactError(f"{ref} has no file 'data.parquet' in its manifest; a frame wants it.")
        if self.protocol == "file":
            _check(ref, path, entry, self.read(path))
        elif (size := self._size(path)) != entry.bytes:
            raise CorruptArtifactError(
                f"{path} is damaged: {entry.bytes} bytes were written, {size} are there. Materialize {ref.asset} again."
            )
        return path

    def _size(self, path: str) -> int:
        try:
            return int(self.fs.info(path)["size"])
        except FileNotFoundError as error:
            raise MissingArtifactError(f"there is no object {path} in the lake.") from error
        except OSError as error:
            raise LakeError(self._cannot("read", path, error)) from error

    def begin(self, step: tuple[str, str, int]) -> None:
        """Begin to note what a step reads, unless it has begun already.

        A step that failed never came to write down what it had read: that is not the lineage of the next.
        """
        if step != self._step:
            self.take_reads()
            self.take_notes()
            self._step = step

    def versions_read(self) -> dict[str, str]:
        """Return the version last read of each asset in this step, as `asset` or `asset/partition`."""
        return {f"{ref.asset}/{ref.partition}" if ref.partition else ref.asset: ref.version for ref in self._reads}

    def note_reads(self, refs: Iterable[ArtifactRef]) -> None:
        """Count artifacts among what this step has read."""
        self._reads.extend(refs)

    def note(self, **facts: JsonValue) -> None:
        """Add facts to the parameters in the manifest of what this step makes."""
        self._notes |= facts

    def take_notes(self) -> dict[str, JsonValue]:
        """Return the facts noted since the last call."""
        notes, self._notes = self._notes, {}
        return notes

    def take_reads(self) -> tuple[ArtifactRef, ...]:
        """Return what was read since the last call, each once, in a stable order."""
        reads, self._reads = self._reads, []
        return tuple(sorted(set(reads), key=lambda ref: (ref.asset, ref.partition or "", ref.version)))

    @functools.cache  # noqa: B019 - lakes live as long as the process
    def _environment(self) -> str:
        """Return the digest of the environment, kept whole once under `environments/`."""
        digest, details = environment()
        path = self.path("environments", f"{digest}.json")
        with contextlib.suppress(FileExistsError):
            self.create(path, json.dumps(details, indent=1, sort_keys=True).encode())
        return digest


def _digest(data: bytes) -> str:
    digest = content.new_hash()
    digest.update(data)
    return digest.hexdigest()


def _check(ref: ArtifactRef, path: str, entry: FileEntry, data: bytes) -> None:
    """Compare a file with what its manifest says of it.

    Raises:
        CorruptArtifactError: they differ.
    """
    if (digest := _digest(data)) != entry.digest:
        raise CorruptArtifactError(
            f"{path} is damaged: {entry.bytes} bytes with digest {entry.digest} were written, "
            f"{len(data)} bytes with {digest} were read. Materialize {ref.asset} again."
        )


@functools.cache
def _open(url: str, options: str) -> Lake:
    return Lake(url, json.loads(options))


def step_of(context: StepExecutionContext) -> tuple[str, str, int]:
    """Return what tells one attempt at a step from every other."""
    return context.run_id, context.step.key, context.previous_attempt_count


def _current_step() -> tuple[str, str, int] | None:
    """Return the step whose body is running; None outside of one."""
    try:
        context = dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None
    return step_of(context.get_step_execution_context())


class LakeResource(dg.ConfigurableResource):
    """Where the lake is: a URL, else `ML_ASSETS_LAKE`, else the folder `.lake` beside this code.

    Nothing is looked up or connected to before the first read or write.
    """

    url: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies defaults

    def open(self) -> Lake:
        """Return the lake; one object per place and process, so that reads of a step are noted together."""
        url = self.url or os.environ.get("ML_ASSETS_LAKE") or str(Path(__file__).resolve().parent.parent / ".lake")
        lake = _open(url, json.dumps(self.options, sort_keys=True))
        step = _current_step()
        if step is not None:
            lake.begin(step)
        return lake


def clock() -> float:
    """Return seconds for durations."""
    return time.perf_counter()
