"""Computes positions of a graph's boxes and lines: layers from left to right, with few crossings.

The method is that of Sugiyama, Tagawa and Toda (1981): layers by the longest path, a point in every layer that a line
crosses, then sweeps that put each box near the middle of its neighbours. Not here: drawing (see
`ml_assets.provenance.tracing.page`).
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

Box = str | tuple[str, str, int]
"""The name of a box, or a point of the line from one box to another in a layer between them."""

_SWEEPS = 12
_STARTS = 24
_SMALL = 200
_GAP = 24.0
_LINE_GAP = 15.0
_LAYER_GAP = 44.0


@dataclass(frozen=True)
class Layout:
    """Positions in pixels. A box is given by its upper left corner.

    Attributes:
        at: the position of each box.
        lines: for each pair, the points of its line, from box edge to box edge.
    """

    at: Mapping[str, tuple[float, float]]
    lines: Mapping[tuple[str, str], Sequence[tuple[float, float]]]
    width: float
    height: float


def layout(sizes: Mapping[str, tuple[float, float]], edges: Iterable[tuple[str, str]]) -> Layout:
    """Place boxes so that lines run from left to right. A line that closes a cycle runs back.

    Args:
        sizes: the width and height of each box.
        edges: pairs of boxes, from left to right.
    """
    pairs = {(a, b) for a, b in edges if a != b and a in sizes and b in sizes}
    turned = _backward(sizes, sorted(pairs))
    forward = sorted({(b, a) if (a, b) in turned else (a, b) for a, b in pairs})
    layer = _layers(sizes, forward)
    chains: dict[tuple[str, str], list[Box]] = {
        (a, b): [a, *((a, b, at) for at in range(layer[a] + 1, layer[b])), b] for a, b in forward
    }
    rows, links = _rows(layer, chains)
    _sweep(rows, links)
    middle = _heights(rows, links, sizes)
    widths = [max((sizes[box][0] for box in row if isinstance(box, str)), default=0.0) for row in rows]
    left = [sum(widths[:at]) + _LAYER_GAP * at for at in range(len(rows))]
    at = {
        box: (left[place], middle[box] - sizes[box][1] / 2)
        for place, row in enumerate(rows) for box in row if isinstance(box, str)
    }  # fmt: skip
    lines: dict[tuple[str, str], Sequence[tuple[float, float]]] = {}
    for (a, b), chain in chains.items():
        points = [(at[a][0] + sizes[a][0], middle[a])]
        for place, box in enumerate(chain[1:-1], start=layer[a] + 1):
            points += [(left[place], middle[box]), (left[place] + widths[place], middle[box])]
        points.append((at[b][0], middle[b]))
        lines |= {(a, b): points} if (a, b) in pairs - turned else {}
        lines |= {(b, a): points[::-1]} if (b, a) in turned else {}
    width = max((x + sizes[box][0] for box, (x, _) in at.items()), default=0.0)
    height = max((y + sizes[box][1] for box, (_, y) in at.items()), default=0.0)
    return Layout(at, lines, width, max([height, *(y for points in lines.values() for _, y in points)]))


def _backward(boxes: Iterable[str], pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the pairs that close a cycle, found by a depth-first search without recursion."""
    after: dict[str, list[str]] = {}
    for a, b in pairs:
        after.setdefault(a, []).append(b)
    open_, done, found = set[str](), set[str](), set[tuple[str, str]]()
    for start in sorted(boxes):
        path = [] if start in done else [(start, iter(after.get(start, ())))]
        open_.update(box for box, _ in path)
        while path:
            box, rest = path[-1]
            step = next(rest, None)
            if step is None:
                path.pop()
                open_.discard(box)
                done.add(box)
            elif step in open_:
                found.add((box, step))
            elif step not in done:
                open_.add(step)
                path.append((step, iter(after.get(step, ()))))
    return found


