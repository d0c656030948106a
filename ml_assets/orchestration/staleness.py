"""Finds what is out of date: artifacts whose code, parameters or inputs are no longer the current ones.

Not here: storage of artifacts (see `ml_assets.lake.store`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import dagster as dg
from pydantic import JsonValue

from ml_assets.adapters.dagster import AssetGraph
from ml_assets.contracts.periods import AFTER_ALL_KEYS, Calendar
from ml_assets.dagster_storage.code_versions import code_parts
from ml_assets.lake.days import ALLOW_GAPS, OPTIONAL_LOOK_BACK, Days, merge_days
from ml_assets.lake.grains import is_of_grain
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.partitions import calendar_of
from ml_assets.lake.request_files import names_of_files
from ml_assets.lake.store import Lake

LOOK_BACK = "ml_assets/look_back_days"

Reason = Literal["missing", "code", "parameters", "inputs", "training", "parent"]
"""Why an artifact is out of date. `code` is its own code or the rules that checked it. `training` means that only the

code that trained or evaluated the champion has changed, and `parent` that only an input is out of date.
"""
Reasons = dict[dg.AssetKey, dict[str, Reason]]
"""By asset, upstream first, the partitions that are out of date, each with the reason."""
_NO_CHANGE: Final[frozenset[Reason | None]] = frozenset({None, "training", "parent"})
_RULES = "contract"
"""The parameter that holds the digest of the rules. Changed rules may reject or quarantine other rows."""


@dataclass(frozen=True)
class Wanted:
    """The partitions that should be up to date ('' for an asset without partitions), and facts to compare with.

    Attributes:
        partitions: by asset, the partition keys.
        parameters: by asset, what its manifests must contain besides the declared parameters: run configuration, the
            digest of a source file, the champion.
        up_to: by asset, the last partition of its inputs that counts; all if absent.
        beside: by asset and partition, required inputs that are not assets: rows that a person released.
        files: by asset and partition, the files of the request log that must have been read.
        keeps_champion: whether the artifacts of the current champion count as up to date after a change of training
            code, which only a training can resolve.
    """

    partitions: Mapping[dg.AssetKey, Sequence[str]]
    parameters: Mapping[dg.AssetKey, Mapping[str, JsonValue]]
    up_to: Mapping[dg.AssetKey, str] = field(default_factory=dict)
    beside: Mapping[dg.AssetKey, Mapping[str, Sequence[ArtifactRef]]] = field(default_factory=dict)
    files: Mapping[dg.AssetKey, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    keeps_champion: bool = False


def out_of_date(graph: AssetGraph, lake: Lake, wanted: Wanted) -> Reasons:
    """Return the partitions to materialize and why, by asset, upstream first.

    An artifact is up to date if it was materialized with the current code and parameters, from inputs that are current
    and up to date themselves. This is determined from the lake's manifests alone.
    """
    return LakeView(graph, lake, wanted).out_of_date()


class LakeView:
    """A view of a lake that reads each manifest once."""

    def __init__(self, graph: AssetGraph, lake: Lake, wanted: Wanted) -> None:
        self.graph = graph
        self.lake = lake
        self.wanted = wanted
        self._current: dict[dg.AssetKey, dict[str, ArtifactRef]] = {}
        self._manifests: dict[ArtifactRef, Manifest] = {}

    def out_of_date(self) -> Reasons:
        """Return the wanted partitions that are out of date and why."""
        stale: Reasons = {}
        for key in (it for it in self.graph.toposorted_asset_keys if it in self.wanted.partitions):
            self._read_wanted(key)
            found = {
                partition: why
                for partition in self.wanted.partitions[key]
                if (why := self._why_stale(key, partition, stale=stale))
            }
            if found:
                stale[key] = found
        return stale

    def newest(self, key: dg.AssetKey) -> Mapping[str, ArtifactRef]:
        """Return the current artifacts of an asset, for the wanted partitions and those that they read."""
        if key not in self._current:
            keys = self._reach(key) if self.graph.get(key).is_partitioned else [""]
            found = self.lake.newest(key.to_user_string(), keys)
            has_form = calendar_in(self.graph, key).has_form if self.graph.get(key).is_partitioned else (lambda _: True)
            self._current[key] = {partition: ref for partition, ref in found.items() if has_form(partition)}
        return self._current[key]

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Return an artifact's newest manifest."""
        if ref not in self._manifests:
            self._manifests[ref] = self.lake.manifest(ref)
        return self._manifests[ref]

    def _read_wanted(self, key: dg.AssetKey) -> None:
        """Read the manifests of an asset's wanted partitions together."""
        newest = self.newest(key)
        refs = [newest[partition] for partition in self.wanted.partitions[key] if partition in newest]
        self._manifests |= self.lake.manifest_of_each([ref for ref in refs if ref not in self._manifests])

    def parameters(self, key: dg.AssetKey) -> dict[str, JsonValue]:
        """Return the required parameters in an asset's manifests: the declared ones and those in `Wanted`."""
        declared = self.graph.get(key).metadata.get("ml_assets/parameters")
        parameters = declared.data if isinstance(declared, dg.JsonMetadataValue) else {}
        return {**(parameters if isinstance(parameters, Mapping) else {}), **self.wanted.parameters.get(key, {})}

    def reads(self, key: dg.AssetKey, partition: str) -> Iterator[tuple[dg.AssetKey, str]]:
        """Yield what a partition reads, whether it exists or not. If it reads all, yield the existing ones."""
        last = self.wanted.up_to.get(key)
        for parent in loaded_parents(self.graph, key):
            keys = reads_of(self.graph, key, parent, partition)
            for name in self.newest(parent) if keys is None else keys:
                if last is None or name <= last:
                    yield parent, name

    def _reach(self, key: dg.AssetKey) -> list[str] | None:
        """Return the partitions of an asset that are wanted, or read by a wanted one; None for all existing ones."""
        found = set(self.wanted.partitions.get(key, ()))
        for child in self.graph.get(key).child_keys & self.wanted.partitions.keys():
            for partition in self.wanted.partitions[child]:
                keys = reads_of(self.graph, child, key, partition)
                if keys is None:
                    return None
                found.update(keys)
        return sorted(found)

    def _why_stale(self, key: dg.AssetKey, partition: str, *, stale: Reasons) -> Reason | None:
        ref = self.newest(key).get(partition)
        if ref is None:
            return "missing"
        manifest = self.manifest(ref)
        files, read = self.wanted.files.get(key, {}).get(partition), names_of_files(manifest)
        if files is not None and not read.issubset(files):
            return None  # garbage collection has removed files, so it cannot be built again
        why = self._why_changed(key, partition, manifest, stale=stale)
        return "inputs" if why in _NO_CHANGE and not read.issuperset(files or ()) else why

    def _why_changed(self, key: dg.AssetKey, partition: str, manifest: Manifest, *, stale: Reasons) -> Reason | None:
        (own, behind), (wanted_own, wanted_behind) = (
            code_parts(it) for it in (manifest.code_version, self.graph.get(key).code_version)
        )
        if own != wanted_own:
            return "code"
        differing = {name for name, value in self.parameters(key).items() if manifest.parameters.get(name) != value}
        if partition and not is_of_grain(manifest.parameters, calendar_in(self.graph, key).grain):
            differing.add("grain")
        if differing:
            return "code" if differing == {_RULES} else "parameters"
        used = set(manifest.inputs)
        # A missing day may have arrived without a change of content between it and this artifact.
        missed = manifest.missing_days if partition else {}
        is_marked_right = not missed or missed == self._missing_days(key, partition)
        if not (is_marked_right and used.issuperset(self.wanted.beside.get(key, {}).get(partition, ()))):
            return "inputs"
        is_late = False
        for parent, name in self.reads(key, partition):
            current = self.newest(parent).get(name)
            if current is not None and current not in used:
                return "inputs"
            is_late = is_late or name in stale.get(parent, {})
        is_trained_otherwise = behind != wanted_behind and not self.wanted.keeps_champion
        return "training" if is_trained_otherwise else "parent" if is_late else None

    def _missing_days(self, key: dg.AssetKey, partition: str) -> dict[str, tuple[str, ...]]:
        """Return the days that are missing now among the direct and indirect inputs of a partition."""
        found: list[Days] = []
        for parent in loaded_parents(self.graph, key):
            names, there = required_of(self.graph, key, parent, partition), self.newest(parent)
            found.append({parent.to_user_string(): tuple(name for name in names if name not in there)})
            found += [self.manifest(there[name]).missing_days for name in names if name in there]
        return merge_days(found)


