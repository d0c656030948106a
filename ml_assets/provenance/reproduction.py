"""Compares a model that was trained again from its manifest with the original.

Not here: the code, the environment and the runs (see `ml_assets.cli.reproduce`).
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import JsonValue

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.json_record import Record
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, Manifest, SafePath, Version
from ml_assets.lake.scratch import ScratchLake
from ml_assets.lake.sealing import RESTORE, seal, unseal
from ml_assets.lake.store import Lake
from ml_assets.provenance.comparison import artifact_differences
from ml_assets.provenance.lineage import Key, Lineage, Node, backward, key_of, ref_of

From = Literal["training_set", "raw"]

REPRODUCTIONS: Final = "reproductions"
TOLERANCE: Final = 0.01
"""The allowed relative difference of the deciding metric, for a model whose training is not exact."""

_SHOWN = 3


class AssetOutcome(Record):
    """The comparison of one asset: the number of equal artifacts, and the differences of the first few others."""

    asset: SafePath
    artifacts: int
    equal: int
    original_version: Version | None = None
    reproduced_version: Version | None = None
    differences: tuple[str, ...] = ()


class Closeness(Record):
    """How close a model is that cannot be identical, because it was trained on a GPU or by several workers.

    Attributes:
        metric: the compared metric, on the test rows of its training set.
        tolerance: the allowed difference, as a share of the original value.
    """

    trained_on: str
    metric: str
    original: float
    reproduced: float
    tolerance: float
    is_within_tolerance: bool

    @classmethod
    def of(cls, trained_on: str, metric: str, *, original: float, reproduced: float) -> "Closeness":
        """Return the comparison of two values."""
        is_within = abs(reproduced - original) <= TOLERANCE * abs(original)
        return cls(
            trained_on=trained_on, metric=metric, original=original, reproduced=reproduced, tolerance=TOLERANCE,
            is_within_tolerance=is_within,
        )  # fmt: skip

    @property
    def sentence(self) -> str:
        """The claim with its figures."""
        return (
            f"trained on {self.trained_on}, which never results in identical bytes: {self.metric} is "
            f"{self.reproduced:.5f}, was {self.original:.5f}; expected within {self.tolerance:.0%}"
        )


class ReproductionVerdict(Record):
    """Whether a model could be reproduced.

    Attributes:
        start: what it was rebuilt from: the inputs of its training set, or the raw tables.
        closeness: how close it is, if it need not be identical.
    """

    model: SafePath
    version: Version
    start: From
    is_equal: bool
    outcomes: tuple[AssetOutcome, ...]
    changes: tuple[str, ...] = ()
    environment: str
    git_commit: str | None = None
    git_is_dirty: bool | None = None
    seconds: float
    decided_at: datetime
    closeness: Closeness | None = None

    @property
    def is_reproduced(self) -> bool:
        """Whether the claim holds: equal bytes, or a difference within the tolerance."""
        return self.is_equal or (self.closeness is not None and self.closeness.is_within_tolerance)


@dataclass(frozen=True)
class Recorded:
    """How a model was trained, from its manifests and those of everything upstream of it."""

    model: str
    ref: ArtifactRef
    lineage: Lineage

    @classmethod
    def of(cls, lake: Lake, model: str, ref: ArtifactRef, start: From) -> "Recorded":
        """Read how a model was trained.

        Raises:
            DataError: a required input is missing, corrupt or removed.
        """
        recorded = cls(model, ref, backward(lake, [ref]))
        recorded._check({key_of(ref)})
        if start == "raw":
            recorded._check(recorded.lineage.nodes.keys())
        else:
            recorded._check(key_of(one) for one in recorded.manifest.inputs)
            recorded._check(key_of(one) for one in recorded.stage("training_set").inputs)
        return recorded

    def _check(self, keys: Iterable[Key]) -> None:
        """Refuse artifacts that cannot be materialized again."""
        gone = [node for key in keys if (node := self.lineage.nodes[key]).state != "present"]
        problems = [
            f"{ref_of(node.key)} is {node.state}{f' ({node.problem})' if node.problem else ''}" for node in gone
        ]
        if problems:
            more = f"; and {len(problems) - _SHOWN} more." if len(problems) > _SHOWN else "."
            raise DataError(f"{self.ref} cannot be trained again: {'; '.join(problems[:_SHOWN])}{more}")

    @property
    def manifest(self) -> Manifest:
        """The manifest of the model itself."""
        return self._last(self.ref)

    def stage(self, name: str) -> Manifest:
        """Return the manifest of a stage's artifact that the model was built from.

        Raises:
            DataError: the model was not built from exactly one.
        """
        found = [ref for ref in self.manifest.inputs if ref.asset == f"{self.model}/{name}"]
        if len(found) != 1:
            raise DataError(f"{self.ref} was built from {len(found)} versions of {self.model}/{name}; expected one.")
        return self._last(found[0])

    def inexact(self, start: From) -> str | None:
        """Return what makes the training inexact; None if bytes must be equal."""
        causes = [self._inexact_training(), self._inexact_search() if start == "raw" else None]
        return " and ".join(one for one in causes if one) or None

    def _inexact_search(self) -> str | None:
        """Return whether several workers searched. Which of them ends a trial first decides what is tried next."""
        workers = self.stage("tuning").parameters["workers"]
        return None if workers == 1 else f"a search by {workers} workers"

    def _inexact_training(self) -> str | None:
        made = self.manifest.parameters
        training = made.get("training")
        if not isinstance(training, Mapping):
            return None
        device, workers = made.get("trained_on", training["device"]), training["workers"]
        causes = [] if device == "cpu" else [f"device '{device}'"]
        causes += [] if workers == 1 else [f"{workers} workers"]
        return " and ".join(causes) or None

    def _last(self, ref: ArtifactRef) -> Manifest:
        node = self.lineage.nodes[key_of(ref)]
        if node.last is None:
            raise DataError(f"{ref} is {node.state}: {node.problem}.")
        return node.last

    def _of(self, asset: str) -> Iterator[Node]:
        return (node for node in self.lineage.nodes.values() if node.asset == asset)

    @property
    def days(self) -> tuple[str, str]:
        """The first and last day of the features that it was trained on."""
        days = sorted(node.key[1] for node in self._of(f"{self.model}/features"))
        return days[0], days[-1]

    def parameters(self) -> dict[str, Mapping[str, JsonValue]]:
        """Return the recorded parameters of the model's own stages, by asset."""
        mine = [node.last for node in self.lineage.nodes.values() if node.asset.startswith(f"{self.model}/")]
        return {made.asset: made.parameters for made in mine if made is not None}

    def code_versions(self, assets: Sequence[str]) -> dict[str, str | None]:
        """Return the code version of each asset, of its last partition if it has several."""
        nodes = sorted((it for it in self.lineage.nodes.values() if it.asset in assets), key=_place_in_order)
        return {made.asset: made.code_version for node in nodes if (made := node.last)}

    def remade(self, start: From) -> list[str]:
        """Return the names of the assets that are materialized again."""
        if start == "training_set":
            return [f"{self.model}/training_set", f"{self.model}/model"]
        return sorted({node.asset for node in self.lineage.nodes.values() if not _is_given(node.asset)})

    def scratch(self, source: Lake, start: From, folder: Path) -> ScratchLake:
        """Return a scratch lake with the recorded inputs, and without what is materialized again."""
        at = self.manifest.created_at
        hidden = {node.asset for node in self.lineage.nodes.values()}
        return ScratchLake(folder, source, at=at, pins=self._pins(start), hidden=hidden)

    def _pins(self, start: From) -> list[ArtifactRef]:
        if start == "training_set":
            return [*self.stage("training_set").inputs, self.stage("tuning").ref]
        nodes = sorted((node for node in self.lineage.nodes.values() if _is_given(node.asset)), key=_place_in_order)
        return [ref_of(node.key) for node in nodes]  # newest of raw rows, every of released rows


