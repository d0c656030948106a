"""A trace as one HTML page: the assets in columns, raw tables to the left, and a section for each asset.

It needs neither a network nor scripts, and follows the reader's light or dark mode. The template is
`ml_assets/templates/trace.html.jinja`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined

from ml_assets.contracts.words import counted
from ml_assets.provenance.lineage import Key
from ml_assets.provenance.tracing.groups import ArtifactGroup, commit_of, groups
from ml_assets.provenance.tracing.text import notes, printable, sections
from ml_assets.provenance.tracing.trace import Trace, TracePart

_MOST_ROWS = 5_000


@dataclass(frozen=True)
class _Box:
    """An asset of a part: its box in the graph and its section below."""

    id: str
    group: ArtifactGroup
    is_root: bool
    notes: tuple[str, ...]
    next: list["_Box"] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Its kind of asset, which has a color of its own."""
        return {"raw": "raw", "tables": "table"}.get(self.group.asset.partition("/")[0], "ml")

    @property
    def lines(self) -> list[str]:
        """Its versions and rows, and whether it is a champion now."""
        rows = [] if self.group.rows is None else [f"{self.group.rows:,} rows"]
        return [self.group.what, *rows, *(["champion now"] if any("champion now" in it for it in self.notes) else [])]

    @property
    def bad(self) -> str:
        """How many of its artifacts are removed, missing or corrupt; empty if none is."""
        states = sorted({node.state for node in self.group.bad})
        return f"{len(self.group.bad)} {' or '.join(states)}" if states else ""

    @property
    def facts(self) -> dict[str, str]:
        """What its newest artifact was built from."""
        facts = {"what": self.group.what}
        if self.group.rows is not None:
            facts["rows"] = f"{self.group.rows:,}"
        last = next((node.last for node in reversed(self.group.nodes) if node.last is not None), None)
        if last is None:
            return facts
        return {
            **facts,
            "last created": f"{last.created_at:%Y-%m-%d %H:%M:%S} UTC by run {last.run_id or 'unknown'}",
            "code": f"{last.code_version or 'unknown'} at commit {commit_of(last) or 'unknown'}",
            "environment": last.environment or "unknown",
            **{key: str(value) for key, value in last.parameters.items() if value not in (None, {}, [])},
        }


@dataclass(frozen=True)
class _Part:
    """A lineage as it is drawn: boxes in layers, from left to right."""

    heading: str
    relation: str
    boxes: list[_Box]
    layers: list[list[_Box]]
    dot: str


def render_page(trace: Trace) -> str:
    """Return the page as HTML."""
    # Names and messages come from manifests, which anybody may have written.
    jinja = Environment(
        loader=PackageLoader("ml_assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )  # fmt: skip
    model_notes = {node.key: text for node, text in trace.models()}
    return jinja.get_template("trace.html.jinja").render(
        trace=trace,
        parts=[_part(str(number), part, model_notes) for number, part in enumerate(trace.parts)],
        sections=sections(trace),
        counted=counted,
        most_rows=_MOST_ROWS,
    )


def _part(number: str, part: TracePart, model_notes: Mapping[Key, str]) -> _Part:
    found = groups(part.lineage)
    roots = {key[0] for key in part.lineage.roots}
    boxes = {
        asset: _Box(f"{number}-{place}", group, asset in roots, tuple(notes(group, model_notes)))
        for place, (asset, group) in enumerate(found.items())
    }
    for box in boxes.values():
        box.next.extend(boxes[asset] for asset in box.group.next)
    layers: list[list[_Box]] = []
    wave = [asset for asset in found if asset in roots]
    placed = {*wave}
    while wave:
        layers.append([boxes[asset] for asset in wave])
        wave = [*dict.fromkeys(it for asset in wave for it in found[asset].next if it not in placed)]
        placed |= {*wave}
    forward = part.lineage.is_forward
    edges = [(asset, other) if forward else (other, asset) for asset in found for other in found[asset].next]
    drawn = "".join(f"  {json.dumps(one)} -> {json.dumps(other)};\n" for one, other in edges)
    return _Part(
        part.heading.capitalize(),
        "read by" if forward else "reads",
        [*boxes.values()],
        layers if forward else layers[::-1],
        f"digraph {{\n  rankdir=LR;\n{drawn}}}",
    )
