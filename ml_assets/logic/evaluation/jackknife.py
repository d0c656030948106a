"""Intervals of metrics, and of the difference of two models on the same rows, from leaving out one day at a time.

Not here: the metrics (see `metrics`), and what follows from an interval (see `champion`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_assets.contracts.artifacts import Comparison, Interval
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.metrics import Measure, Metric, Vector
from ml_assets.logic.evaluation.student import student_probability, student_quantile

Name = TypeVar("Name")

LEVEL: Final = 0.95
FOLDS: Final = 40
MINIMUM_CLUSTERS: Final = 5
MAXIMUM_CLUSTERS: Final = 200
MOST_CORRELATED: Final = 0.6
"""The largest correlation of neighbouring days that an error allows for."""


@dataclass(frozen=True)
class Clusters:
    """Which rows belong together and are left out together.

    Attributes:
        index: (rows,) the cluster of each row, from 0; days are in their order.
        count: How many clusters there are.
        unit: What a cluster is, in the plural.
        is_in_order: Whether neighbouring clusters may be alike, as days may.
    """

    index: NDArray[np.int64]
    count: int
    unit: str
    is_in_order: bool = True

    @classmethod
    def of_days(cls, days: ArrayLike) -> Self:
        """Return the days of rows, in their order.

        Rows of one day share its weather and its queues, so a day counts as one observation, however many rows it has.
        More than `MAXIMUM_CLUSTERS` days are pooled with their neighbours, which bounds the cost.

        Args:
            days: (rows,) the day of each row; rows may come in any order.
        """
        names, index = np.unique(np.asarray(days), return_inverse=True)
        if len(names) <= MAXIMUM_CLUSTERS:
            return cls(index.astype(np.int64), len(names), "days")
        return cls(index.astype(np.int64) * MAXIMUM_CLUSTERS // len(names), MAXIMUM_CLUSTERS, "blocks of days")

    @classmethod
    def of_rows(cls, rows: int, *, seed: int) -> Self:
        """Return folds of rows drawn at random, where there is no day or a single one: rows count as independent."""
        count = min(FOLDS, rows)
        return cls(
            np.random.default_rng(seed).permutation(rows) % max(count, 1), count, "folds of rows", is_in_order=False
        )

    @property
    def everything(self) -> Evidence:
        """Every cluster, for a figure that is estimated from any row, such as a mean."""
        return Evidence(self, np.ones(self.count, dtype=np.bool_), self.count)

    def evidence(
        self, metric: Metric, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None
    ) -> Evidence:
        """Return which clusters a metric is estimated from.

        Args:
            metric: What is measured.
            truth: As `Metric.function` takes it.
            scores: As `Metric.function` takes it.
            groups: (rows,) the group of each row, for a metric within groups.
        """
        kinds = metric.kinds_of(truth, scores, groups)
        has = np.zeros((int(kinds.max(initial=-1)) + 2, self.count), dtype=np.bool_)
        has[kinds, self.index] = True  # the last row takes the rows of no kind, which are numbered -1
        fewest = int(has[:-1].sum(axis=1).min(initial=self.count))
        return Evidence(self, np.asarray(has[:-1].any(axis=0)), fewest, metric.needs)


@dataclass(frozen=True)
class Evidence:
    """The clusters that a metric is estimated from: no day without the metric, and no more days than hold a class.

    Thirty days of which three hold all positives tell as much about a ROC AUC as three days do.

    Attributes:
        clusters: All of them.
        is_used: (clusters,) whether the metric uses any row of the cluster.
        count: How many clusters hold each kind of row that the metric needs; the fewest over the kinds.
        needs: What these clusters have, in words; empty where the metric can be measured on any row.
    """

    clusters: Clusters
    is_used: NDArray[np.bool_]
    count: int
    needs: str = ""

    @property
    def words(self) -> str:
        """How many clusters there are, and of which."""
        return f"{self.count} {self.clusters.unit}{f' that have {self.needs}' if self.needs else ''}"


def leave_one_out(measures: Mapping[Name, Measure], clusters: Clusters) -> dict[Name, Vector]:
    """Measure everything without each cluster in turn.

    A row that is left out has a weight of 0: nothing is copied or sorted again.

    Returns:
        (clusters,) values for each name; NaN where the metric is not defined without that cluster. There are no values
        where there are fewer than `MINIMUM_CLUSTERS` clusters: nothing can be told from them.
    """
    count = clusters.count if clusters.count >= MINIMUM_CLUSTERS else 0
    values: dict[Name, Vector] = {name: np.full(count, np.nan) for name in measures}
    for cluster in range(count):
        weights = (clusters.index != cluster).astype(np.float64)
        for name, measure in measures.items():
            try:
                values[name][cluster] = measure(weights)
            except DataError:
                continue  # NaN, which `spread` reports
    return values


@dataclass(frozen=True)
class Spread:
    """How far a figure may be from its true value: its standard error and degrees of freedom, or why they are unknown.

    Attributes:
        error: The standard error; None where it is unknown.
        degrees: Of Student's t.
        correlation: The correlation of neighbouring days that the error allows for.
        reason: Why the error is unknown, as a clause; empty where it is known.
    """

    error: float | None = None
    degrees: int | None = None
    correlation: float = 0.0
    reason: str = ""

    def interval(self, value: float, *, level: float = LEVEL) -> Interval:
        """Return a figure with its two-sided interval."""
        if self.error is None or self.degrees is None:
            return Interval(value=value, low=None, high=None, reason=self.reason)
        reach = student_quantile((1 + level) / 2, self.degrees) * self.error
        return Interval(value=value, low=value - reach, high=value + reach)


def spread(value: float, left_out: Vector, evidence: Evidence) -> Spread:
    """Return the jackknife's standard error of a figure, for Student's t of one degree fewer than there are clusters.

    Only clusters that the metric is estimated from count (`Evidence`).

    The squared error is (G - 1) / G times the sum of squared differences between the figure without a cluster and the
    figure itself, with G - 1 degrees of freedom: CV3 of MacKinnon, Nielsen and Webb (2023, «Cluster-robust inference: A
    guide to empirical practice»). For a mean over equally large days, or over days' own values, it is the t test on the
    daily values (Ibragimov and Müller 2010): each difference is then (mean - day) / (G - 1). For days of different
    size it keeps the metric that is reported, where the t test would take another: the mean of the daily values.

    Days that follow each other may be alike, and then they are worth fewer than they are. From few days a correlation
    cannot be told from none: a test for one that lets eight independent days decide in 7 of 10 cases leaves intervals
    that cover 70 % where the correlation is 0.5. The error is therefore that of days as correlated as they may well be:
    the estimated correlation of neighbours and its standard error on top, up to `MOST_CORRELATED`.

    Simulated with normal daily differences whose neighbours have a correlation of 0, 0.25 and 0.5, for 5 to 60 days: a
    one-sided test of 5 % errs in 2 to 3 %, 3 to 4 % and 4 to 7 %, and 95 % intervals cover 97 to 98 %, 96 to 97 % and
    92 (5 days) to 96 %; with a correlation of 0.8, which is not allowed for, 77 %. Independent days pay with intervals
    1.5 times (5 days) to 1.15 times (60 days) as wide as Student's. Means of blocks of days (Ibragimov and Müller) and
    cosine-weighted variances (Lazarus, Lewis, Stock and Watson 2018) that keep these rates are wider up to 15 days.
    `benchmarks/gate.py` measures the same with the metrics themselves.

    Args:
        value: On all rows.
        left_out: (clusters,) without each cluster, as `leave_one_out` gives it.
        evidence: Which clusters count.
    """
    count = evidence.count
    if count < MINIMUM_CLUSTERS:
        return Spread(reason=f"cannot decide with {evidence.words}; at least {MINIMUM_CLUSTERS} are needed")
    left_out = left_out[evidence.is_used]
    undefined = int(np.isnan(left_out).sum())
    if undefined:
        return Spread(
            reason=f"cannot decide: the metric is not defined without one of {undefined} of the {len(left_out)} "
            f"{evidence.clusters.unit}"
        )
    error = math.sqrt((len(left_out) - 1) / len(left_out) * float(((left_out - value) ** 2).sum()))
    if not evidence.clusters.is_in_order or error == 0:
        return Spread(error, count - 1)
    estimate = _correlation(left_out)
    likely = estimate + math.sqrt((1 - estimate**2) / count)
    correlation = min(max(likely, 0.0), MOST_CORRELATED)
    return Spread(error * _inflation(correlation, count), count - 1, correlation)


def spread_of_days(values: ArrayLike) -> Spread:
    """Return the spread of the mean of daily figures.

    Args:
        values: (days,) one for each day, in their order.
    """
    daily = np.asarray(values, dtype=np.float64)
    count = len(daily)
    left_out = (daily.sum() - daily) / max(count - 1, 1)
    return spread(float(daily.mean()), left_out, Clusters(np.arange(count), count, "days").everything)


def _correlation(left_out: Vector) -> float:
    """Return the correlation of each day's contribution with the next day's, 0 on average for independent days.

    The plain estimate is -1 / G on average for them, as the mean is estimated from the same days.
    """
    moves, count = left_out - left_out.mean(), len(left_out)
    total = float((moves**2).sum())
    plain = float((moves[1:] * moves[:-1]).sum()) / total if total > 0 else -1 / count
    return max(min((1 + count * plain) / (count - 1), 1.0), -1.0)


def _inflation(correlation: float, count: int) -> float:
    """Return by how much the standard error of a mean is too small if each day has this correlation with the next.

    In a first-order autoregression, days that are k apart have a correlation of the k-th power. The variance of their
    mean is `longer` times that of independent days, and their sample variance is `shorter` times that of one day
    (Bayley and Hammersley 1946, «The "effective" number of independent observations»).
    """
    longer = 1 + 2 * sum((1 - lag / count) * correlation**lag for lag in range(1, count))
    shorter = 1 - (longer - 1) / (count - 1)
    return math.sqrt(longer / shorter)


def interval_of(
    metric: Metric,
    truth: Vector,
    scores: Vector,
    *,
    value: float,
    left_out: Vector,
    evidence: Evidence,
    level: float = LEVEL,
) -> Interval:
    """Return a metric with its interval, or with the reason why there is none.

    The lower end makes room for what sampling alone may have added to the metric. Neither end goes beyond what the
    metric can be.

    Args:
        metric: What was measured.
        truth: As `Metric.function` takes it.
        scores: As `Metric.function` takes it.
        value: The metric of all rows.
        left_out: (clusters,) without each cluster, as `leave_one_out` gives it.
        evidence: Which clusters count.
        level: Coverage of the interval.
    """
    found = spread(value, left_out, evidence).interval(value, level=level)
    if found.low is None or found.high is None:
        return found
    bias = 0.0 if metric.bias is None else metric.bias(truth, scores, evidence.clusters.index)
    ends = {"low": max(found.low - bias, metric.lowest), "high": min(found.high, metric.highest)}
    return found.model_copy(update=ends)


def compare(
    metric: Metric,
    *,
    against: str,
    values: tuple[float, float],
    left_out: tuple[Vector, Vector],
    evidence: Evidence,
    level: float = LEVEL,
) -> Comparison:
    """Compare the challenger with another model on the same rows.

    What makes rows hard for both models cancels in the difference, so its interval is far narrower than the two models'
    own intervals suggest.

    Args:
        metric: What was measured.
        against: What the other is called in the record.
        values: The challenger's figure on all rows, and the other's.
        left_out: (clusters,) the challenger's without each cluster, and the other's; see `leave_one_out`.
        evidence: Which clusters count.
        level: Coverage of the interval.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    difference = metric.gain(*values)
    found = spread(difference, sign * (left_out[0] - left_out[1]), evidence)
    return Comparison(
        against=against,
        metric=metric.name,
        challenger=values[0],
        other=values[1],
        difference=found.interval(difference, level=level),
        rows=len(evidence.clusters.index),
        clusters=evidence.count,
        unit=evidence.clusters.unit,
        error=found.error,
        degrees=found.degrees,
        correlation=found.correlation,
    )


def lower_bound(comparison: Comparison, level: float = LEVEL) -> float | None:
    """Return what the true difference exceeds with this confidence (one-sided); None where that cannot be told."""
    if comparison.error is None or comparison.degrees is None:
        return None
    return comparison.difference.value - student_quantile(level, comparison.degrees) * comparison.error


def p_value(difference: float, error: float, degrees: int) -> float:
    """Return how likely a difference this low is (one-sided) if the true one is 0.

    Args:
        difference: What was measured.
        error: Its standard error; without any, the difference is what it is.
        degrees: Degrees of freedom of Student's t.
    """
    if error > 0:
        return student_probability(difference / error, degrees)
    return 0.0 if difference < 0 else 1.0


def confidence_words(confidence: float) -> str:
    """Return a confidence as words, with enough digits to tell it from 100 %."""
    digits = max(2, -math.floor(math.log10(100 * (1 - confidence))))
    return f"at {f'{100 * confidence:.{digits}f}'.rstrip('0').rstrip('.')} % confidence"
