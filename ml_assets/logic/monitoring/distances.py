"""How far two distributions are apart, from counts over the same cells: PSI, Kolmogorov-Smirnov, Wasserstein.

What is compared with what stays out; see `ml_assets.logic.monitoring.drift` and `ml_assets.logic.monitoring.reference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Counts = NDArray[np.int64]

MANY: Final = 10_000
"""Values from which on looking up each one's cell is quicker than sorting them all."""
_BLOCK: Final = 1 << 16
"""Values looked up at a time: what is made of them on the way stays in the processor's cache."""
_STEPS: Final = 1 << 13
"""Steps of the look-up; some forty an edge, so that few steps have two."""


@dataclass(frozen=True)
class Cells:
    """How values lie to the edges of a reference.

    Attributes:
        edges: (edges,) rising; a cell is what is over the edge before and up to its own, the first what is at its own.
        values: How many there are.
        under: (edges,) how many are under each edge.
        up_to: (edges,) how many are under each edge or at it.
        total: (edges,) the sum of those in each cell.
        total_below: The sum of those under all edges.
        total_above: The sum of those over all edges.
    """

    edges: Vector
    values: int
    under: Counts
    up_to: Counts
    total: Vector
    total_below: float = 0.0
    total_above: float = 0.0

    @cached_property
    def rows(self) -> Counts:
        """(edges,) how many are in each cell."""
        return self.up_to - np.concatenate((self.under[:1], self.up_to[:-1]))


@dataclass(frozen=True)
class Profiles:
    """The distribution functions of several columns, end to end, so that all are compared at once.

    Attributes:
        edges: (all edges,) of one column after the other, each with at least one.
        starts: (columns,) the place of each column's first edge.
        share_under: (all edges,) the distribution function just under each edge.
        share_up_to: (all edges,) the distribution function at each edge.
        lift: (all edges,) the area that the values inside each cell add under the distribution function.
        beyond: (columns,) the area between the distribution function and 0 under all edges, and 1 over all of them.
    """

    edges: Vector
    starts: Counts
    share_under: Vector
    share_up_to: Vector
    lift: Vector
    beyond: Vector

    @classmethod
    def of(cls, columns: Sequence[Cells]) -> Profiles:
        """Return the profiles of columns; NaN of one without values."""
        edges, under, up_to, total = (
            np.concatenate([getattr(column, name) for column in columns])
            for name in ("edges", "under", "up_to", "total")
        )
        lengths = np.array([len(column.edges) for column in columns])
        ends = lengths.cumsum()
        starts = ends - lengths
        values = np.array([column.values for column in columns])
        below, above = (np.array([getattr(it, f"total_{name}") for it in columns]) for name in ("below", "above"))
        before = np.concatenate(([0], up_to[:-1]))
        before[starts] = under[starts]
        each = values.repeat(lengths)
        with np.errstate(all="ignore"):
            below = under[starts] * edges[starts] - below
            above = above - (values - up_to[ends - 1]) * edges[ends - 1]
            lift = ((up_to - before) * edges - total) / each
            return cls(edges, starts, under / each, up_to / each, lift, (below + above) / values)


def sorted_values(column: pl.Series) -> Vector:
    """Return the values that are there, sorted."""
    values = np.sort(column.cast(pl.Float64).to_numpy())
    if len(values) == 0 or not math.isnan(values[-1]):
        return values
    return values[: int(values.searchsorted(np.nan, side="left"))]


def count_cells(column: pl.Series, edges: Vector) -> Cells:
    """Return how the values of a column that are there lie to the edges."""
    if column.len() < MANY or len(edges) == 0:
        return count_sorted(sorted_values(column), edges)
    return count_unsorted(column, edges)


def count_sorted(values: Vector, edges: Vector) -> Cells:
    """Return how sorted values lie to the edges."""
    if len(edges) == 0:
        nothing = np.empty(0, dtype=np.int64)
        return Cells(edges, len(values), nothing, nothing, np.empty(0))
    under = values.searchsorted(edges, side="left")
    up_to = values.searchsorted(edges, side="right")
    first, last = int(under[0]), int(up_to[-1])
    starts = np.concatenate((under[:1], up_to[:-1]))
    total = np.zeros(len(edges))
    filled = up_to > starts
    with np.errstate(all="ignore"):
        if last > first:
            total[filled] = np.add.reduceat(values[:last], starts[filled])
        # Most days lie within the reference: the sum of nothing costs as much as that of a hundred values.
        below = float(values[:first].sum()) if first else 0.0
        above = float(values[last:].sum()) if last < len(values) else 0.0
        return Cells(edges, len(values), under, up_to, total, below, above)


