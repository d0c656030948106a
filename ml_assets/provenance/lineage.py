"""Lineage, followed from manifest to manifest; it needs the lake and nothing else.

Forward from what went wrong stays out, see `ml_assets.provenance.tracing.touched`; how manifests are found and read
too, see `ml_assets.lake.manifests`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, Manifest
from ml_assets.lake.manifests import REMOVED, Manifests
from ml_assets.lake.order import MANIFEST_NAME, number_in

Key = tuple[str, str, str]
"""Asset, partition ('' where it has none), version: compared ten times as fast as an `ArtifactRef`."""

State = Literal["kept", "removed", "missing", "corrupt"]

LATEST: Final = 0
"""The number that stands for an artifact's newest manifest."""
_MANY = 64


@dataclass(frozen=True)
class Node:
    """One version of one artifact, as far as the lake still knows it.

    Attributes:
        state: `kept`; `removed`, where only its manifest was kept; `missing`, without one; `corrupt`.
        makings: its manifests that matter here, one for each time it was made, oldest first.
        problem: what is wrong with it, in a sentence.
    """

    key: Key
    state: State
    makings: tuple[Manifest, ...] = ()
    problem: str = ""

    @property
    def asset(self) -> str:
        """What it is a version of."""
        return self.key[0]

    @property
    def last(self) -> Manifest | None:
        """Its newest manifest that matters here; None where none can be read."""
        return self.makings[-1] if self.makings else None

    @property
    def inputs(self) -> list[Key]:
        """What it was made from, each once."""
        return [*dict.fromkeys(key_of(ref) for made in self.makings for ref in made.inputs)]


@dataclass(frozen=True)
class Lineage:
    """Artifacts and what each was made from.

    Attributes:
        roots: what was asked about.
        is_forward: whether it goes from the roots to what was made from them.
        problems: what could not be read and belongs to no node.
    """

    roots: tuple[Key, ...]
    nodes: Mapping[Key, Node]
    is_forward: bool = False
    problems: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every manifest on the way could be read; what was removed on purpose is no gap."""
        return not self.problems and all(node.state in {"kept", "removed"} for node in self.nodes.values())

    def inputs(self, node: Node) -> Iterator[Key]:
        """Yield what a node was made from, of what belongs to this lineage."""
        return (key for key in node.inputs if key in self.nodes)

    def of(self, roots: Iterable[Key]) -> "Lineage":
        """Return the part of a backward lineage that is that of some of its artifacts."""
        asked = [key for key in dict.fromkeys(roots) if key in self.nodes]
        found = dict.fromkeys(asked)
        waiting = [*asked]
        while waiting:
            new = [key for key in self.inputs(self.nodes[waiting.pop()]) if key not in found]
            found |= dict.fromkeys(new)
            waiting += new
        return Lineage(tuple(asked), {key: self.nodes[key] for key in found})


def key_of(ref: ArtifactRef) -> Key:
    """Return an artifact as lineage knows it."""
    return ref.asset, ref.partition or "", ref.version


def ref_of(key: Key) -> ArtifactRef:
    """Return an artifact as the lake knows it."""
    return ArtifactRef(asset=key[0], partition=key[1] or None, version=key[2])


def code_behind(lake: Manifests, ref: ArtifactRef) -> dict[str, str | None]:
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


def backward(lake: Manifests, roots: Iterable[ArtifactRef]) -> Lineage:
    """Return all that artifacts were made from.

    Of an artifact that was made more than once with the same content, what counts is how it had been made when its
    reader read it. What cannot be read is among the nodes as what it is.

    Raises:
        LakeError: the lake cannot be read at all.
    """
    asked = [key_of(ref) for ref in roots]
    found: dict[Key, dict[str, Node]] = {}
    names: dict[Key, tuple[str, list[str]]] = {}
    wave: set[tuple[Key, int]] = {(key, LATEST) for key in asked}
    while wave:
        _list(lake, {key for key, _ in wave} - names.keys(), names)
        wanted = {(key, name_of(names[key][1], number)) for key, number in wave}
        new = sorted((key, name) for key, name in wanted if name not in found.get(key, ()))
        with lake.pool(len(new)) as each:
            read = each(lambda it: read_node(lake, it[0], names[it[0]][0], it[1]), new)
        wave = set()
        for (key, name), node in zip(new, read, strict=True):
            found.setdefault(key, {})[name] = node
            for made in node.makings:
                wave.update((key_of(ref), number) for ref, number in made.numbered_inputs)
    return Lineage(tuple(dict.fromkeys(asked)), {key: merged([*nodes.values()]) for key, nodes in found.items()})


def kept_manifest(lake: Manifests, ref: ArtifactRef) -> Manifest:
    """Return an artifact's newest manifest, even if the artifact itself has been removed.

    Raises:
        MissingArtifactError: neither the artifact nor its manifest is there.
        CorruptArtifactError: the manifest is not one, or speaks of another artifact.
    """
    node = newest_node(lake, key_of(ref))
    if node.last is None:
        raise (CorruptArtifactError if node.state == "corrupt" else MissingArtifactError)(f"{ref}: {node.problem}")
    return node.last


def newest_node(lake: Manifests, key: Key) -> Node:
    """Return one artifact by its newest manifest."""
    names: dict[Key, tuple[str, list[str]]] = {}
    _list(lake, {key}, names)
    top, there = names[key]
    return read_node(lake, key, top, name_of(there, LATEST))


def name_of(names: Sequence[str], number: int) -> str:
    """Return the manifest of a publication, else the last one before it, else the oldest; '' where there is none."""
    if len(names) <= 1:  # nearly always
        return "".join(names)
    ordered = sorted(names, key=number_in)
    before = [name for name in ordered if number_in(name) <= number] if number != LATEST else ordered
    return before[-1] if before else ordered[0]


def read_node(lake: Manifests, key: Key, top: str, name: str) -> Node:
    """Return an artifact as one of its manifests tells it.

    Args:
        lake: the lake.
        key: the artifact.
        top: `artifacts`, or where the manifests of what was removed are.
        name: the manifest's file name; '' where there is none.
    """
    if not name:
        return Node(key, "missing", problem="nothing in the lake says what it was made from")
    path = lake.path(*place_of(key, top), name)
    try:
        manifest = Manifest.read(lake.read(path, limit=MOST_BYTES), path)
    except MissingArtifactError:
        return Node(key, "missing", problem=f"{path} was removed just now")
    except CorruptArtifactError as error:
        return Node(key, "corrupt", problem=str(error))
    if key_of(manifest.ref) != key:
        return Node(key, "corrupt", problem=f"{path} speaks of {manifest.ref}, another artifact")
    if top == "artifacts":
        return Node(key, "kept", (manifest,))
    return Node(key, "removed", (manifest,), _removal(lake, manifest.ref))


def _removal(lake: Manifests, ref: ArtifactRef) -> str:
    """Return by whom, when and why an artifact was removed, as far as its note says."""
    try:
        note = lake.removal(ref)
    except CorruptArtifactError:
        return "the note that says why is damaged"
    return "" if note is None else f"by {note.by} on {note.removed_at:%Y-%m-%d} ({note.why})"


def merged(nodes: Sequence[Node]) -> Node:
    """Return one node for what was read of several of an artifact's manifests."""
    if len(nodes) == 1:
        return nodes[0]
    makings = sorted((made for node in nodes for made in node.makings), key=lambda made: made.number)
    worst = next((node for node in nodes if node.state == "corrupt"), nodes[0])
    return Node(worst.key, worst.state, tuple(makings), worst.problem)


