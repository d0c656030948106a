"""Distances between two distributions, from counts over the same cells: PSI, Kolmogorov-Smirnov, Wasserstein.

Not here: which distributions are compared (see `ml_assets.logic.monitoring.drift`).
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
"""From this number of values on, looking up the cell of each value is faster than sorting all values."""
_BLOCK: Final = 1 << 16
"""Values that are looked up at a time, so that intermediate results fit into the processor's cache."""
_STEPS: Final = 1 << 13
"""Steps of the look-up table: about forty per edge, so that few steps contain two edges."""


@dataclass(frozen=True)
class Cells:
    """Where values lie relative to the edges of a reference.

    Attributes:
        edges: (edges,) in ascending order. A cell contains the values above the edge before, up to and including its
            own. The first cell contains the values at the first edge.
        values: Number of values.
        under: (edges,) number of values below each edge.
        up_to: (edges,) number of values below or at each edge.
        total: (edges,) sum of the values in each cell.
        total_below: Sum of the values below all edges.
        total_above: Sum of the values above all edges.
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
        """(edges,) number of values in each cell."""
        return self.up_to - np.concatenate((self.under[:1], self.up_to[:-1]))


@dataclass(frozen=True)
class Profiles:
    """The distribution functions of several columns, concatenated, so that all are compared at once.

    Attributes:
        edges: (all edges,) edges of one column after the other, at least one each.
        starts: (columns,) position of each column's first edge.
        share_under: (all edges,) distribution function just below each edge.
        share_up_to: (all edges,) distribution function at each edge.
        lift: (all edges,) area that the values inside each cell add under the distribution function.
        beyond: (columns,) area between the distribution function and 0 below all edges, plus between it and 1 above all
            edges.
    """

    edges: Vector
    starts: Counts
    share_under: Vector
    share_up_to: Vector
    lift: Vector
    beyond: Vector

    @classmethod
    def of(cls, columns: Sequence[Cells]) -> Profiles:
        """Return the profiles of columns; NaN for a column without values."""
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
    """Return the values, sorted, without missing ones."""
    values = np.sort(column.cast(pl.Float64).to_numpy())
    if len(values) == 0 or not math.isnan(values[-1]):
        return values
    return values[: int(values.searchsorted(np.nan, side="left"))]


def count_cells(column: pl.Series, edges: Vector) -> Cells:
    """Return where the values of a column lie relative to the edges; missing values are ignored."""
    if column.len() < MANY or len(edges) == 0:
        return count_sorted(sorted_values(column), edges)
    return count_unsorted(column, edges)


def count_sorted(values: Vector, edges: Vector) -> Cells:
    """Return where sorted values lie relative to the edges."""
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
        # Most days lie within the reference, and a sum of no values costs as much as a sum of a hundred.
        below = float(values[:first].sum()) if first else 0.0
        above = float(values[last:].sum()) if last < len(values) else 0.0
        return Cells(edges, len(values), under, up_to, total, below, above)


def count_unsorted(column: pl.Series, edges: Vector) -> Cells:
    """Return where unsorted values lie relative to the edges, in a sixth of the time that sorting a million takes.

    Counts are exact. Sums are added in the order of the rows, block by block.
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
            # Each value is counted by two facts: its cell, and whether it is equal to the cell's edge.
            counts += np.bincount(2 * cell + (values == closed[cell]), minlength=len(counts))
        inside, at_edge = counts.reshape(-1, 2).T
        up_to = (inside + at_edge).cumsum()
        at_first = edges[0] * at_edge[0] if at_edge[0] else 0.0
        # The first cell of the look-up holds the values below and at the first edge. If none is below, the result is
        # exactly 0.
        below = float(total[0] - at_first) if inside[0] else 0.0
    under = up_to - at_edge
    return Cells(
        edges, int(up_to[-1]), under[:-1], up_to[:-1], np.append(at_first, total[1:-1]), below, float(total[-1])
    )


