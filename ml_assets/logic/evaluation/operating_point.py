"""Precision, recall and lift at an operating point: on the rows with the highest scores, or above a threshold.

Not here: metrics of all rows (see `ml_assets.logic.evaluation.metrics`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_assets.contracts.artifacts import OperatingPoint
from ml_assets.logic.evaluation.metrics import (
    METRICS,
    Measure,
    Metric,
    Vector,
    absent_class,
    checked_binary,
    class_of_each,
    metric_among,
)


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


def _only_positives(truth: ArrayLike, acted_on: ArrayLike) -> NDArray[np.int64]:
    return class_of_each(truth, acted_on) - 1


def _only_acted_on(truth: ArrayLike, acted_on: ArrayLike) -> NDArray[np.int64]:
    del truth
    return np.where(np.asarray(acted_on) > 0, 0, -1)


def _prepare_precision(truth: ArrayLike, acted_on: ArrayLike) -> Measure:
    """Return the share of positives among the rows that are acted on."""
    actual, acted = checked_binary("precision", truth, acted_on, probabilities=True)
    return _ratio("precision", acted * actual, acted, "a row that is acted on")


def _prepare_recall(truth: ArrayLike, acted_on: ArrayLike) -> Measure:
    """Return the share of the positives that are acted on."""
    actual, acted = checked_binary("recall", truth, acted_on, probabilities=True)
    return _ratio("recall", acted * actual, actual, "the positive class")


def _prepare_lift(truth: ArrayLike, acted_on: ArrayLike) -> Measure:
    """Return the share of positives among rows that are acted on, divided by their share among all rows."""
    precision, share = _prepare_precision(truth, acted_on), _ratio("lift", truth, np.ones_like(truth), "any row")

    def measure(weights: Vector) -> float:
        positives = share(weights)
        if positives <= 0:
            raise absent_class("lift", "the positive class")
        return precision(weights) / positives

    return measure


def _ratio(name: str, some: ArrayLike, among: ArrayLike, needed: str) -> Measure:
    above, below = np.asarray(some, dtype=np.float64), np.asarray(among, dtype=np.float64)

    def measure(weights: Vector) -> float:
        total = float((weights * below).sum())
        if total <= 0:
            raise absent_class(name, needed)
        return float((weights * above).sum()) / total

    return measure


_OPERATING: tuple[Metric, ...] = (
    Metric(
        "precision", "Precision", (), True, _prepare_precision, highest=1.0, kinds=_only_acted_on,
        needs="rows that are acted on",
    ),
    Metric("recall", "Recall", (), True, _prepare_recall, highest=1.0, kinds=_only_positives, needs="positives"),
    Metric("lift", "Lift", (), True, _prepare_lift, kinds=class_of_each, needs="both classes"),
)  # fmt: skip
OPERATING: Final[dict[str, Metric]] = {metric.name: metric for metric in _OPERATING}
"""These depend on which rows are acted on, not on scores. They need an operating point, so no task can declare them."""


def named(name: str) -> Metric | None:
    """Return a metric of any task by name, over all rows or within groups; None if there is no such metric."""
    return metric_among(name, METRICS | OPERATING)