def _layers(boxes: Iterable[str], pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the layer of each box: one more than the highest of its predecessors."""
    before: dict[str, int] = dict.fromkeys(boxes, 0)
    after: dict[str, list[str]] = {}
    for a, b in pairs:
        before[b] += 1
        after.setdefault(a, []).append(b)
    layer = dict.fromkeys(before, 0)
    ready = [box for box, count in before.items() if not count]
    while ready:
        box = ready.pop()
        for step in after.get(box, ()):
            layer[step] = max(layer[step], layer[box] + 1)
            before[step] -= 1
            if not before[step]:
                ready.append(step)
    return layer


def _rows(
    layer: Mapping[str, int], chains: Mapping[tuple[str, str], Sequence[Box]]
) -> tuple[list[list[Box]], dict[Box, tuple[list[Box], list[Box]]]]:
    """Return the boxes and points of each layer, and the neighbours of each on both sides."""
    rows: list[list[Box]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    links: dict[Box, tuple[list[Box], list[Box]]] = {box: ([], []) for box in layer}
    for name, place in sorted(layer.items()):
        rows[place].append(name)
    for chain in chains.values():
        for place, box in enumerate(chain[1:-1], start=layer[str(chain[0])] + 1):
            rows[place].append(box)
            links[box] = ([], [])
        for one, other in pairwise(chain):
            links[one][1].append(other)
            links[other][0].append(one)
    return rows, links


def _sweep(rows: list[list[Box]], links: Mapping[Box, tuple[list[Box], list[Box]]]) -> None:
    """Order each layer by the middle of its neighbours, in both directions; use the order with fewest crossings.

    Sweeps find only a local optimum, so a graph that fits a screen is tried from several starts.
    """
    best, fewest = [[*row] for row in rows], _crossings(rows, links)
    chance = random.Random(0)  # noqa: S311 - the same graph is drawn the same every time
    for start in range(_STARTS if len(links) <= _SMALL else 1):
        for row in rows if start else []:
            chance.shuffle(row)
        for sweep in range(_SWEEPS):
            side = sweep % 2
            for place in range(1, len(rows)) if side == 0 else range(len(rows) - 2, -1, -1):
                rank = {box: number for number, box in enumerate(rows[place - 1 if side == 0 else place + 1])}
                own = {box: number for number, box in enumerate(rows[place])}
                middle = {box: fmean([rank[it] for it in links[box][side]] or [own[box]]) for box in own}
                rows[place].sort(key=middle.__getitem__)
            _swap(rows, links)
            if (crossings := _crossings(rows, links)) < fewest:
                best, fewest = [[*row] for row in rows], crossings
        if not fewest:
            break
    rows[:] = best


def _swap(rows: Sequence[list[Box]], links: Mapping[Box, tuple[list[Box], list[Box]]]) -> None:
    """Swap neighbours in a layer if that reduces crossings, which sweeps do not detect."""
    rank = {box: number for row in rows for number, box in enumerate(row)}
    for row in rows:
        for number in range(len(row) - 1):
            one, other = row[number], row[number + 1]
            now, then = 0, 0
            for side in (0, 1):
                for a in links[one][side]:
                    for b in links[other][side]:
                        now += rank[a] > rank[b]
                        then += rank[a] < rank[b]
            if then < now:
                row[number], row[number + 1] = other, one
                rank[one], rank[other] = number + 1, number


def _crossings(rows: Sequence[Sequence[Box]], links: Mapping[Box, tuple[list[Box], list[Box]]]) -> int:
    count = 0
    for row, following in pairwise(rows):
        rank = {box: number for number, box in enumerate(following)}
        seen: list[int] = []
        for box in row:
            ends = [rank[it] for it in links[box][1]]
            count += sum(1 for end in ends for other in seen if other > end)
            seen += ends
    return count


def _heights(
    rows: Sequence[Sequence[Box]],
    links: Mapping[Box, tuple[list[Box], list[Box]]],
    sizes: Mapping[str, tuple[float, float]],
) -> dict[Box, float]:
    """Return the middle of each box and point: near its neighbours, in the order of its layer, without overlap."""

    def half(box: Box) -> float:
        return sizes[box][1] / 2 if isinstance(box, str) else 0.0

    def apart(one: Box, other: Box) -> float:
        gap = _GAP if isinstance(one, str) or isinstance(other, str) else _LINE_GAP
        return half(one) + half(other) + gap * (1.0 if isinstance(one, str) and isinstance(other, str) else 0.6)

    middle: dict[Box, float] = {}
    for row in rows:
        y = 0.0
        for number, box in enumerate(row):
            y += apart(row[number - 1], box) if number else half(box)
            middle[box] = y
    for sweep in range(2 * _SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wish = [fmean([middle[it] for side in links[box] for it in side] or [middle[box]]) for box in row]
            middle |= zip(row, _spread(wish, [apart(a, b) for a, b in pairwise(row)]), strict=True)
    top = min((middle[box] - half(box) for row in rows for box in row), default=0.0)
    return {box: y - top for box, y in middle.items()}


def _spread(wish: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Return the positions nearest to the wishes, in order and at least the gaps apart (least squares).

    Neighbours that are too close are merged into a block at their mean: pool adjacent violators.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    blocks: list[tuple[float, int]] = []
    for place, offset in zip(wish, offsets, strict=False):
        mean, count = place - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, size = blocks.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        blocks.append((mean, count))
    level = [mean for mean, count in blocks for _ in range(count)]
    return [place + offset for place, offset in zip(level, offsets, strict=False)]
