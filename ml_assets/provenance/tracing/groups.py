"""Groups a lineage by asset, with days as ranges and the differences between them.

A year has thousands of artifacts but a dozen assets. Not here: output (see `ml_assets.provenance.tracing.text` and
`ml_assets.provenance.tracing.page`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ml_assets.contracts.periods import DAILY, Calendar, is_key
from ml_assets.contracts.words import counted
from ml_assets.lake.grains import calendar_in_manifest
from ml_assets.lake.manifest import Manifest
from ml_assets.provenance.lineage import Key, Lineage, Node

_FEW = 3

Fact = Callable[[Manifest], str | None]

DIFFERENCES: Final[Mapping[str, Fact]] = {
    "code": lambda manifest: manifest.code_version,
    "commit": lambda manifest: commit_of(manifest),  # noqa: PLW0108 - it is defined below
    "environment": lambda manifest: manifest.environment,
    "run": lambda manifest: manifest.run_id,
}
"""The facts in which the days of an asset may differ, besides their content."""


@dataclass(frozen=True)
class ArtifactGroup:
    """The artifacts of one asset in a lineage.

    Attributes:
        nodes: by partition, and by time within it.
        next: the next assets of the lineage: inputs or, forward, dependents.
        reads_itself: whether some were built from earlier ones of the same asset.
    """

    asset: str
    nodes: tuple[Node, ...]
    next: tuple[str, ...]
    reads_itself: bool

    @property
    def partitions(self) -> list[str]:
        """The distinct partitions, in order; ('',) if the asset has none."""
        return [*dict.fromkeys(node.key[1] for node in self.nodes)]

    @property
    def rows(self) -> int | None:
        """The rows of the newest version of each partition; None if unknown."""
        newest = {node.key[1]: node.last.rows for node in self.nodes if node.last is not None}
        known = [rows for rows in newest.values() if rows is not None]
        return sum(known) if known else None

    @property
    def what(self) -> str:
        """The versions and partitions in one line."""
        return _which(self.nodes)

    @property
    def bad(self) -> list[Node]:
        """The artifacts that are removed, missing or corrupt."""
        return [node for node in self.nodes if node.state != "present"]

    def by(self, fact: Fact) -> dict[str, list[Node]]:
        """Return the artifacts by a fact of their newest relevant manifest; '' if it is not recorded."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.last is not None:
                found.setdefault(fact(node.last) or "", []).append(node)
        return found

    def differences(self) -> dict[str, dict[str, list[Node]]]:
        """Return the facts in which its artifacts differ, with the artifacts of each value."""
        by_fact = {name: self.by(fact) for name, fact in DIFFERENCES.items()}
        return {name: values for name, values in by_fact.items() if len(values) > 1}


def groups(lineage: Lineage) -> dict[str, ArtifactGroup]:
    """Return the groups of a lineage, by asset."""
    nodes: dict[str, list[Node]] = {}
    edges: dict[str, dict[str, None]] = {}
    for node in lineage.nodes.values():
        nodes.setdefault(node.asset, []).append(node)
        for asset in {key[0] for key in lineage.inputs(node)}:
            one, other = (asset, node.asset) if lineage.is_forward else (node.asset, asset)
            edges.setdefault(one, {})[other] = None
    return {
        asset: ArtifactGroup(
            asset,
            tuple(sorted(them, key=_by_partition_and_number)),
            tuple(sorted(edges.get(asset, {}).keys() - {asset})),
            asset in edges.get(asset, {}),
        )
        for asset, them in sorted(nodes.items())
    }


def commit_of(manifest: Manifest) -> str | None:
    """Return the commit of an artifact, and whether files differed from it."""
    if manifest.git_commit is None:
        return None
    return f"{manifest.git_commit[:12]}{' (dirty)' if manifest.git_is_dirty else ''}"


def _by_partition_and_number(node: Node) -> tuple[str, int, str]:
    return node.key[1], node.last.number if node.last else 0, node.key[2]


def _which(nodes: Sequence[Node]) -> str:
    """Return partitions and versions in a few words: `2013-01-01 … 2013-02-10, 41 days, 45 versions`."""
    partitions = [*dict.fromkeys(node.key[1] for node in nodes)]
    if len(nodes) == 1:
        return f"{partitions[0]} @{nodes[0].key[2][:12]}".lstrip()
    if partitions == [""]:
        return f"{len(nodes):,} versions"
    calendar = calendar_of_nodes(nodes)
    count = counted(len(partitions), calendar.grain if all(map(is_key, partitions)) else "partition")
    return f"{ranges(partitions, calendar)}, {count}" + (
        f", {len(nodes):,} versions" if len(nodes) > len(partitions) else ""
    )


def calendar_of_nodes(nodes: Iterable[Node]) -> Calendar:
    """Return the calendar of the partitions of an asset, in UTC."""
    return next((calendar_in_manifest(node.last.parameters) for node in nodes if node.last is not None), DAILY)


def ranges(partitions: Iterable[str], calendar: Calendar = DAILY) -> str:
    """Return partitions as ranges of days, such as `2013-01-01 … 2013-01-31, 2013-02-03`; at most a few."""
    names = sorted(set(partitions))
    found: list[list[str]] = []
    for name in names:
        if found and _follows(found[-1][-1], name, calendar):
            found[-1].append(name)
        else:
            found.append([name])
    if len(found) > _FEW:
        return f"{names[0]} … {names[-1]} with {len(found) - 1} gaps"
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} … {run[-1]}" for run in found)


def _follows(one: str, other: str, calendar: Calendar) -> bool:
    return is_key(one) and is_key(other) and other == calendar.moved(one, 1)


def whose(nodes: Sequence[Node], among: Mapping[Key, Node]) -> str:
    """Return a description of some artifacts: assets, with partitions if not all of them are included."""
    if len(nodes) == len(among):
        return "all artifacts"
    everything, by_asset = Counter(key[0] for key in among), dict[str, list[str]]()
    calendar = calendar_of_nodes(nodes)
    for node in nodes:
        by_asset.setdefault(node.asset, []).append(node.key[1] or f"@{node.key[2][:12]}")
    return "; ".join(
        asset if len(them) == everything[asset] else f"{asset} {ranges(them, calendar)}"
        for asset, them in sorted(by_asset.items())
    )
