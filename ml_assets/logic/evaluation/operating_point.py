"""Precision, recall and lift at an operating point: on the rows with the highest scores, or above a threshold.

Not here: metrics of all rows (see `ml_assets.logic.evaluation.metrics`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_assets.contracts.artifacts import OperatingPoint
from ml_assets.logic.evaluation.metrics import OPERATING, Measure, Metric, Vector


@dataclass(frozen=True, kw_only=True)
class OperatingMetric(Metric):
    """A metric of the rows that are acted on."""

    point: OperatingPoint

    def measure(self, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> Measure:
        """Return the metric as a function of row weights. Which rows are acted on does not depend on the weights."""
        return self.prepare(truth, acted_on(self.point, scores, groups))

    def kinds_of(self, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> NDArray[np.int64]:
        """Return the kind of each row. The groups only decide which rows are acted on."""
        acted = acted_on(self.point, scores, groups)
        return np.zeros(len(acted), dtype=np.int64) if self.kinds is None else self.kinds(truth, acted)


def operating_metrics(point: OperatingPoint | None) -> tuple[Metric, ...]:
    """Return precision, recall and lift at a point; empty without a point."""
    if point is None:
        return ()
    return tuple(
        OperatingMetric(
            name=it.name, title=it.title, tasks=("binary",), higher_is_better=True, prepare=it.prepare,
            kinds=it.kinds, needs=it.needs, within=point.within, point=point,
        )
        for it in OPERATING.values()
    )  # fmt: skip


def acted_on(point: OperatingPoint, scores: ArrayLike, groups: ArrayLike | None) -> Vector:
    """Return how much of each row is acted on: 1, 0, or the same fraction of all rows that tie at the cut.

    Of n rows of a group, a share s is s * n rows, rounded, at least one.
    """
    given = np.asarray(scores, dtype=np.float64)
    if point.threshold is not None:
        return (given >= point.threshold).astype(np.float64)
    acted = np.zeros(len(given))
    index = np.zeros(len(given), dtype=np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    for rows in np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1]):
        wanted = max(1, int(np.floor((point.top_share or 0.0) * len(rows) + 0.5)))
        cut = np.sort(given[rows])[-wanted]
        above, ties = given[rows] > cut, given[rows] == cut
        acted[rows] = above + ties * ((wanted - above.sum()) / ties.sum())
    return acted
