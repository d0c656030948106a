"""The ledger of a step: what one attempt read, used and noted, which its IO manager writes into the manifests.

A new one is made for each attempt, so steps that run in one process at the same time share nothing. Not here: which
ledger belongs to the running step (see `ml_assets.lake.resource`), and the lake itself (see `ml_assets.lake.store`).
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import polars as pl
from pydantic import JsonValue

from ml_assets.dagster_storage.code_versions import code_parts
from ml_assets.lake.days import Days, merge_days
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.store import Lake, Origin
from ml_assets.lake.usage import Meter


class Step(NamedTuple):
    """One attempt at a step of a run."""

    run_id: str
    name: str
    retry_number: int


@dataclass(frozen=True)
class Input:
    """An artifact that a step used, with the facts of its manifest that its outputs inherit.

    Attributes:
        number: the number of its publication; 0 if unknown.
        rows: its rows, if it is a table.
        missing_days: the missing days of its own inputs.
        code_behind: the digest of its training code; '' if it has none.
    """

    ref: ArtifactRef
    number: int = 0
    rows: int | None = None
    missing_days: Days = field(default_factory=dict)
    code_behind: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> "Input":
        """Return an artifact as an input."""
        behind = code_parts(manifest.code_version)[1]
        return cls(manifest.ref, manifest.number, manifest.rows, manifest.missing_days, behind)


class StepLedger:
    """What one attempt at a step has read, used and noted so far.

    `get`, `get_each` and `scan` read inputs. What is read through `lake` is only compared, and is no input.

    Attributes:
        lake: the lake that the step reads and writes.
        step: the attempt; None outside of a run.
        runs: the run and the runs that it continues, newest first. Their artifacts are current for this step.
        meter: measures what the step uses.
        notes: facts for the parameters of the outputs' manifests.
        code_behind: the digest of the outputs' training code; '' if it is that of their inputs or the current one.
        recorded_at: when the step's record was stored; None before.
        body_began: when the body began, or the last output was stored.
    """

    def __init__(
        self, lake: Lake, step: Step | None = None, *, runs: Sequence[str] = (), meter: Meter | None = None
    ) -> None:
        self.lake, self.step, self.runs = lake, step, tuple(runs)
        self.meter = meter or Meter()
        self.code_behind = ""
        self.notes: dict[str, JsonValue] = {}
        self.recorded_at: datetime | None = None
        self.body_began = self.meter.began
        self._inputs: dict[ArtifactRef, Input] = {}
        self._inputs_of: dict[str, dict[ArtifactRef, Input]] = {}
        self._missing: list[Days] = []
        self._based_on: dict[str, Mapping[str, int]] = {}

    def get(self, ref: ArtifactRef, kind: type) -> Any:
        """Return an input; see `Lake.get`."""
        return self.get_each([ref], kind)[0]

    def get_each(self, refs: Sequence[ArtifactRef], kind: type) -> list[Any]:
        """Return several inputs of one type in order; see `Lake.get_each`."""
        found = self.lake.read_each(refs, kind)
        self.use(Input.of(manifest) for _, manifest in found)
        return [artifact for artifact, _ in found]

    def scan(self, refs: Sequence[ArtifactRef]) -> pl.LazyFrame:
        """Return the frames of several inputs as one lazy frame; see `Lake.scan`."""
        frame, manifests = self.lake.scan_each(refs)
        self.use(map(Input.of, manifests))
        return frame

    def newest(self, asset: str, partitions: Sequence[str] | None = None) -> dict[str, ArtifactRef]:
        """Return the artifacts that are current for this step, by partition; see `Manifests.newest`."""
        return self.lake.newest(asset, partitions, runs=self.runs)

    def use(self, inputs: Iterable[Input], *, partition: str | None = None) -> None:
        """Record inputs of this step; if `partition` is given, of that partition's output alone."""
        known = self._inputs if partition is None else self._inputs_of.setdefault(partition, {})
        for it in inputs:
            known.pop(it.ref, None)  # the last read comes last
            known[it.ref] = it

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs of all outputs, each once, in a stable order."""
        return tuple(sorted(self._inputs.values(), key=lambda it: _place(it.ref)))

    def inputs_of(self, partition: str) -> tuple[Input, ...]:
        """Return the inputs of one partition's output alone."""
        return tuple(self._inputs_of.get(partition, {}).values())

    @property
    def refs(self) -> tuple[ArtifactRef, ...]:
        """The artifacts of `inputs`."""
        return tuple(it.ref for it in self.inputs)

    def versions(self) -> dict[str, str]:
        """Return the version last read of each input, as `asset` or `asset/partition`."""
        return {f"{ref.asset}/{ref.partition}" if ref.partition else ref.asset: ref.version for ref in self._inputs}

    def days_of(self, asset: str) -> list[str]:
        """Return the partitions of an asset that are inputs."""
        return [ref.partition for ref in self._inputs if ref.asset == asset and ref.partition]

    def note(self, **facts: JsonValue) -> None:
        """Add facts to the parameters of the outputs' manifests."""
        self.notes |= facts

    def note_missing(self, days: Days) -> None:
        """Record missing days, by asset, of the inputs."""
        self._missing.append(days)

    @property
    def missing_days(self) -> Days:
        """The recorded missing days, by asset."""
        return merge_days(self._missing)

    def base_on(self, asset: str, numbers: Mapping[str, int]) -> None:
        """Record, by partition, the number of the publication that the next one of an asset must follow."""
        self._based_on[asset] = numbers

    def based_on(self, asset: str, partition: str) -> int | None:
        """Return the number of the publication that an output must follow; None if it may follow any."""
        return self._based_on.get(asset, {}).get(partition)

    def origin(self, inputs: Iterable[Input] = (), **facts: Any) -> Origin:
        """Return the origin of an artifact that this step writes."""
        used = [*inputs]
        return Origin(
            inputs=tuple(it.ref for it in used),
            input_numbers={it.ref: it.number for it in used},
            run_id=self.step.run_id if self.step else None,
            step=self.step.name if self.step else None,
            retry_number=self.step.retry_number if self.step else None,
            **facts,
        )

    def now(self) -> datetime:
        """Return the recorded start of the step, which a replay repeats; the current time outside of a run."""
        return self.recorded_at or self.lake.now()

    def begin_body(self) -> None:
        """Measure the seconds of the body from now on."""
        self.body_began = time.perf_counter()

    def body_seconds(self) -> float:
        """Return the seconds since the body began."""
        return time.perf_counter() - self.body_began


def _place(ref: ArtifactRef) -> tuple[str, str, str]:
    return ref.asset, ref.partition or "", ref.version
