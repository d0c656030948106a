"""Lineage from code and manifests: which code made an artifact, and from what.

How artifacts are stored stays out; see `resources.lake`.
"""

import dataclasses
import dis
import functools
import hashlib
import importlib
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph  # what Definitions.resolve_asset_graph gives
from pydantic import JsonValue

from resources.errors import MissingArtifactError
from resources.lake import Lake
from resources.manifest import ArtifactRef

LOOK_BACK = "ml_assets/look_back_days"
_OURS = ("ml_assets.", "resources.")


def code_version(functions: Iterable[Callable[..., Any]]) -> str:
    """Return a hash of functions and of everything of this project that they call or read at module level.

    It is taken from byte code, so that comments, docstrings and code elsewhere do not change it. Module-level data
    counts where its name is in capitals: numbers, text, and tables of them or of functions.
    """
    return _code_version(tuple(functions))


@functools.cache
def _code_version(functions: tuple[Callable[..., Any], ...]) -> str:
    """Walk the code once a process (8 ms a stage): every declared model asks for the same stages' functions."""
    seen: dict[str, str] = {}
    for function in functions:
        _visit(function, seen)
    text = ";".join(f"{name}={seen[name]}" for name in sorted(seen))
    return hashlib.blake2b(text.encode(), digest_size=8, usedforsecurity=False).hexdigest()


def _is_ours(module: str | None) -> bool:
    return f"{module}.".startswith(_OURS)


def _visit(function: object, seen: dict[str, str]) -> None:
    function = getattr(function, "__wrapped__", function)
    if isinstance(function, type):
        _visit_class(function, seen)
        return
    if not isinstance(function, types.FunctionType) or not _is_ours(function.__module__):
        return
    name = f"{function.__module__}.{function.__qualname__}"
    if name in seen:
        return
    seen[name] = _fingerprint(function.__code__)
    for used, value in _used(function):
        if isinstance(value, types.FunctionType | type) or hasattr(value, "__wrapped__"):
            _visit(value, seen)
        elif used.isupper():
            seen[f"{function.__module__}.{used}"] = _text(value, seen)


def _visit_class(kind: type, seen: dict[str, str]) -> None:
    if not _is_ours(kind.__module__):
        return
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in seen:
        return
    seen[name] = ",".join(getattr(kind, "__annotations__", {}))
    for base in kind.__bases__:
        _visit_class(base, seen)
    fields: Mapping[str, Any] = getattr(kind, "__pydantic_fields__", {})
    members = {**{field: info.default for field, info in fields.items()}, **vars(kind)}
    for member_name, member in members.items():
        plain = _function_of(member)
        if isinstance(plain, types.FunctionType) and plain.__module__ == kind.__module__:
            _visit(plain, seen)
        elif not member_name.startswith("_") and isinstance(member, str | int | float | tuple):
            seen[f"{name}.{member_name}"] = _text(member, seen)


def _function_of(member: object) -> object:
    """Return the function behind a class's property, cached property, class method or static method."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, functools.cached_property):
        return member.func
    return getattr(member, "__func__", member)


def _text(value: object, seen: dict[str, str]) -> str:
    """Return data as text that every process writes alike, and visit the code in it."""
    if value is None or isinstance(value, str | bytes | int | float):
        return repr(value)
    if isinstance(value, types.FunctionType | type):
        _visit(value, seen)
        return value.__qualname__
    if isinstance(value, Mapping):
        parts = [f"{_text(key, seen)}:{_text(item, seen)}" for key, item in value.items()]
    elif isinstance(value, frozenset | set):
        parts = sorted(_text(item, seen) for item in value)
    elif isinstance(value, tuple | list):
        parts = [_text(item, seen) for item in value]
    elif isinstance(value, re.Pattern):
        parts = [value.pattern]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _visit_class(type(value), seen)
        parts = [_text(getattr(value, field.name), seen) for field in dataclasses.fields(value)]
    else:
        parts = [type(value).__qualname__]
    return ",".join(parts)


def _used(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """Yield what a function's code refers to by global name, attribute of a module, or import, with the name."""
    for code in _codes(function.__code__):
        module: object = None
        for instruction in dis.get_instructions(code):
            name = str(instruction.argval)
            match instruction.opname:
                case "LOAD_GLOBAL" | "LOAD_NAME":
                    module = function.__globals__.get(name)
                    yield name, module
                case "LOAD_ATTR" | "LOAD_METHOD":
                    if isinstance(module, types.ModuleType) and _is_ours(module.__name__):
                        yield name, getattr(module, name, None)
                    module = None
                case "IMPORT_NAME":
                    module = importlib.import_module(name) if _is_ours(name) else None
                case "IMPORT_FROM":
                    if isinstance(module, types.ModuleType):
                        yield name, getattr(module, name, None)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.cache
