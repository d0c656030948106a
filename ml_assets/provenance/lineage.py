"""Lineage, followed from manifest to manifest. It needs only the lake.

Not here: lineage forward (see `ml_assets.provenance.tracing.touched`), and reading manifests (see
`ml_assets.lake.manifests`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, Manifest
from ml_assets.lake.manifests import MANIFEST_FOLDERS, Manifests
from ml_assets.lake.order import MANIFEST_NAME, number_in

Key = tuple[str, str, str]
"""Asset, partition ('' if it has none), version. Comparison is ten times faster than for an `ArtifactRef`."""

State = Literal["present", "removed", "missing", "corrupt"]

LATEST: Final = 0
"""The number that means an artifact's newest manifest."""
_MANY = 64


@dataclass(frozen=True)
class Node:
    """One version of one artifact, as far as the lake knows it.

    Attributes:
        state: `present`; `removed` if only its manifest exists; `missing` without one; `corrupt`.
        makings: its relevant manifests, one for each materialization, oldest first.
    """

    key: Key
    state: State
    makings: tuple[Manifest, ...] = ()
    problem: str = ""

    @property
    def asset(self) -> str:
        """Its asset."""
        return self.key[0]

    @property
    def last(self) -> Manifest | None:
        """Its newest relevant manifest; None if none can be read."""
        return self.makings[-1] if self.makings else None

    @property
    def inputs(self) -> list[Key]:
        """Its distinct inputs."""
        return [*dict.fromkeys(key_of(ref) for manifest in self.makings for ref in manifest.inputs)]


@dataclass(frozen=True)
class Lineage:
    """Artifacts and their inputs.

    Attributes:
        is_forward: whether it leads from the roots to their dependents.
        problems: problems that belong to no node.
    """

    roots: tuple[Key, ...]
    nodes: Mapping[Key, Node]
    is_forward: bool = False
    problems: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every manifest could be read. Artifacts that were removed on purpose do not count."""
        return not self.problems and all(node.state in {"present", "removed"} for node in self.nodes.values())

    def inputs(self, node: Node) -> Iterator[Key]:
        """Yield the inputs of a node that belong to this lineage."""
        return (key for key in node.inputs if key in self.nodes)

    def of(self, roots: Iterable[Key]) -> "Lineage":
        """Return the part of a backward lineage that belongs to some of its artifacts."""
        requested = [key for key in dict.fromkeys(roots) if key in self.nodes]
        found = dict.fromkeys(requested)
        waiting = [*requested]
        while waiting:
            new = [key for key in self.inputs(self.nodes[waiting.pop()]) if key not in found]
            found |= dict.fromkeys(new)
            waiting += new
        return Lineage(tuple(requested), {key: self.nodes[key] for key in found})


def key_of(ref: ArtifactRef) -> Key:
    """Return the key of an artifact."""
    return ref.asset, ref.partition or "", ref.version


def ref_of(key: Key) -> ArtifactRef:
    """Return the artifact of a key."""
    return ArtifactRef(asset=key[0], partition=key[1] or None, version=key[2])


def code_behind(lake: Manifests, ref: ArtifactRef) -> dict[str, str | None]:
    """Return the code versions of an artifact and of everything upstream, by asset. Each asset is read once.

    Artifacts that have been removed are not included.
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


def backward(lake: Manifests, roots: Iterable[ArtifactRef]) -> Lineage:
    """Return everything upstream of some artifacts.

    If an artifact was materialized more than once with the same content, the lineage uses the materialization that its
    reader read. Artifacts that cannot be read are included with their state.

    Raises:
        LakeError: the lake cannot be read.
    """
    requested = [key_of(ref) for ref in roots]
    found: dict[Key, dict[str, Node]] = {}
    names: dict[Key, tuple[str, list[str]]] = {}
    wave: set[tuple[Key, int]] = {(key, LATEST) for key in requested}
    while wave:
        _list(lake, {key for key, _ in wave} - names.keys(), names)
        wanted = {(key, known_manifest(names[key][1], number)) for key, number in wave}
        new = sorted((key, name) for key, name in wanted if name not in found.get(key, ()))
        read = lake.map(lambda it: read_node(lake, it[0], names[it[0]][0], it[1]), new)
        wave = set()
        for (key, name), node in zip(new, read, strict=True):
            found.setdefault(key, {})[name] = node
            for manifest in node.makings:
                wave.update((key_of(ref), number) for ref, number in manifest.numbered_inputs)
    return Lineage(
        tuple(dict.fromkeys(requested)), {key: merge_nodes([*nodes.values()]) for key, nodes in found.items()}
    )


