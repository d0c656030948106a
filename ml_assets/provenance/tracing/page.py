"""A trace as one HTML page: a graph from raw files to the traced artifact, and a section for each asset.

It needs neither a network nor scripts, and follows the reader's light or dark mode. Not here: the positions of boxes
(see `ml_assets.provenance.tracing.layout`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from ml_assets.provenance.lineage import Key, Node
from ml_assets.provenance.tracing.groups import ArtifactGroup, commit_of, groups
from ml_assets.provenance.tracing.layout import layout
from ml_assets.provenance.tracing.text import notes, printable, sections
from ml_assets.provenance.tracing.trace import Trace, TracePart

_LETTER = 7.7
_NARROWEST = 120.0
_LINE = 16.0
_PADDING = 11.0
_SMALLEST = 0.75
_MOST_DAYS = 5_000

_STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1d2430; --soft: #5b6573; --line: #d9dde3; --card: #ffffff;
  --edge: #9aa5b4;
  --raw: #b45309; --table: #2563a8; --ml: #6d4bb3; --root: #0b7a5c; --bad: #c02637; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --ink: #e6e9ee; --soft: #9aa4b2; --line: #2f3641;
  --card: #1c2128; --edge: #5d6877;
  --raw: #f0a04b; --table: #6cb0f2; --ml: #b79cf0; --root: #45c9a0; --bad: #ff7b87; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 32px; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1, dl, p, details, .rows { max-width: 1180px; }
h1 { font-size: 23px; line-height: 1.3; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 36px 0 12px; }
h3 { font-size: 15px; margin: 28px 0 6px; padding-top: 12px; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
a { color: inherit; }
.graph { overflow-x: auto; margin: 0 -32px; padding: 8px 32px 16px; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px/1 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; fill: var(--soft); }
svg text.name { font-weight: 600; fill: var(--ink); }
svg text.bad { fill: var(--bad); }
svg rect { fill: var(--card); stroke: var(--line); }
svg .bar { stroke: none; }
svg .raw .bar { fill: var(--raw); } svg .table .bar { fill: var(--table); } svg .ml .bar { fill: var(--ml); }
svg .root .bar { fill: var(--root); } svg .root .card { stroke: var(--root); stroke-width: 2; }
svg .broken .card { stroke: var(--bad); stroke-width: 2; stroke-dasharray: 5 4; }
svg path { fill: none; stroke: var(--edge); stroke-width: 1.4; }
svg marker path { fill: var(--edge); stroke: none; }
svg a:hover .card, svg a:focus .card { stroke: var(--ink); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: 4px 28px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
td:last-child { white-space: normal; }
td.number, th.number { text-align: right; }
code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
details { margin: 8px 0 0; } summary { cursor: pointer; color: var(--soft); }
.bad { color: var(--bad); }
.rows { overflow-x: auto; }
"""


