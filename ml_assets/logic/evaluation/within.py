"""Compute a metric inside each group of rows, for instance each day, and average it over the groups.

It shows how well a model ranks the rows of one day. It does not reward distinguishing a good day from a bad one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ml_assets.contracts.errors import DataError

if TYPE_CHECKING:
    from ml_assets.logic.evaluation.metrics import Measure, Metric, Vector


def groups_of(metric: Metric, rows: pl.DataFrame) -> NDArray[np.int64] | None:
    """Return the group of each row; None for a metric over all rows.

    Raises:
        DataError: The rows lack the column.
    """
    if metric.within is None:
        return None
    if metric.within not in rows.columns:
        message = f"metric '{metric.name}' needs column '{metric.within}'; the rows have {', '.join(rows.columns)}."
        raise DataError(message)
    return rows[metric.within].rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


class Groups:
    """The rows of each group, and the metric on each group alone.

    Attributes:
        alone: (groups,) the metric on each group; NaN if it is not defined there (for instance, a single class).
    """

    def __init__(
        self, prepare: Callable[[ArrayLike, ArrayLike], Measure], truth: ArrayLike, scores: ArrayLike, groups: ArrayLike
    ) -> None:
        """Prepare the metric for each group."""
        actual, given = np.asarray(truth), np.asarray(scores)
        index = np.unique(np.asarray(groups), return_inverse=True)[1]
        if index.shape != (len(actual),):
            raise DataError(f"the groups have shape {index.shape}; expected ({len(actual)},), one group per row.")
        self._order = np.argsort(index, kind="stable")
        self._sizes = np.bincount(index)
        self._ends = np.cumsum(self._sizes)
        self._parts = [
            prepare(actual[rows], given[rows]) for rows in np.split(self._order, self._ends[:-1]) if len(rows)
        ]
        self.alone = np.array(
            [_defined(part, np.ones(size)) for part, size in zip(self._parts, self._sizes, strict=True)]
        )

    def mean(self, weights: Vector) -> float:
        """Return the mean over the groups on which the metric is defined; NaN if there are none.

        A group counts by the mean weight of its rows, however many it has. The metric of a group is measured again only
        if the weights of its rows differ.
        """
        ordered, starts = weights[self._order], self._ends - self._sizes
        shares = np.add.reduceat(ordered, starts) / self._sizes
        values = self.alone.copy()
        is_mixed = np.minimum.reduceat(ordered, starts) < np.maximum.reduceat(ordered, starts)
        for group in np.flatnonzero(is_mixed):
            values[group] = _defined(self._parts[group], ordered[starts[group] : self._ends[group]])
        counts = shares * np.isfinite(values)
        total = float(counts.sum())
        return float((counts * np.nan_to_num(values)).sum()) / total if total > 0 else float("nan")


def _defined(measure: Measure, weights: Vector) -> float:
    try:
        return measure(weights)
    except DataError:
        return float("nan")
