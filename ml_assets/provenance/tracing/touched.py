"""Lineage forward: finds everything that depends on an artifact, such as a bad raw day.

Manifests name inputs but not readers, so every manifest of the lake is read once. Not here: lineage backward (see
`ml_assets.provenance.lineage`).
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ml_assets.lake.errors import LakeError
from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, Manifest
from ml_assets.lake.manifests import MANIFEST_FOLDERS, Manifests
from ml_assets.lake.order import MANIFEST_NAME
from ml_assets.lake.sealing import FORMAT_VERSION, seal_problem
from ml_assets.provenance.lineage import (
    Key,
    Lineage,
    Node,
    folder_parts,
    key_of,
    known_manifest,
    merge_nodes,
    newest_node,
    read_node,
    ref_of,
)

_HEAD = re.compile(
    rb'\{\n "format_version": %d,\n "asset": "([^"]+)",\n'
    rb' "partition": (?:null|"([^"]+)"),\n "version": "([0-9a-f]{32})",\n' % FORMAT_VERSION
)
_HEAD_BYTES = 4096
_VERSIONS = re.compile(rb'"version": "([0-9a-f]{32})"')
_VERSION = re.compile(r"[0-9a-f]{32}")
_AT_ONCE = 4096


@dataclass
class _Index:
    """The inputs of all artifacts in the lake.

    Attributes:
        names: by artifact, the place and the file names of its manifests.
        readers: by version, the manifests that name it. Versions of several artifacts can be equal.
    """

    names: dict[Key, tuple[str, list[str]]] = field(default_factory=dict)
    readers: dict[bytes, list[tuple[Key, str]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def forward(lake: Manifests, roots: Iterable[ArtifactRef]) -> Lineage:
    """Return everything that depends on some artifacts, consistent with `backward`.

    Raises:
        LakeError: the lake cannot be read.
    """
    index = _index(lake)
    requested = [key_of(ref) for ref in roots]
    made: dict[tuple[Key, str], Node] = {}

    def read(key: Key, name: str) -> Node:
        if (key, name) not in made:
            made[key, name] = read_node(lake, key, index.names[key][0], name)
        return made[key, name]

    waiting = [(key, name) for key in requested for name in index.names.get(key, ("", []))[1]]
    touched = dict.fromkeys(waiting)
    while waiting:
        key, name = waiting.pop()
        names = index.names[key][1]
        for reader in index.readers.get(key[2].encode(), ()):
            if reader in touched:
                continue
            last = read(*reader).last
            read_as = {key_of(ref): number for ref, number in last.numbered_inputs} if last else {}
            if key in read_as and known_manifest(names, read_as[key]) == name:
                touched[reader] = None
                waiting.append(reader)
    nodes: dict[Key, list[Node]] = {key: [newest_node(lake, key)] for key in requested if key not in index.names}
    for key, name in touched:
        nodes.setdefault(key, []).append(read(key, name))
    return Lineage(
        tuple(dict.fromkeys(requested)), {key: merge_nodes(them) for key, them in nodes.items()}, is_forward=True,
        problems=tuple(index.problems),
    )  # fmt: skip


def all_versions(lake: Manifests, asset: str, partition: str | None = None) -> list[ArtifactRef]:
    """Return every known version of an artifact, including removed ones; of all partitions if None."""
    found: dict[Key, None] = {}
    for top in MANIFEST_FOLDERS:
        for relative in lake.tree(lake.path(top, asset, *([partition] if partition else []))):
            folder, _, name = relative.rpartition("/")
            rest, _, version = folder.rpartition("/")
            if MANIFEST_NAME.fullmatch(name) and _VERSION.fullmatch(version) and not (partition and rest):
                found[asset, partition or rest, version] = None
    return [ref_of(key) for key in sorted(found)]


def _index(lake: Manifests) -> _Index:
    index = _Index()
    for top in MANIFEST_FOLDERS:
        root = lake.path(top)
        paths = [f"{root}/{path}" for path in lake.tree(root) if MANIFEST_NAME.fullmatch(path.rsplit("/", 1)[-1])]
        for first in range(0, len(paths), _AT_ONCE):  # limits the memory for the texts
            some = paths[first : first + _AT_ONCE]
            found = lake.map(functools.partial(_read_names, lake, top), some)
            for path, names in zip(some, found, strict=True):
                if isinstance(names, str):
                    index.problems.append(names)
                else:
                    _add(index, top, path.rsplit("/", 1)[-1], names)
    return index


def _add(index: _Index, top: str, name: str, names: tuple[Key, list[bytes]]) -> None:
    key, versions = names
    known = index.names.setdefault(key, (top, []))
    if known[0] == top:  # otherwise it was removed and materialized again
        known[1].append(name)
        for version in versions:
            index.readers.setdefault(version, []).append((key, name))


def _read_names(lake: Manifests, top: str, path: str) -> tuple[Key, list[bytes]] | str:
    """Return the artifact of a manifest and the versions that it names, or what is wrong with it.

    A full validation takes ten times as long and is needed only for dependents of the roots.
    """
    try:
        text = lake.read(path, limit=MOST_BYTES)
        head = _HEAD.search(text, 0, _HEAD_BYTES)
        # It is damaged or newer than this engine, or contains escaped letters.
        if head is None or seal_problem(text) is not None or b"\\" in text:
            whole = Manifest.read(text, path)
            key, versions = key_of(whole.ref), [ref.version.encode() for ref in whole.inputs]
        else:
            key = (head[1].decode(), (head[2] or b"").decode(), head[3].decode())
            versions = _VERSIONS.findall(text, head.end())
    except (LakeError, UnicodeDecodeError) as error:
        return str(error)
    if lake.path(*folder_parts(key, top)) != path.rpartition("/")[0]:
        return f"{path} describes {'/'.join(filter(None, key))}, which is another artifact; do not use it."
    return key, [*dict.fromkeys(versions)]