def newest_node(lake: Manifests, key: Key) -> Node:
    """Return one artifact with its newest manifest."""
    names: dict[Key, tuple[str, list[str]]] = {}
    _list(lake, {key}, names)
    top, there = names[key]
    return read_node(lake, key, top, known_manifest(there, LATEST))


def known_manifest(names: Sequence[str], number: int) -> str:
    """Return the manifest of a publication; if absent, of the one before, or the oldest; '' if none exist."""
    if len(names) <= 1:  # in nearly all cases
        return "".join(names)
    ordered = sorted(names, key=number_in)
    before = [name for name in ordered if number_in(name) <= number] if number != LATEST else ordered
    return before[-1] if before else ordered[0]


def read_node(lake: Manifests, key: Key, top: str, name: str) -> Node:
    """Return an artifact with one of its manifests.

    `top` is one of `MANIFEST_FOLDERS`; `name` is the file name of the manifest, '' if there is none.
    """
    if not name:
        return Node(key, "missing", problem="the lake has no manifest of it")
    path = lake.path(*folder_parts(key, top), name)
    try:
        manifest = Manifest.read(lake.read(path, limit=MOST_BYTES), path)
    except MissingArtifactError:
        return Node(key, "missing", problem=f"{path} was removed during the trace")
    except CorruptArtifactError as error:
        return Node(key, "corrupt", problem=str(error))
    if key_of(manifest.ref) != key:
        return Node(key, "corrupt", problem=f"{path} describes {manifest.ref}, which is another artifact")
    if top == "artifacts":
        return Node(key, "present", (manifest,))
    return Node(key, "removed", (manifest,), _removal(lake, manifest.ref))


def _removal(lake: Manifests, ref: ArtifactRef) -> str:
    """Return by whom, when and why an artifact was removed, if that is recorded."""
    try:
        note = lake.removal(ref)
    except CorruptArtifactError:
        return "the note with the reason is damaged"
    return "" if note is None else f"by {note.removed_by} on {note.removed_at:%Y-%m-%d} ({note.reason})"


def merge_nodes(nodes: Sequence[Node]) -> Node:
    """Return one node for several manifests of an artifact."""
    if len(nodes) == 1:
        return nodes[0]
    makings = sorted((manifest for node in nodes for manifest in node.makings), key=lambda manifest: manifest.number)
    worst = next((node for node in nodes if node.state == "corrupt"), nodes[0])
    return Node(worst.key, worst.state, tuple(makings), worst.problem)


def folder_parts(key: Key, top: str) -> list[str]:
    """Return the parts of the path of an artifact's folder under one of `MANIFEST_FOLDERS`."""
    return [top, key[0], *([key[1]] if key[1] else []), key[2]]


def _list(lake: Manifests, keys: Iterable[Key], names: dict[Key, tuple[str, list[str]]]) -> None:
    """Find the manifests of artifacts: the part of the lake that contains them, and their file names."""
    wanted = sorted(keys)
    for top in MANIFEST_FOLDERS:
        listed = _listed(lake, wanted, top)
        names.update((key, (top, listed[key])) for key in wanted if listed[key])
        wanted = [key for key in wanted if not listed[key]]
    names.update((key, ("artifacts", [])) for key in wanted)


def _listed(lake: Manifests, keys: Sequence[Key], top: str) -> dict[Key, list[str]]:
    """Return the names of each artifact's manifests, with one request each, or one per thousand on a slow store."""
    by_asset: dict[str, list[Key]] = {}
    for key in keys:
        by_asset.setdefault(key[0], []).append(key)
    many = {} if lake.protocol == "file" else {asset: it for asset, it in by_asset.items() if len(it) > _MANY}
    found: dict[Key, list[str]] = {key: [] for key in keys}
    for asset in many:
        for relative in lake.tree(lake.path(top, asset)):
            folder, _, name = relative.rpartition("/")
            partition, _, version = folder.rpartition("/")
            if (key := (asset, partition, version)) in found and MANIFEST_NAME.fullmatch(name):
                found[key].append(name)
    few = [key for key in keys if key[0] not in many]
    listed = lake.map(lambda key: lake.names(lake.path(*folder_parts(key, top))), few)
    for key, there in zip(few, listed, strict=True):
        found[key] = [name for name in there if MANIFEST_NAME.fullmatch(name)]
    return found