def _fingerprint(code: types.CodeType) -> str:
    """Return a hash of what code does: its instructions and constants, without lines, names of files, docstrings."""
    digest = hashlib.blake2b(digest_size=8, usedforsecurity=False)
    for inner in _codes(code):
        digest.update(inner.co_code)
        docstring = inner.co_consts[0] if inner.co_consts and isinstance(inner.co_consts[0], str) else None
        constants = [c for c in inner.co_consts if not isinstance(c, types.CodeType) and c is not docstring]
        digest.update(repr([sorted(map(repr, c)) if isinstance(c, frozenset) else c for c in constants]).encode())
        digest.update(repr((inner.co_names, inner.co_varnames)).encode())
    return digest.hexdigest()


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


def out_of_date(graph: AssetGraph, lake: Lake, wanted: Wanted) -> dict[dg.AssetKey, list[str]]:
    """Return the partitions to materialize, by asset, upstream first.

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

    stale: dict[dg.AssetKey, list[str]] = {}
    for key in graph.toposorted_asset_keys:
        if key not in wanted.partitions:
            continue
        late = [
            p
            for p in wanted.partitions[key]
            if _is_stale(graph, lake, key, p, wanted=wanted, newest=newest, stale=stale)
        ]
        if late:
            stale[key] = late
    return stale


def _reach(graph: AssetGraph, key: dg.AssetKey, wanted: Wanted) -> list[str]:
    """Return the partitions of an asset that anything wanted reads."""
    found: set[str] = set()
    for child in graph.get(key).child_keys & wanted.partitions.keys():
        for partition in wanted.partitions[child]:
            found.update(reads_of(graph, child, key, partition) or [])
    return sorted(found)


def _is_stale(
    graph: AssetGraph,
    lake: Lake,
    key: dg.AssetKey,
    partition: str,
    *,
    wanted: Wanted,
    newest: Callable[[dg.AssetKey], Mapping[str, ArtifactRef]],
    stale: Mapping[dg.AssetKey, Sequence[str]],
) -> bool:
    ref = newest(key).get(partition)
    if ref is None:
        return True
    manifest = lake.manifest(ref)
    node = graph.get(key)
    if manifest.code_version != node.code_version:
        return True
    declared = node.metadata.get("ml_assets/parameters")
    parameters = declared.data if isinstance(declared, dg.JsonMetadataValue) else {}
    expected = {**(parameters if isinstance(parameters, Mapping) else {}), **wanted.parameters.get(key, {})}
    if any(manifest.parameters.get(name) != value for name, value in expected.items()):
        return True
    used = set(manifest.inputs)
    if not used.issuperset(wanted.beside.get(key, {}).get(partition, ())):
        return True
    for parent in _loaded_parents(graph, key):
        keys = reads_of(graph, key, parent, partition)
        last = wanted.up_to.get(key)
        late = stale.get(parent, [])
        refs = newest(parent)
        for name in refs if keys is None else keys:
            if last is not None and name > last:
                continue
            if name in late or (name in refs and refs[name] not in used):
                return True
    return False


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


def code_behind(lake: Lake, ref: ArtifactRef) -> dict[str, str | None]:
    """Return the code version of an artifact and of all that it was made from, by asset; each asset is asked once.

    What has been removed since has none that can be told.
    """
    found: dict[str, str | None] = {}
    waiting = [ref]
    while waiting:
        one = waiting.pop()
        if one.asset in found:
            continue
        try:
            manifest = lake.manifest(one)
        except MissingArtifactError:
            found[one.asset] = None
        else:
            found[one.asset] = manifest.code_version
            waiting.extend(manifest.inputs)
    return found