def first_to_make(stale: Mapping[dg.AssetKey, Mapping[str, Reason]]) -> dict[dg.AssetKey, Sequence[str]]:
    """Return what to materialize before checking again what else is out of date.

    If only code or rules have changed, the content often stays the same, and then its readers stay up to date. So they
    wait. Any other change makes the readers out of date too, so everything is materialized at once.
    """
    later: set[Reason] = {"training", "parent"}
    own = {key: [partition for partition, why in found.items() if why not in later] for key, found in stale.items()}
    reasons = {why for found in stale.values() for why in found.values()}
    if reasons - later == {"code"} and reasons != {"code"}:
        return {key: partitions for key, partitions in own.items() if partitions}
    return {key: [*found] for key, found in stale.items()}


def reads_of(graph: AssetGraph, child: dg.AssetKey, parent: dg.AssetKey, partition: str) -> list[str] | None:
    """Return the partitions of a parent that one partition of a child reads; None for all existing ones."""
    if not graph.get(parent).is_partitioned:
        return [""]
    if not partition:
        return None
    first, last = window_of(graph, child, parent)
    return _periods(partition, first, last, calendar_in(graph, parent))


def required_of(graph: AssetGraph, key: dg.AssetKey, parent: dg.AssetKey, partition: str) -> list[str]:
    """Return the partitions of a parent without which one partition of an asset is incomplete.

    Days after its own may still arrive, and a day that is not declared is never missing.
    """
    keys = reads_of(graph, key, parent, partition) or []
    declared = declared_keys(graph, parent)
    first, last = ("", partition) if declared is None else (declared[0], min(partition, declared[1]))
    first = partition if OPTIONAL_LOOK_BACK in graph.get(key).metadata else first
    return [it for it in keys if first <= it <= last]


