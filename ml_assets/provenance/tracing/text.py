"""A trace as text: a tree of assets, then files, commits, environments and runs.

Names and messages come from manifests, which anybody may have written, so control characters are removed. Not here: the
HTML page (see `ml_assets.provenance.tracing.page`).
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from ml_assets.provenance.lineage import Key, Node
from ml_assets.provenance.tracing.groups import ArtifactGroup, calendar_of_nodes, groups, ranges, whose
from ml_assets.provenance.tracing.trace import Trace, TracePart

_FEW = 4
_PACKAGES = 12
_DEEPEST = 30
_WIDE = 120


def render_text(trace: Trace, *, all_days: bool = False) -> str:
    """Return a trace as lines."""
    lines = [trace.title, *(_aligned([*trace.facts.items()]) if trace.facts else ())]
    model_notes = {node.key: text for node, text in trace.models()}
    for part in trace.parts:
        lines += ["", part.heading, *_tree(part, model_notes, all_days=all_days)]
    for heading, section in sections(trace).items():
        lines += ["", heading, *_aligned(section)] if section else []
    return "\n".join(map(printable, lines)) + "\n"


def printable(line: str) -> str:
    """Return a line without characters that control a terminal."""
    return (
        line if line.isprintable() else "".join(it if it.isprintable() else "\N{REPLACEMENT CHARACTER}" for it in line)
    )


def _tree(part: TracePart, model_notes: Mapping[Key, str], *, all_days: bool) -> Iterator[str]:
    """Yield the assets of a lineage. Each is expanded at its place nearest to a root, and only named at the others."""
    found = groups(part.lineage)
    home = _homes(part, found)
    width = max((len(asset) + 3 * depth for asset, depth in _depths(home).items()), default=0)
    shown: set[str] = set()
    waiting = [(asset, "", "", "") for asset in reversed(home) if not home[asset]]
    while waiting:
        asset, parent, branch, indent = waiting.pop()
        if home[asset] != parent:
            yield f"{branch}{asset}  (see {'above' if asset in shown else 'below'})"
            continue
        shown.add(asset)
        group = found[asset]
        yield f"{branch + asset:<{width}}  {_line(group)}"
        bar = indent + ("│    " if group.next else "     ")
        yield from (f"{bar}{line}" for line in notes(group, model_notes, all_days=all_days))
        for name in reversed(children := sorted(group.next, key=lambda name: (home[name] == asset, name))):
            ends = name == children[-1]
            too_deep = len(indent) >= 3 * _DEEPEST
            below = indent if too_deep else indent + ("   " if ends else "│  ")
            waiting.append((name, asset, indent + ("└─ " if ends else "├─ "), below))


def _homes(part: TracePart, found: Mapping[str, ArtifactGroup]) -> dict[str, str]:
    """Return, for each asset, the asset under which it is expanded; '' for the roots."""
    home = {key[0]: "" for key in part.lineage.roots if key[0] in found}
    wave = [*home]
    while wave:
        new = {name: asset for asset in reversed(wave) for name in found[asset].next if name not in home}
        home |= new
        wave = [*new]
    return home


def _depths(home: Mapping[str, str]) -> dict[str, int]:
    depths: dict[str, int] = {}
    for asset, parent in home.items():  # a parent precedes what is shown under it
        depths[asset] = min(depths[parent] + 1, _DEEPEST) if parent else 0
    return depths


def _line(group: ArtifactGroup) -> str:
    manifests = [node.last for node in group.nodes if node.last is not None]
    codes = {it.code_version for it in manifests}
    rows = "" if group.rows is None else f"{group.rows:,} rows"
    dbt = "dbt " if any("dbt" in it.parameters for it in manifests) else ""
    code = f"{dbt}code {next(iter(codes)) or 'unknown'}"[: 17 if dbt else 13] if len(codes) == 1 else dbt.strip()
    return ", ".join(filter(None, [group.what, rows, code]))


def notes(group: ArtifactGroup, model_notes: Mapping[Key, str], *, all_days: bool = False) -> Iterator[str]:
    """Yield notes about an asset: whether it was champion, differences between its days, and missing artifacts."""
    models = [node for node in group.nodes if node.key in model_notes]
    for node in models:
        yield f"{model_notes[node.key]}" if len(models) == 1 else f"@{node.key[2][:12]} {model_notes[node.key]}"
    dbt = {str(node.last.parameters["dbt"]) for node in group.nodes if node.last and "dbt" in node.last.parameters}
    if any(name.rpartition(".")[2] != group.asset.rpartition("/")[2] for name in dbt):
        yield f"dbt {', '.join(sorted(dbt))}"
    if group.reads_itself:
        yield "reads earlier versions of itself"
    for name, values in group.differences().items():
        yield f"{len(values)} {name}s: {_values(values)}"
    for node in group.bad[:_FEW]:
        yield f"! {node.key[1]} @{node.key[2][:12]} {node.state}{': ' if node.problem else ''}{node.problem}".replace(
            "!  ", "! "
        )
    if len(group.bad) > _FEW:
        yield f"! and {len(group.bad) - _FEW} more that are removed, missing or corrupt; --days lists them"
    if all_days:
        yield from (_day(node) for node in group.nodes)


def _values(values: Mapping[str, Sequence[Node]]) -> str:
    parts = []
    for value, nodes in values.items():
        short = value if "(" in value else value[:12]  # a commit may be marked as dirty
        names = (node.key[1] or f"@{node.key[2][:12]}" for node in nodes)
        parts.append(f"{short or 'unknown'} ({ranges(names, calendar_of_nodes(nodes))})")
    return "; ".join(parts[:_FEW]) + (f"; and {len(parts) - _FEW} more" if len(parts) > _FEW else "")


def _day(node: Node) -> str:
    where = f"{node.key[1] or 'whole':<12} @{node.key[2][:12]}"
    if node.last is None:
        return f"{where}  {node.state}"
    rows = "" if node.last.rows is None else f"  {node.last.rows:,} rows"
    state = "" if node.state == "present" else f"  {node.state}"
    run = f"  run {node.last.run_id[:8]}" if node.last.run_id else ""
    code = f"  code {node.last.code_version or 'unknown'}"
    return f"{where}  {node.last.created_at:%Y-%m-%d %H:%M:%S}{run}{code}{rows}{state}"


def sections(trace: Trace) -> dict[str, list[tuple[str, ...]]]:
    """Return the sections below the trees as rows: models, files, commits, environments, runs, problems."""
    nodes = trace.nodes
    forward = any(part.lineage.is_forward for part in trace.parts)
    problems = [*trace.problems, *(line for part in trace.parts for line in part.lineage.problems)]
    return {
        "models and predictions": [*_served(trace)] if forward else [],
        "sources": [(file, digest, whose(them, nodes)) for file, digest, them in trace.sources()],
        "commits": [(commit, whose(them, nodes)) for commit, them in trace.commits()],
        "environments": [*_environments(trace, nodes)],
        "runs": [(run, at, whose(them, nodes)) for run, at, them in trace.runs()],
        "problems": [(problem,) for problem in problems],
    }


def _served(trace: Trace) -> Iterator[tuple[str, ...]]:
    """Yield the most important facts about a bad artifact: the models trained with it, and their predictions."""
    yield from ((f"{node.asset}@{node.key[2][:12]}", note) for node, note in trace.models())
    for part in trace.parts:
        found = groups(part.lineage)
        yield from ((asset, _line(group)) for asset, group in found.items() if asset.endswith("/predictions"))


def _environments(trace: Trace, nodes: Mapping[Key, Node]) -> Iterator[tuple[str, ...]]:
    base = next(iter(trace.environments.values()), None)
    for digest, it in trace.environments.items():
        yield digest[:12] or "unknown", it.phrase, whose(trace.made_in(digest), nodes)
        if base is not None and (differs := it.against(base)):
            more = f" and {len(differs) - _PACKAGES} more" if len(differs) > _PACKAGES else ""
            yield "", f"against {base.digest[:12]}:", ", ".join(differs[:_PACKAGES]) + more


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows as columns; the last column is wrapped, because it may name every asset."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    for row in rows:
        lead = "  " + "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
        folded = textwrap.wrap(row[-1], max(_WIDE - len(lead), 40), break_long_words=False, break_on_hyphens=False)
        yield (lead + (folded or [""])[0]).rstrip()
        yield from (" " * len(lead) + line for line in folded[1:])