def render_page(trace: Trace) -> str:
    """Return the page as HTML."""
    model_notes = {node.key: text for node, text in trace.models()}
    body = [f"<h1>{_text(trace.title)}</h1>", _facts(trace.facts.items())]
    problems = sections(trace)["problems"]
    body += [f'<p class="bad">{_text(cell)}</p>' for row in problems for cell in row]
    for number, part in enumerate(trace.parts):
        found = groups(part.lineage)
        body += [f"<h2>{_text(part.heading.capitalize())}</h2>", _graph(number, part, found, model_notes)]
    body += [_section(heading, rows) for heading, rows in sections(trace).items() if rows and heading != "problems"]
    body.append("<h2>Artifacts</h2>")
    for number, part in enumerate(trace.parts):
        for place, group in enumerate(groups(part.lineage).values()):
            body += _details(f"{number}-{place}", group, model_notes)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(trace.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _text(text: object) -> str:
    return escape(printable(str(text)))


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>" for name, text in pairs) + "</dl>"


def _section(heading: str, rows: Sequence[tuple[str, ...]]) -> str:
    lines = ("".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<h2>{_text(heading.capitalize())}</h2>\n<div class="rows"><table>{body}</table></div>'


def _graph(number: int, part: TracePart, found: Mapping[str, ArtifactGroup], model_notes: Mapping[Key, str]) -> str:
    """Return a lineage's graph, raw to the left."""
    lines = {asset: _lines(group, model_notes) for asset, group in found.items()}
    sizes = {
        asset: (
            max(_NARROWEST, _LETTER * max(map(len, them)) + 2 * _PADDING + 4),
            _LINE * len(them) + 2 * _PADDING - 4,
        )
        for asset, them in lines.items()
    }
    forward = part.lineage.is_forward
    edges = [(asset, to) if forward else (to, asset) for asset, group in found.items() for to in group.next]
    placed = layout(sizes, edges)
    roots = {key[0] for key in part.lineage.roots}
    places = {asset: place for place, asset in enumerate(found)}
    drawn = [f'<path d="{_curve(points)}" marker-end="url(#arrow{number})"/>' for points in placed.lines.values()]
    for asset, (x, y) in placed.at.items():
        drawn.append(
            _box(f"{number}-{places[asset]}", found[asset], lines[asset], (x, y, *sizes[asset]), asset in roots)
        )
    width, height = placed.width + 8, placed.height + 8
    return (
        f'<div class="graph"><svg style="max-width:{width:.0f}px;min-width:{_SMALLEST * width:.0f}px" '
        f'viewBox="-4 -4 {width:.0f} {height:.0f}" role="img" aria-label="{_text(part.heading)}">'
        f'<defs><marker id="arrow{number}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>' + "".join(drawn) + "</svg></div>"
    )


def _lines(group: ArtifactGroup, model_notes: Mapping[Key, str]) -> list[str]:
    """Return the lines in an asset's box."""
    above, _, name = group.asset.rpartition("/")
    first, *rest = group.what.split(", ", 1)
    lines = (
        [above or "asset", name, *first.split(" ", 1), *rest]
        if "@" in first
        else [above or "asset", name, first, *rest]
    )
    if group.rows is not None:
        lines.append(f"{group.rows:,} rows")
    served = [model_notes[node.key] for node in group.nodes if node.key in model_notes]
    if any(text.startswith("champion now") for text in served):
        lines.append("champion now")
    if group.bad:
        states = sorted({node.state for node in group.bad})
        lines.append(f"{len(group.bad)} {' or '.join(states)}")
    return [line if len(line) <= 44 else f"{line[:43]}…" for line in map(printable, lines)]


def _box(
    name: str,
    group: ArtifactGroup,
    lines: Sequence[str],
    place: tuple[float, float, float, float],
    is_root: bool,  # noqa: FBT001 - one of five facts of a box
) -> str:
    x, y, width, height = place
    kind = "raw" if group.asset.startswith("raw/") else "table" if group.asset.startswith("tables/") else "ml"
    classes = f"{kind}{' root' if is_root else ''}{' broken' if group.bad else ''}"
    texts = "".join(
        f'<text x="{x + _PADDING + 6:.1f}" y="{y + _PADDING + 9 + _LINE * number:.1f}"'
        f"{_class(number, len(lines), bool(group.bad))}>{escape(line)}</text>"
        for number, line in enumerate(lines)
    )
    return (
        f'<a id="g{name}" href="#n{name}"><g class="{classes}"><title>{_text(group.asset)}</title>'
        f'<rect class="card" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="7"/>'
        f'<rect class="bar" x="{x + 1:.1f}" y="{y + 8:.1f}" width="4" height="{height - 16:.1f}" rx="2"/>'
        f"{texts}</g></a>"
    )


def _class(number: int, count: int, is_bad: bool) -> str:  # noqa: FBT001 - as above
    return ' class="name"' if number == 1 else ' class="bad"' if is_bad and number == count - 1 else ""


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Return a curve that is level at the boxes and through the layers between them."""
    (x, y), *rest = points
    path = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in rest:
        middle = (x + to_x) / 2
        path.append(f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    return "".join(path)


def _details(name: str, group: ArtifactGroup, model_notes: Mapping[Key, str]) -> Iterator[str]:
    """Yield an asset's section: what its artifacts have in common, then each artifact."""
    yield f'<h3 id="n{name}"><a href="#g{name}">{_text(group.asset)}</a></h3>'
    last = next((node.last for node in reversed(group.nodes) if node.last is not None), None)
    facts = {"what": group.what}
    if group.rows is not None:
        facts["rows"] = f"{group.rows:,}"
    if last is not None:
        facts |= {
            "last made": f"{last.created_at:%Y-%m-%d %H:%M:%S} UTC by run {last.run_id or 'unknown'}",
            "code": f"{last.code_version or 'unknown'} at commit {commit_of(last) or 'unknown'}",
            "environment": last.environment or "unknown",
        }
        facts |= {key: str(value) for key, value in last.parameters.items() if value not in (None, {}, [])}
    yield _facts(facts.items())
    yield from (f"<p{_bad(line)}>{_text(line)}</p>" for line in notes(group, model_notes))
    yield f"<details><summary>{len(group.nodes):,} artifact{'s' if len(group.nodes) > 1 else ''}</summary>"
    yield '<div class="rows"><table><tr><th>Partition</th><th>Version</th><th>Made</th><th>Run</th><th>Code</th>'
    yield '<th class="number">Rows</th><th>State</th></tr>'
    yield from map(_row, group.nodes[:_MOST_DAYS])
    yield "</table></div>"
    if len(group.nodes) > _MOST_DAYS:
        yield f"<p>and {len(group.nodes) - _MOST_DAYS:,} more; <code>ml-assets trace --json</code> lists all.</p>"
    yield "</details>"


def _bad(line: str) -> str:
    return ' class="bad"' if line.startswith("!") else ""


def _row(node: Node) -> str:
    made = node.last
    cells = [node.key[1] or "–", f"{node.key[2][:12]}"]
    if made is None:
        cells += ["", "", "", ""]
    else:
        cells += [f"{made.created_at:%Y-%m-%d %H:%M:%S}", (made.run_id or "")[:8], made.code_version or ""]
        cells.append("" if made.rows is None else f"{made.rows:,}")
    state = f"{node.state}{f': {node.problem}' if node.problem else ''}"
    plain = "".join(f"<td>{_text(cell)}</td>" for cell in cells[:-1])
    bad = _bad("!" if node.state != "kept" else "")
    return f'<tr>{plain}<td class="number">{_text(cells[-1])}</td><td{bad}>{_text(state)}</td></tr>'
