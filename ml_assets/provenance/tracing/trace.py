"""The result of a trace: lineages, their sources and environments, and the champions among their models.

Not here: following manifests (see `ml_assets.provenance.lineage` and `ml_assets.provenance.tracing.touched`), and
output (see `ml_assets.provenance.tracing.text` and `ml_assets.provenance.tracing.page`).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_assets.lake import origin
from ml_assets.lake.errors import LakeError, MissingArtifactError
from ml_assets.lake.manifests import Manifests
from ml_assets.provenance.lineage import Key, Lineage, Node
from ml_assets.provenance.tracing.champions import ChampionHistory, read_champion_history
from ml_assets.provenance.tracing.groups import commit_of

_DIGEST = re.compile(r"[0-9a-f]{32}")
_MODEL = "/model"


@dataclass(frozen=True)
class TraceEnvironment:
    """The environment in which an artifact was built; `problem` explains why it is unknown."""

    digest: str
    found: origin.Environment | None = None
    problem: str = ""

    @property
    def phrase(self) -> str:
        """The environment as a phrase."""
        if self.found is None:
            return self.problem
        return f"Python {self.found.python} on {self.found.platform}, {len(self.found.distributions)} distributions"

    def against(self, other: "TraceEnvironment") -> list[str]:
        """Return the differences from another environment, such as `polars 2.0.0 (2.1.0 there)`."""
        if self.found is None or other.found is None:
            return []
        changes = self.found.changes(other.found)
        return [f"{it.name} {it.was or 'absent'} ({it.is_now or 'absent'} there)" for it in changes]


@dataclass(frozen=True)
class TracePart:
    """One lineage with its heading."""

    heading: str
    lineage: Lineage


@dataclass(frozen=True)
class Trace:
    """The content of a trace.

    Attributes:
        parts: its lineages; usually one.
        environments: the environments of all artifacts in them, that of the traced artifact first.
    """

    title: str
    facts: Mapping[str, str]
    parts: Sequence[TracePart]
    logs: Mapping[str, ChampionHistory]
    environments: Mapping[str, TraceEnvironment]
    problems: Sequence[str] = ()

    @property
    def nodes(self) -> dict[Key, Node]:
        """All artifacts of all parts."""
        return {key: node for part in self.parts for key, node in part.lineage.nodes.items()}

    @property
    def is_whole(self) -> bool:
        """Whether everything could be read."""
        return not self.problems and all(part.lineage.is_whole for part in self.parts)

    def models(self) -> list[tuple[Node, str]]:
        """Return the models among the artifacts, each with its history as challenger and champion."""
        found = [node for node in self.nodes.values() if node.asset.endswith(_MODEL)]
        found.sort(key=lambda node: (node.asset, node.last.number if node.last else 0))
        return [(node, self.logs[node.asset.removesuffix(_MODEL)].history_of(node.key[2])) for node in found]

    def sources(self) -> list[tuple[str, str, list[Node]]]:
        """Return the source files of raw artifacts, with their digests and artifacts."""
        return [(*at, nodes) for at, nodes in self._by(_source) if isinstance(at, tuple)]

    def commits(self) -> list[tuple[str, list[Node]]]:
        """Return the commits at which artifacts were built."""
        return [(at or "unknown", nodes) for at, nodes in self._by(lambda node: node.last and commit_of(node.last))]

    def runs(self) -> list[tuple[str, str, list[Node]]]:
        """Return the runs that built artifacts, each with the time of its last artifact, newest first."""
        found = [
            (
                max(node.last.created_at.isoformat(timespec="seconds") for node in nodes if node.last),
                run or "no run",
                nodes,
            )
            for run, nodes in self._by(lambda node: node.last and node.last.run_id)
        ]
        return [
            (run, at.replace("T", " ")[:19], nodes)
            for at, run, nodes in sorted(found, reverse=True, key=lambda it: it[:2])
        ]

    def made_in(self, digest: str) -> list[Node]:
        """Return the artifacts that were built in an environment."""
        return [node for node in self.nodes.values() if node.last and (node.last.environment or "") == digest]

    def _by(self, fact: Callable[[Node], Any]) -> list[tuple[Any, list[Node]]]:
        found: dict[Any, list[Node]] = {}
        for node in self.nodes.values():
            if node.last is not None:
                found.setdefault(fact(node), []).append(node)
        return sorted(found.items(), key=lambda it: str(it[0]))


def _source(node: Node) -> tuple[str, str] | None:
    if node.last is None or "source" not in node.last.parameters:
        return None
    return str(node.last.parameters.get("file", "")), str(node.last.parameters["source"])


def trace_of(
    lake: Manifests, title: str, parts: Sequence[TracePart], *, facts: Mapping[str, str] | None = None,
    problems: Iterable[str] = (), about: Key | None = None,
) -> Trace:  # fmt: skip
    """Return a trace with the promotion logs and environments of its lineages.

    `about` is the artifact whose facts are shown; the only root if None.
    """
    nodes = {key: node for part in parts for key, node in part.lineage.nodes.items()}
    models = sorted({node.asset.removesuffix(_MODEL) for node in nodes.values() if node.asset.endswith(_MODEL)})
    logs = {model: read_champion_history(lake, model) for model in models}
    requested = [key for part in parts for key in part.lineage.roots] if about is None else [about]
    roots = [nodes[key] for key in dict.fromkeys(requested) if key in nodes]
    digests = dict.fromkeys(it.last.environment or "" for it in [*roots, *nodes.values()] if it.last is not None)
    found = {digest: trace_environment(lake, digest) for digest in digests}
    wrong = [*problems, *(line for log in logs.values() for line in log.problems)]
    return Trace(title, dict(facts or {}) | _facts(roots, found), parts, logs, found, wrong)


def _facts(roots: Sequence[Node], environments: Mapping[str, TraceEnvironment]) -> dict[str, str]:
    """Return the facts about a single traced artifact. For several, the groups contain them."""
    if len(roots) != 1 or (manifest := roots[0].last) is None:
        return {}
    took = "" if manifest.seconds is None else f" in {manifest.seconds:g} s"
    run = "outside of a run" if manifest.run_id is None else f"by run {manifest.run_id}"
    step = "" if manifest.step is None else f", step {manifest.step}"
    return {
        "created": f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC{took} {run}{step}",
        "code": f"{manifest.code_version or 'unknown'} at commit {commit_of(manifest) or 'unknown'}",
        "environment": f"{(manifest.environment or 'unknown')[:12]}: {environments[manifest.environment or ''].phrase}",
    }


def trace_environment(lake: Manifests, digest: str) -> TraceEnvironment:
    """Return a recorded environment, or why it is unknown."""
    if not _DIGEST.fullmatch(digest):  # it becomes a path, and manifests are untrusted
        return TraceEnvironment(digest, problem="not recorded" if not digest else "not a digest")
    try:
        found = origin.load_environment(lake, digest)
    except MissingArtifactError:
        return TraceEnvironment(digest, problem=f"environments/{digest}.json is not in the lake")
    except LakeError as error:
        return TraceEnvironment(digest, problem=str(error))
    return TraceEnvironment(digest, found)


def as_json(trace: Trace) -> dict[str, Any]:
    """Return the trace in JSON's types. Edges are pairs of positions in `nodes`, from an artifact to its input."""
    nodes = trace.nodes
    place = {key: number for number, key in enumerate(nodes)}
    links = {
        (place[node.key], place[key])
        for part in trace.parts
        for node in part.lineage.nodes.values()
        for key in part.lineage.inputs(node)
    }
    return {
        "title": trace.title,
        "is_whole": trace.is_whole,
        "problems": [*trace.problems, *(line for part in trace.parts for line in part.lineage.problems)],
        "facts": dict(trace.facts),
        "parts": [
            {
                "heading": part.heading,
                "is_forward": part.lineage.is_forward,
                "roots": [place[key] for key in part.lineage.roots if key in place],
            }
            for part in trace.parts
        ],
        "nodes": [*map(_node, nodes.values())],
        "edges": sorted(links),
        "models": [
            {"asset": node.asset, "version": node.key[2], "history": history} for node, history in trace.models()
        ],
        "promotions": {
            model: [entry.model_dump(mode="json") for entry in log.entries] for model, log in trace.logs.items()
        },
        "environments": {
            digest: {
                "python": it.found.python if it.found else "",
                "platform": it.found.platform if it.found else "",
                "distributions": it.found.distributions if it.found else None,
                "problem": it.problem or None,
            }
            for digest, it in trace.environments.items()
        },
    }


def _node(node: Node) -> dict[str, Any]:
    asset, partition, version = node.key
    return {
        "asset": asset,
        "partition": partition or None,
        "version": version,
        "state": node.state,
        "problem": node.problem or None,
        "manifests": [
            manifest.model_dump(mode="json", exclude={"asset", "partition", "version", "inputs", "columns"})
            for manifest in node.makings
        ],
    }