def _place_in_order(node: Node) -> tuple[str, int]:
    return node.key[1], node.last.number if node.last else 0


def _is_given(asset: str) -> bool:
    """Return whether an asset is a starting point: raw rows, or a person's decision about them."""
    return asset.startswith("raw/") or asset.endswith("__released")


def parameter_differences(
    then: Mapping[str, Mapping[str, JsonValue]], now: Mapping[str, Mapping[str, JsonValue]]
) -> list[str]:
    """Return the declared parameters that have changed, a sentence each.

    Recorded parameters include run configuration and notes of the step. Both are by asset.
    """
    return [
        f"{asset}: '{name}' was {then[asset].get(name)}, is declared as {value}"
        for asset in sorted(then.keys() & now.keys())
        for name, value in now[asset].items()
        if then[asset].get(name) != value
    ]


def outcomes(recorded: Recorded, source: Lake, lake: ScratchLake) -> tuple[AssetOutcome, ...]:
    """Return the comparison of new and recorded artifacts, in the order in which the assets were materialized."""
    then: dict[tuple[str, str], list[Node]] = {}
    for node in recorded.lineage.nodes.values():
        then.setdefault(node.key[:2], []).append(node)
    found = []
    for asset in dict.fromkeys(name for name, _ in lake.made):
        mine = {key: ref for (name, key), ref in lake.made.items() if name == asset and (asset, key) in then}
        if not mine:
            continue
        problems = {}
        for key, ref in mine.items():
            was = max(then[asset, key], key=_place_in_order).last
            if was is None or ref.version in {node.key[2] for node in then[asset, key]}:
                continue
            if found_other := artifact_differences((lake, lake.manifest(ref)), (source, was)):
                problems[key] = [f"{key}: {one}" if key else one for one in found_other]
        alone = next(iter(mine.values())) if len(mine) == 1 else None
        found.append(
            AssetOutcome(
                asset=asset,
                artifacts=len(mine),
                equal=len(mine) - len(problems),
                original_version=then[asset, alone.partition or ""][-1].key[2] if alone else None,
                reproduced_version=alone.version if alone else None,
                differences=tuple(one for lines in [*problems.values()][:_SHOWN] for one in lines),
            )
        )
    return tuple(found)


def last_verdict(lake: Lake, model: str, version: str) -> ReproductionVerdict | None:
    """Return the newest verdict on a version of a model; None if it was never reproduced.

    Raises:
        CorruptArtifactError: the verdict is damaged, or another model's.
    """
    folder = lake.path(REPRODUCTIONS, model, version)
    names = sorted(name for name in lake.names(folder) if name.endswith(".json"))
    if not names:
        return None
    path = f"{folder}/{names[-1]}"
    verdict = unseal(
        lake.read(path, limit=MOST_BYTES), ReproductionVerdict, where=path, what="a verdict of `ml-assets reproduce`"
    )
    if (verdict.model, verdict.version) != (model, version):
        raise CorruptArtifactError(f"{path} is the verdict on {verdict.model}@{verdict.version}. {RESTORE}")
    return verdict


def store_verdict(lake: Lake, verdict: ReproductionVerdict) -> str:
    """Store a verdict in the lake, beside earlier ones, and return its path.

    Raises:
        LakeError: the lake cannot be written.
    """
    name = f"{verdict.decided_at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.json"
    path = lake.path(REPRODUCTIONS, verdict.model, verdict.version, name)
    lake.create(path, seal(verdict))
    return path
