"""The frozen test rows with the scores of several models, measured on all rows and without each day.

Not here: the report (see `ml_assets.logic.evaluation.report`), and slices (see `ml_assets.logic.evaluation.slices`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ml_assets.contracts.artifacts import Comparison, GroupCount, Interval, TrainingSetSummary
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.jackknife import Clusters, compare_models, interval_of
from ml_assets.logic.evaluation.metrics import Measure, Metric, Vector, metrics_of
from ml_assets.logic.evaluation.within import Groups

MINIMUM_CLASS_ROWS: Final = 10

Key = tuple[str, str]
"""The model that is measured (challenger, champion or a baseline's name), and the metric."""
CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
ANCHOR: Final = "anchor"


@dataclass(frozen=True)
class Frozen:
    """The frozen rows as arrays.

    Attributes:
        groups: (rows,) the group of each row, for a metric within groups.
    """

    truth: Vector
    days: NDArray[np.datetime64]
    summary: TrainingSetSummary
    metric: Metric
    groups: NDArray[np.int64] | None = None

    def of(self, index: NDArray[np.int64]) -> Frozen:
        """Return a subset of the rows."""
        groups = None if self.groups is None else self.groups[index]
        return replace(self, truth=self.truth[index], days=self.days[index], groups=groups)

    @cached_property
    def clusters(self) -> Clusters:
        """The clusters that are left out in turn: the days."""
        return Clusters.of_days(self.days)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the task, and the deciding one if it is a metric within groups."""
        return (*metrics_of(self.summary.task), *([self.metric] if self.metric.within else []))

    def count_groups(self, scores: Vector) -> GroupCount | None:
        """Return in how many groups the deciding metric is defined; None for a metric over all rows."""
        column = self.metric.within
        if column is None or self.groups is None:
            return None
        alone = Groups(self.metric.prepare, self.truth, scores, self.groups).alone
        measured = int(np.isfinite(alone).sum())
        return GroupCount(column=column, measured=measured, undefined=len(alone) - measured)

    def measure(self, metric: Metric, scores: Vector) -> Measure:
        """Return a metric of some scores as a function of row weights."""
        return metric.measure(self.truth, scores, self.groups)

    @property
    def target_mean(self) -> float | None:
        """The mean of the target; None if the target is a class."""
        return None if self.summary.task == "multiclass" else float(self.truth.mean())

    def interval(self, metric: Metric, scores: Vector, exact: float, left_out: Vector) -> Interval:
        """Return a metric of some scores with its interval."""
        evidence = self.clusters.evidence(metric, self.truth, scores, self.groups)
        return interval_of(metric, self.truth, scores, value=exact, left_out=left_out, evidence=evidence)

    def compared(
        self, against: str, scores: Vector, exact: Mapping[Key, float], left_out: Mapping[Key, Vector]
    ) -> Comparison:
        """Compare the challenger with another model by the deciding metric.

        `exact` and `left_out` have the figures by model and metric: on all rows, and without each day.
        """
        challenger, other = (CHALLENGER, self.metric.name), (against, self.metric.name)
        return compare_models(
            self.metric,
            against=against,
            values=(exact[challenger], exact[other]),
            left_out=(left_out[challenger], left_out[other]),
            evidence=self.clusters.evidence(self.metric, self.truth, scores, self.groups),
        )

    def why_too_few(self, min_rows: int) -> str:
        """Return why there are too few rows to judge; empty if there are enough."""
        if len(self.truth) < min_rows:
            return f"{len(self.truth)} rows, fewer than {min_rows}"
        if self.summary.task == "binary":
            positives = int(self.truth.sum())
            for which, count in (("positives", positives), ("negatives", len(self.truth) - positives)):
                if count < MINIMUM_CLASS_ROWS:
                    return f"{count} {which}, fewer than {MINIMUM_CLASS_ROWS}"
        return ""


def exactly(measures: Mapping[Key, Measure], rows: int, *, needed: Sequence[Key] = ()) -> dict[Key, float]:
    """Return the figures on all rows, without those that are not defined there.

    Raises:
        DataError: A needed figure is not defined.
    """
    everything = np.ones(rows)
    exact = {key: measures[key](everything) for key in needed}
    for key, measure in measures.items():
        value = None if key in exact else _defined(measure, everything)
        if value is not None:
            exact[key] = value
    return exact


def _defined(measure: Measure, weights: Vector) -> float | None:
    """Return the metric, or None if it is not defined; the report then has no such figure."""
    try:
        return measure(weights)
    except DataError:
        return None
