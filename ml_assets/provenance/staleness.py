"""What is out of date: artifacts whose code, parameters or inputs are no longer the current ones.

How artifacts are stored stays out; see `resources.lake`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph  # what Definitions.resolve_asset_graph gives
from pydantic import JsonValue

from resources.lake import Lake
from resources.manifest import ArtifactRef

LOOK_BACK = "ml_assets/look_back_days"

Reason = Literal["missing", "code", "parameters", "inputs", "parent"]
"""Why an artifact is out of date; `parent`: nothing but that something it reads is."""


@dataclass(frozen=True)
class Wanted:
    """What should be up to date: partitions of assets ('' where an asset has none), and facts of this moment.

    Attributes:
        partitions: by asset, the partition keys.
        parameters: by asset, what its manifests must say beside the declared parameters: run configuration, the
            digest of a source file, the champion.
        up_to: by asset, the last partition that counts of what it reads; absent means all.
        beside: by asset and partition, artifacts that are no assets of their own and must be among its inputs: rows
            that a person released.
    """

    partitions: Mapping[dg.AssetKey, Sequence[str]]
    parameters: Mapping[dg.AssetKey, Mapping[str, JsonValue]]
    up_to: Mapping[dg.AssetKey, str] = field(default_factory=dict)
    beside: Mapping[dg.AssetKey, Mapping[str, Sequence[ArtifactRef]]] = field(default_factory=dict)


def out_of_date(graph: AssetGraph, lake: Lake, wanted: Wanted) -> dict[dg.AssetKey, dict[str, Reason]]:
    """Return the partitions to materialize and why, by asset, upstream first.

    An artifact is up to date if it was made by the code there is, with the parameters there are, from inputs that are
    still the current ones and are not out of date themselves. It is found from the lake's manifests alone.
    """
    current: dict[dg.AssetKey, dict[str, ArtifactRef]] = {}

    def newest(key: dg.AssetKey) -> dict[str, ArtifactRef]:
        if key not in current:
            node = graph.get(key)
            keys = None if node.is_partitioned else [""]
            current[key] = lake.newest(key.to_user_string(), wanted.partitions.get(key, keys))
            if key in wanted.partitions and keys is None:
                reach = _reach(graph, key, wanted)
                current[key] |= lake.newest(key.to_user_string(), [k for k in reach if k not in current[key]])
        return current[key]

    stale: dict[dg.AssetKey, dict[str, Reason]] = {}
    for key in graph.toposorted_asset_keys:
        found = {
            partition: why
            for partition in wanted.partitions.get(key, ())
            if (why := _why_stale(graph, lake, key, partition, wanted=wanted, newest=newest, stale=stale))
        }
        if found:
            stale[key] = found
    return stale


def first_to_make(stale: Mapping[dg.AssetKey, Mapping[str, Reason]]) -> dict[dg.AssetKey, Sequence[str]]:
    """Return what to materialize before looking again at what else is out of date.

    Where nothing but code has changed, the same content often comes out, and then what is made from it stays as it is:
    so the rest waits. Anything else that has changed will make its readers out of date, so all goes at once.
    """
    own = {key: [partition for partition, why in found.items() if why != "parent"] for key, found in stale.items()}
    if {why for found in stale.values() for why in found.values()} == {"code", "parent"}:
        return {key: partitions for key, partitions in own.items() if partitions}
    return {key: [*found] for key, found in stale.items()}


def _reach(graph: AssetGraph, key: dg.AssetKey, wanted: Wanted) -> list[str]:
    """Return the partitions of an asset that anything wanted reads."""
    found: set[str] = set()
    for child in graph.get(key).child_keys & wanted.partitions.keys():
        for partition in wanted.partitions[child]:
            found.update(reads_of(graph, child, key, partition) or [])
    return sorted(found)


def _why_stale(
    graph: AssetGraph,
    lake: Lake,
    key: dg.AssetKey,
    partition: str,
    *,
    wanted: Wanted,
    newest: Callable[[dg.AssetKey], Mapping[str, ArtifactRef]],
    stale: Mapping[dg.AssetKey, Mapping[str, Reason]],
) -> Reason | None:
    ref = newest(key).get(partition)
    if ref is None:
        return "missing"
    manifest = lake.manifest(ref)
    node = graph.get(key)
    if manifest.code_version != node.code_version:
        return "code"
    declared = node.metadata.get("ml_assets/parameters")
    parameters = declared.data if isinstance(declared, dg.JsonMetadataValue) else {}
    expected = {**(parameters if isinstance(parameters, Mapping) else {}), **wanted.parameters.get(key, {})}
    if any(manifest.parameters.get(name) != value for name, value in expected.items()):
        return "parameters"
    used = set(manifest.inputs)
    if not used.issuperset(wanted.beside.get(key, {}).get(partition, ())):
        return "inputs"
    is_late = False
    for parent in _loaded_parents(graph, key):
        keys = reads_of(graph, key, parent, partition)
        last = wanted.up_to.get(key)
        late = stale.get(parent, {})
        refs = newest(parent)
        for name in refs if keys is None else keys:
            if last is not None and name > last:
                continue
            if name in refs and refs[name] not in used:
                return "inputs"
            is_late = is_late or name in late
    return "parent" if is_late else None


def reads_of(graph: AssetGraph, child: dg.AssetKey, parent: dg.AssetKey, partition: str) -> list[str] | None:
    """Return the partitions of a parent that one partition of a child reads; None for all that there are."""
    if not graph.get(parent).is_partitioned:
        return [""]
    if not partition:
        return None
    node = graph.get(child)
    mapping = node.partition_mappings.get(parent)
    first, last = 0, 0
    exact = node.metadata.get(LOOK_BACK)
    if isinstance(exact, dg.JsonMetadataValue) and isinstance(exact.data, Mapping):
        first = -int(exact.data[parent.to_user_string()])
    elif isinstance(mapping, dg.TimeWindowPartitionMapping):
        first, last = mapping.start_offset, mapping.end_offset
    day = date.fromisoformat(partition)
    return [str(day + timedelta(days=n)) for n in range(first, last + 1)]


def _loaded_parents(graph: AssetGraph, key: dg.AssetKey) -> list[dg.AssetKey]:
    """Return the parents whose content an asset reads; the others only say what comes first."""
    node = graph.get(key)
    if "dbt" in node.kinds:
        return sorted(node.parent_keys)
    inputs = node.assets_def.keys_by_input_name
    types = node.assets_def.node_def.input_dict
    return sorted(parent for name, parent in inputs.items() if not types[name].dagster_type.is_nothing)