def place_of(key: Key, top: str) -> list[str]:
    """Return the parts of the path of an artifact's folder, or of the manifests that are left of it."""
    parts = ["artifacts", key[0], *([key[1]] if key[1] else []), key[2]]
    return parts if top == "artifacts" else [top, *parts]


def _list(lake: Manifests, keys: Iterable[Key], names: dict[Key, tuple[str, list[str]]]) -> None:
    """Find the manifests of artifacts: the part of the lake that has them, and their file names."""
    wanted = sorted(keys)
    for top in ("artifacts", REMOVED):
        listed = _listed(lake, wanted, top)
        names.update((key, (top, listed[key])) for key in wanted if listed[key])
        wanted = [key for key in wanted if not listed[key]]
    names.update((key, ("artifacts", [])) for key in wanted)


def _listed(lake: Manifests, keys: Sequence[Key], top: str) -> dict[Key, list[str]]:
    """Return the manifests' names of each artifact: one request each, or one for a thousand where that is dear."""
    by_asset: dict[str, list[Key]] = {}
    for key in keys:
        by_asset.setdefault(key[0], []).append(key)
    many = {} if lake.protocol == "file" else {asset: it for asset, it in by_asset.items() if len(it) > _MANY}
    found: dict[Key, list[str]] = {key: [] for key in keys}
    for asset in many:
        for relative in lake.tree(lake.path(*([] if top == "artifacts" else [top]), "artifacts", asset)):
            folder, _, name = relative.rpartition("/")
            partition, _, version = folder.rpartition("/")
            if (key := (asset, partition, version)) in found and MANIFEST_NAME.fullmatch(name):
                found[key].append(name)
    few = [key for key in keys if key[0] not in many]
    with lake.pool(len(few)) as each:
        listed = each(lambda key: lake.names(lake.path(*place_of(key, top))), few)
    for key, there in zip(few, listed, strict=True):
        found[key] = [name for name in there if MANIFEST_NAME.fullmatch(name)]
    return found
