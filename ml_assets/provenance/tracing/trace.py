"""What a trace found, before it is shown: lineages, where they came from, and what became of the models.

Following manifests stays out, see `lineage` and `touched`; so does showing it, see `trace_text` and `trace_page`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_assets.lake import origin
from ml_assets.lake.errors import LakeError, MissingArtifactError
from ml_assets.lake.manifests import Manifests
from ml_assets.provenance.lineage import Key, Lineage, Node
from ml_assets.provenance.tracing.groups import commit_of
from ml_assets.provenance.tracing.served import Log, read_log

_DIGEST = re.compile(r"[0-9a-f]{32}")
_MODEL = "/model"


@dataclass(frozen=True)
class Environment:
    """What was installed where something was made; `problem` says why that is not known."""

    digest: str
    python: str = ""
    platform: str = ""
    distributions: Mapping[str, str] | None = None
    problem: str = ""

    @property
    def told(self) -> str:
        """Itself in a phrase."""
        if self.distributions is None:
            return self.problem
        return f"Python {self.python} on {self.platform}, {len(self.distributions)} distributions"

    def against(self, other: "Environment") -> list[str]:
        """Return in what it differs from another: `polars 2.0.0 (2.1.0 there)`."""
        if self.distributions is None or other.distributions is None:
            return []
        mine = {"Python": self.python, "platform": self.platform, **self.distributions}
        theirs = {"Python": other.python, "platform": other.platform, **other.distributions}
        names = sorted(name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name))
        return [f"{name} {mine.get(name) or 'absent'} ({theirs.get(name) or 'absent'} there)" for name in names]


@dataclass(frozen=True)
class Part:
    """One lineage with its heading."""

    heading: str
    lineage: Lineage


@dataclass(frozen=True)
class Trace:
    """All that is shown.

    Attributes:
        title: what was asked about.
        facts: what is said of it before anything else, by name.
        parts: its lineages; most questions have one.
        logs: the promotion logs of the models in them.
        environments: those that anything in them was made in; the first is that of what was asked about.
        problems: what could not be read beside the lineages.
    """

    title: str
    facts: Mapping[str, str]
    parts: Sequence[Part]
    logs: Mapping[str, Log]
    environments: Mapping[str, Environment]
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
        """Return the models among the artifacts, and what became of each."""
        found = [node for node in self.nodes.values() if node.asset.endswith(_MODEL)]
        found.sort(key=lambda node: (node.asset, node.last.number if node.last else 0))
        return [(node, self.logs[node.asset.removesuffix(_MODEL)].told(node.key[2])) for node in found]

    def sources(self) -> list[tuple[str, str, list[Node]]]:
        """Return the files that raw artifacts were landed from, with their digests, and which those are."""
        return [(*at, nodes) for at, nodes in self._by(_source) if isinstance(at, tuple)]

    def commits(self) -> list[tuple[str, list[Node]]]:
        """Return the commits that anything was made at."""
        return [(at or "unknown", nodes) for at, nodes in self._by(lambda node: node.last and commit_of(node.last))]

    def runs(self) -> list[tuple[str, str, list[Node]]]:
        """Return the runs that made anything, each with the moment of its last making, newest first."""
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
        """Return what was made in an environment."""
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
    lake: Manifests, title: str, parts: Sequence[Part], *, facts: Mapping[str, str] | None = None,
    problems: Iterable[str] = (), about: Key | None = None,
) -> Trace:  # fmt: skip
    """Return a trace with what belongs to its lineages: promotion logs and environments.

    Args:
        lake: the lake.
        title: what was asked about.
        parts: its lineages.
        facts: what is known of it already.
        problems: what could not be read on the way.
        about: the artifact whose making is told; the only root where None.
    """
    nodes = {key: node for part in parts for key, node in part.lineage.nodes.items()}
    models = sorted({node.asset.removesuffix(_MODEL) for node in nodes.values() if node.asset.endswith(_MODEL)})
    logs = {model: read_log(lake, model) for model in models}
    asked = [key for part in parts for key in part.lineage.roots] if about is None else [about]
    roots = [nodes[key] for key in dict.fromkeys(asked) if key in nodes]
    digests = dict.fromkeys(it.last.environment or "" for it in [*roots, *nodes.values()] if it.last is not None)
    found = {digest: read_environment(lake, digest) for digest in digests}
    wrong = [*problems, *(line for log in logs.values() for line in log.problems)]
    return Trace(title, dict(facts or {}) | _facts(roots, found), parts, logs, found, wrong)


def _facts(roots: Sequence[Node], environments: Mapping[str, Environment]) -> dict[str, str]:
    """Return what is said of the one artifact that was asked about; of several the groups say it."""
    if len(roots) != 1 or (made := roots[0].last) is None:
        return {}
    took = "" if made.seconds is None else f" in {made.seconds:g} s"
    run = "outside of a run" if made.run_id is None else f"by run {made.run_id}"
    step = "" if made.step is None else f", step {made.step}"
    return {
        "made": f"{made.created_at:%Y-%m-%d %H:%M:%S} UTC{took} {run}{step}",
        "code": f"{made.code_version or 'unknown'} at commit {commit_of(made) or 'unknown'}",
        "environment": f"{(made.environment or 'unknown')[:12]}: {environments[made.environment or ''].told}",
    }


def read_environment(lake: Manifests, digest: str) -> Environment:
    """Return an environment as it was kept, or why it is not known."""
    if not _DIGEST.fullmatch(digest):  # it becomes a path, and a manifest may say anything
        return Environment(digest, problem="not recorded" if not digest else "not a digest")
    try:
        found = origin.load_environment(lake, digest)
    except MissingArtifactError:
        return Environment(digest, problem=f"environments/{digest}.json is not in the lake")
    except LakeError as error:
        return Environment(digest, problem=str(error))
    return Environment(digest, found.python, found.platform, found.distributions)


def as_json(trace: Trace) -> dict[str, Any]:
    """Return everything as JSON knows it: edges are pairs of places in `nodes`, from what was made to its input."""
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
        "models": [{"asset": node.asset, "version": node.key[2], "told": told} for node, told in trace.models()],
        "promotions": {
            model: [entry.model_dump(mode="json") for entry in log.entries] for model, log in trace.logs.items()
        },
        "environments": {
            digest: {
                "python": it.python,
                "platform": it.platform,
                "distributions": it.distributions,
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
            made.model_dump(mode="json", exclude={"asset", "partition", "version", "inputs", "columns"})
            for made in node.makings
        ],
    }