def count_unsorted(column: pl.Series, edges: Vector) -> Cells:
    """Return how values in any order lie to the edges, in a sixth of the time that sorting a million takes.

    Counts are exact. Sums are added up in the order of the rows, block by block.
    """
    closed = np.append(edges, np.nan)
    counts = np.zeros(2 * len(closed), dtype=np.int64)
    total = np.zeros(len(closed))
    with np.errstate(all="ignore"):
        cell_of = _look_up(edges)
        for start in range(0, column.len(), _BLOCK):
            values = column.slice(start, _BLOCK).cast(pl.Float64).to_numpy()
            is_there = ~np.isnan(values)
            values = values if is_there.all() else values[is_there]
            cell = cell_of(values)
            total += np.bincount(cell, weights=values, minlength=len(total))
            # One count of pairs: the cell, and whether the value is its edge.
            counts += np.bincount(2 * cell + (values == closed[cell]), minlength=len(counts))
        inside, at_edge = counts.reshape(-1, 2).T
        up_to = (inside + at_edge).cumsum()
        at_first = edges[0] * at_edge[0] if at_edge[0] else 0.0
        # Under the first edge and at it is one cell of the look-up; where nothing is under, nothing must remain.
        below = float(total[0] - at_first) if inside[0] else 0.0
    under = up_to - at_edge
    return Cells(
        edges, int(up_to[-1]), under[:-1], up_to[:-1], np.append(at_first, total[1:-1]), below, float(total[-1])
    )


def _look_up(edges: Vector) -> Callable[[Vector], Counts]:
    """Return what tells how many edges are under each value: the step it is on, and one comparison.

    A value's step is a rising function of it, of edges and values alike. So an edge on a lower step is under the value;
    the one edge that may be on its own step is compared with it, and where there are two on a step, a search decides.
    """
    # The outermost edges have steps of their own, so that an outlier does not coarsen all others.
    low, high = (edges[1], edges[-2]) if len(edges) > 2 else (edges[0], edges[-1])
    scale = _STEPS / (high - low)
    start = low - 1.5 / scale
    if not (math.isfinite(scale) and scale > 0 and math.isfinite(start)):
        return lambda values: edges.searchsorted(values, side="left")

    def step_of(values: Vector) -> Counts:
        steps: Vector = values - start
        steps *= scale
        return np.clip(steps, 0, _STEPS + 2, out=steps).astype(np.int64)

    own = step_of(edges)
    on_step = np.bincount(own, minlength=_STEPS + 3)
    lower = on_step.cumsum() - on_step
    edge = np.full(_STEPS + 3, np.inf)
    edge[own] = edges
    is_crowded = on_step > 1
    is_any_crowded = bool(is_crowded.any())

    def cell_of(values: Vector) -> Counts:
        steps = step_of(values)
        cells = lower[steps]
        cells += values > edge[steps]
        if is_any_crowded:
            crowded = np.flatnonzero(is_crowded[steps])
            cells[crowded] = edges.searchsorted(values[crowded], side="left")
        return cells

    return cell_of


def psi(reference: Counts, day: Counts, *, most_rows: float = math.inf) -> Vector:
    """Return the Population Stability Index: the sum over bins of (q - p) ln(q / p) of shares p and q.

    The formula is that of Siddiqi 2006, Credit Risk Scorecards. It is infinite where a bin is empty on one side only:
    such a bin counts as half a row.

    Args:
        reference: (..., bins) counts; not all 0.
        day: (..., bins) counts; not all 0.
        most_rows: No share of the day is taken for less than half a row of so many.
    """
    is_filled = reference + day > 0
    rows = day.sum(axis=-1, keepdims=True)
    p = np.maximum(reference, 0.5) / reference.sum(axis=-1, keepdims=True)
    q = np.maximum(day / rows, 0.5 / np.minimum(rows, most_rows))
    parts = np.multiply(q - p, np.log(q / p), out=np.zeros_like(q), where=is_filled)
    total: Vector = parts.sum(axis=-1)
    return total


def sampling_psi(reference: Counts, day: Counts) -> Vector:
    """Return the PSI to expect of two samples of one distribution, about (bins - 1) (1/n + 1/m) of n and m rows.

    Yurdakul 2018, Statistical Properties of Population Stability Index. Bins are those that the reference has rows in.

    Args:
        reference: (..., bins) counts; not all 0.
        day: (..., bins) counts; not all 0.
    """
    expected: Vector = (np.count_nonzero(reference, axis=-1) - 1) * (1 / reference.sum(axis=-1) + 1 / day.sum(axis=-1))
    return expected


def kolmogorov_smirnov(known: Profiles, seen: Profiles) -> Vector:
    """Return (columns,) the largest gap between the distribution functions, at the edges and just under them."""
    under, up_to = known.share_under - seen.share_under, known.share_up_to - seen.share_up_to
    gaps: Vector = np.maximum.reduceat(np.maximum(np.abs(under), np.abs(up_to)), known.starts)
    return gaps


def wasserstein(known: Profiles, seen: Profiles, spreads: Vector) -> Vector:
    """Return (columns,) the area between the distribution functions in standard deviations, NaN where there is no such.

    In a cell from a to b the area under a distribution function is F(a) (b - a) plus the mean of b - x over its rows.

    Args:
        known: The reference's values, none of them beyond the edges.
        seen: The day's values.
        spreads: (columns,) the reference's standard deviations; NaN where there is none.
    """
    with np.errstate(all="ignore"):
        gap = (known.share_up_to - seen.share_up_to)[:-1] * (known.edges[1:] - known.edges[:-1])
        inside = np.zeros(len(known.edges))
        inside[1:] = np.abs(gap + known.lift[1:] - seen.lift[1:])
        inside[known.starts] = 0.0
        area = np.add.reduceat(inside, known.starts) + seen.beyond
        found = np.where(np.isfinite(area) & (spreads > 0), area / spreads, np.nan)
    return np.where(area == 0, 0.0, found)