def asset_allows_gaps(graph: AssetGraph, key: dg.AssetKey) -> bool:
    """Return whether an asset may be materialized although earlier days of its inputs are missing."""
    declared = graph.get(key).metadata.get(ALLOW_GAPS, False)
    return bool(getattr(declared, "value", declared))


def first_key(graph: AssetGraph, key: dg.AssetKey) -> str | None:
    """Return the first declared partition of an asset; None if it has no days."""
    declared = declared_keys(graph, key)
    return None if declared is None else declared[0]


def declared_keys(graph: AssetGraph, key: dg.AssetKey) -> tuple[str, str] | None:
    """Return an asset's first and last declared partition; None if it has no days.

    Days without an end have no last one: a text after all keys.
    """
    definition = graph.get(key).partitions_def
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return None
    calendar, end = calendar_of(definition), definition.end
    last = AFTER_ALL_KEYS if end is None else calendar.moved(calendar.key_of(_begin_of(end)), -1)
    return calendar.key_of(_begin_of(definition.start)), last


def _begin_of(window: datetime) -> datetime:
    """Return the begin of a partition without its zone: days of its zone, hours of UTC."""
    return window.replace(tzinfo=None)


def calendar_in(graph: AssetGraph, key: dg.AssetKey) -> Calendar:
    """Return the calendar of an asset's partitions."""
    return calendar_of(graph.get(key).partitions_def)


def readers_of(graph: AssetGraph, child: dg.AssetKey, parent: dg.AssetKey, partition: str) -> list[str] | None:
    """Return the partitions of a child that read one partition of a parent; None for all existing ones."""
    if not graph.get(child).is_partitioned:
        return [""]
    if not partition:
        return None
    first, last = window_of(graph, child, parent)
    return _periods(partition, -last, -first, calendar_in(graph, child))


def window_of(graph: AssetGraph, child: dg.AssetKey, parent: dg.AssetKey) -> tuple[int, int]:
    """Return the first and the last period that a child reads of a parent, as offsets from its own period."""
    node = graph.get(child)
    mapping = node.partition_mappings.get(parent)
    exact = node.metadata.get(LOOK_BACK)
    if isinstance(exact, dg.JsonMetadataValue) and isinstance(exact.data, Mapping):
        return -calendar_in(graph, child).look_back(int(exact.data[parent.to_user_string()])), 0
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        return mapping.start_offset, mapping.end_offset
    return 0, 0


def _periods(partition: str, first: int, last: int, calendar: Calendar) -> list[str]:
    return calendar.between(calendar.moved(partition, first), calendar.moved(partition, last))


def with_upstream(graph: AssetGraph, keys: Iterable[dg.AssetKey]) -> set[dg.AssetKey]:
    """Return assets with everything upstream of them."""
    found = {*keys}
    for key in reversed(graph.toposorted_asset_keys):
        found |= graph.get(key).parent_keys if key in found else set()
    return found


def upstream_of(graph: AssetGraph, wanted: Mapping[dg.AssetKey, Sequence[str]]) -> dict[dg.AssetKey, list[str]]:
    """Return what the wanted partitions are built from, back to the sources, upstream first, without themselves."""
    needed: dict[dg.AssetKey, set[str]] = {key: set(keys) for key, keys in wanted.items()}
    for key in reversed(graph.toposorted_asset_keys):
        for parent in graph.get(key).parent_keys if key in needed else ():
            definition = graph.get(parent).partitions_def
            known = {""} if definition is None else set(definition.get_partition_keys())
            for partition in needed[key]:
                reads = reads_of(graph, key, parent, partition) or known
                needed.setdefault(parent, set()).update(known.intersection(reads))
    return {key: sorted(needed[key]) for key in graph.toposorted_asset_keys if key in needed and key not in wanted}


def loaded_parents(graph: AssetGraph, key: dg.AssetKey) -> list[dg.AssetKey]:
    """Return the parents whose content an asset reads. Other parents only determine the order."""
    node = graph.get(key)
    if "dbt" in node.kinds or not node.is_executable:  # its inputs are not known one by one
        return sorted(node.parent_keys)
    inputs = node.assets_def.keys_by_input_name
    types = node.assets_def.node_def.input_dict
    return sorted(parent for name, parent in inputs.items() if not types[name].dagster_type.is_nothing)