def _look_up(edges: Vector) -> Callable[[Vector], Counts]:
    """Return a function that counts the edges below each value, by a look-up table and one comparison.

    Edges and values are mapped to steps by the same increasing function. An edge on a lower step is below the value.
    The edge on the value's own step is compared with it. If a step contains two edges, a binary search decides.
    """
    # The outermost edges have their own steps, so that an outlier does not make all other steps coarse.
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

    The formula is from Siddiqi 2006, Credit Risk Scorecards. It is infinite if a bin is empty on one side only. Such a
    bin counts as half a row. Counts are (..., bins), and not all 0. A share of the day is never taken as less than half
    a row of `most_rows`.
    """
    is_filled = reference + day > 0
    rows = day.sum(axis=-1, keepdims=True)
    p = np.maximum(reference, 0.5) / reference.sum(axis=-1, keepdims=True)
    q = np.maximum(day / rows, 0.5 / np.minimum(rows, most_rows))
    parts = np.multiply(q - p, np.log(q / p), out=np.zeros_like(q), where=is_filled)
    total: Vector = parts.sum(axis=-1)
    return total


def sampling_psi(reference: Counts, day: Counts) -> Vector:
    """Return the mean PSI of two samples of one distribution: about (bins - 1) (1/n + 1/m) for n and m rows.

    Source: Yurdakul 2018, Statistical Properties of Population Stability Index. Only bins with rows in the reference
    count. Counts are (..., bins), and not all 0.
    """
    expected: Vector = (np.count_nonzero(reference, axis=-1) - 1) * (1 / reference.sum(axis=-1) + 1 / day.sum(axis=-1))
    return expected


def kolmogorov_smirnov(known: Profiles, seen: Profiles) -> Vector:
    """Return (columns,) the largest difference of the distribution functions, at the edges and just below them."""
    under, up_to = known.share_under - seen.share_under, known.share_up_to - seen.share_up_to
    gaps: Vector = np.maximum.reduceat(np.maximum(np.abs(under), np.abs(up_to)), known.starts)
    return gaps


def wasserstein(known: Profiles, seen: Profiles, spreads: Vector) -> Vector:
    """Return (columns,) the area between the distribution functions, in standard deviations; NaN if not defined.

    In a cell from a to b, the area under a distribution function is F(a) (b - a) plus the mean of b - x over its rows.

    Args:
        known: The reference's values, all within the edges.
        seen: The day's values.
        spreads: (columns,) the reference's standard deviations; NaN if not defined.
    """
    with np.errstate(all="ignore"):
        gap = (known.share_up_to - seen.share_up_to)[:-1] * (known.edges[1:] - known.edges[:-1])
        inside = np.zeros(len(known.edges))
        inside[1:] = np.abs(gap + known.lift[1:] - seen.lift[1:])
        inside[known.starts] = 0.0
        area = np.add.reduceat(inside, known.starts) + seen.beyond
        found = np.where(np.isfinite(area) & (spreads > 0), area / spreads, np.nan)
    return np.where(area == 0, 0.0, found)


def psi_beyond_sampling(reference: Counts, days: Counts, usual_rows: float) -> Vector:
    """Return the PSI of days, less what sampling error alone explains; at least 0.

    On a single day, a column that has one value for all rows (such as a temperature) leaves most bins empty. An empty
    bin counts as half a row, which is a smaller share the more rows there are. The same values would therefore give a
    higher PSI on a day with more rows. To avoid that, no share is taken as less than half a row of a usual day. Counts
    are (..., bins), and not all 0; `usual_rows` is the median number of rows of the reference's own days.
    """
    beyond: Vector = np.maximum(psi(reference, days, most_rows=usual_rows) - sampling_psi(reference, days), 0.0)
    return beyond


def count_categories(column: pl.Series) -> tuple[pl.Series, Counts]:
    """Return the categories as text (null if missing), and the number of rows of each."""
    counts = column.alias("category").value_counts(name="rows")
    return counts.get_column("category").cast(pl.String), counts.get_column("rows").cast(pl.Int64).to_numpy()


def by_bin(cells: Cells, last_of_bin: Counts, missing: int) -> Counts:
    """Return (bins + 3,) rows: below the reference's range, in each bin, above the range, and missing.

    If the reference has no values, there are no bins, and no row is below the range.
    """
    up_to = np.concatenate((cells.under[:1], cells.up_to[last_of_bin], [cells.values, cells.values + missing]))
    return up_to - np.concatenate(([0], up_to[:-1]))


def side_by_side(counts: Sequence[Counts]) -> Counts:
    """Return (columns, bins); columns with fewer bins are filled with empty ones."""
    table = np.zeros((len(counts), max(map(len, counts))), dtype=np.int64)
    for row, one in zip(table, counts, strict=True):
        row[: len(one)] = one
    return table
