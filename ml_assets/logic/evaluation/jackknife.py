"""Confidence intervals of metrics, and of the difference of two models, by leaving out one cluster of rows at a time.

A cluster is a day, a group or a fold of rows, depending on how the training set is split. Rows that are alike within
days and within groups are clustered in both ways.

Not here: the metrics (see `ml_assets.logic.evaluation.metrics`), and decisions (see `ml_assets.logic.promotion.gate`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_assets.contracts.artifacts.evaluation import Comparison, Interval
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.formulas import Measure, Vector
from ml_assets.logic.evaluation.metrics import Metric

Name = TypeVar("Name")

LEVEL: Final = 0.95
FOLDS: Final = 40
MINIMUM_CLUSTERS: Final = 5
MAXIMUM_CLUSTERS: Final = 200
MOST_CORRELATED: Final = 0.6
"""The largest correlation of neighbouring days that the standard error allows for."""


@dataclass(frozen=True)
class Clusters:
    """The groups of rows that are left out together.

    Attributes:
        index: (rows,) the cluster of each row, from 0; days are in order of time.
        count: Number of clusters.
        unit: What a cluster is, in the plural.
        is_in_order: Whether neighbouring clusters may be correlated, as days may.
        crossed: Of two-way clusters: the groups of the same rows, and the cells, which are the rows of one group in one
            day. Empty for one way.
    """

    index: NDArray[np.int64]
    count: int
    unit: str
    is_in_order: bool = True
    crossed: tuple[Clusters, ...] = ()

    @classmethod
    def of_days(cls, days: ArrayLike) -> Self:
        """Return one cluster per day.

        Rows of one day are alike (same weather, same queues), so a day counts as one observation, however many rows it
        has. More than `MAXIMUM_CLUSTERS` days are pooled with their neighbours, which bounds the cost.

        Args:
            days: (rows,) the day of each row, in any order.
        """
        names, index = np.unique(np.asarray(days), return_inverse=True)
        if len(names) <= MAXIMUM_CLUSTERS:
            return cls(index.astype(np.int64), len(names), "days")
        return cls(index.astype(np.int64) * MAXIMUM_CLUSTERS // len(names), MAXIMUM_CLUSTERS, "blocks of days")

    @classmethod
    def of_groups(cls, groups: ArrayLike, *, column: str) -> Self:
        """Return one cluster per group, such as a customer, whose rows are alike. Groups count as independent.

        More than `MAXIMUM_CLUSTERS` groups are pooled at random, which bounds the cost.

        Args:
            groups: (rows,) the group of each row.
            column: The column of the groups, for messages.
        """
        return cls._independent(groups, f"{column} groups")

    @classmethod
    def _independent(cls, names: ArrayLike, unit: str) -> Self:
        distinct, index = np.unique(np.asarray(names), return_inverse=True)
        count = len(distinct)
        if count > MAXIMUM_CLUSTERS:
            index = (np.random.default_rng(0).permutation(count) % MAXIMUM_CLUSTERS)[index]
            count, unit = MAXIMUM_CLUSTERS, f"blocks of {unit}"
        return cls(index.astype(np.int64), count, unit, is_in_order=False)

    def crossed_with(self, groups: Clusters | None) -> Self:
        """Return two-way clusters, for rows that are alike within a cluster of this kind and within a group.

        Rows of a single group, as in a slice, say something about that group only. These clusters alone are left out.
        """
        if groups is None or groups.count == 1:
            return self
        cells = self._independent(self.index * groups.count + groups.index, "cells")
        return replace(self, crossed=(groups, cells))

    @property
    def ways(self) -> tuple[Clusters, ...]:
        """What is left out in turn: these clusters, and of two-way clusters then the groups and the cells."""
        return (replace(self, crossed=()), *self.crossed)

    @classmethod
    def of_rows(cls, rows: int, *, seed: int) -> Self:
        """Return folds of rows drawn at random, for rows of a single day or without one. Rows count as independent."""
        count = min(FOLDS, rows)
        return cls(
            np.random.default_rng(seed).permutation(rows) % max(count, 1), count, "folds of rows", is_in_order=False
        )

    @property
    def everything(self) -> Evidence:
        """All clusters, for a figure that any row contributes to, such as a mean."""
        crossed = tuple(it.everything for it in self.crossed)
        return Evidence(self, np.ones(self.count, dtype=np.bool_), self.count, crossed=crossed)

    def evidence(
        self,
        metric: Metric,
        truth: ArrayLike,
        scores: ArrayLike,
        groups: ArrayLike | None = None,
        weights: Vector | None = None,
    ) -> Evidence:
        """Return the clusters that contribute to a metric.

        Args:
            metric: The metric.
            truth: See `Metric.function`.
            scores: See `Metric.function`.
            groups: (rows,) the group of each row, for a metric within groups.
            weights: (rows,) the declared weight of each row.
        """
        return self._evidence(metric.kinds_of(truth, scores, groups, weights), metric.needs)

    def _evidence(self, kinds: NDArray[np.int64], needs: str) -> Evidence:
        has = np.zeros((int(kinds.max(initial=-1)) + 2, self.count), dtype=np.bool_)
        has[kinds, self.index] = True  # rows without a kind have -1 and fall into the last row
        fewest = int(has[:-1].sum(axis=1).min(initial=self.count))
        crossed = tuple(it._evidence(kinds, needs) for it in self.crossed)  # noqa: SLF001 - they are of this class
        return Evidence(self, np.asarray(has[:-1].any(axis=0)), fewest, needs, crossed)


@dataclass(frozen=True)
class Evidence:
    """The clusters that contribute to a metric.

    Clusters on which the metric uses no row do not count. If only three of thirty days have positives, a ROC AUC has
    the evidence of three days.

    Attributes:
        clusters: All clusters.
        is_used: (clusters,) whether the metric uses any row of the cluster.
        count: Number of clusters that contain each kind of row that the metric needs; the smallest number over the
            kinds.
        needs: What these clusters contain, in words; empty if the metric can be measured on any row.
        crossed: The evidence of the other ways of two-way clusters, in the order of `Clusters.crossed`.
    """

    clusters: Clusters
    is_used: NDArray[np.bool_]
    count: int
    needs: str = ""
    crossed: tuple[Evidence, ...] = ()

    @property
    def sides(self) -> tuple[Evidence, ...]:
        """The evidence of the days, and of the groups if there are two ways; without the cells."""
        return (self, *self.crossed[:1])

    @property
    def fewest(self) -> Evidence:
        """The side with the fewest clusters, which decides the degrees of freedom."""
        return min(self.sides, key=lambda it: it.count)

    @property
    def words(self) -> str:
        """The number and the unit of the clusters, as text."""
        return f"{self.count} {self.clusters.unit}{f' that have {self.needs}' if self.needs else ''}"


def leave_one_out(measures: Mapping[Name, Measure], clusters: Clusters) -> dict[Name, Vector]:
    """Measure all figures without each cluster in turn.

    A row that is left out counts 0 times, so nothing is copied or sorted again. If rows have weights, the measures
    include them, so a cluster has the weight of its rows.

    Returns:
        (clusters,) values for each name; NaN if the metric is not defined without that cluster. Empty with fewer than
        `MINIMUM_CLUSTERS` clusters. Of two-way clusters, the values of all ways follow each other.
    """
    found = [_without_each(measures, way) for way in clusters.ways]
    return {name: np.concatenate([it[name] for it in found]) for name in measures}


def _without_each(measures: Mapping[Name, Measure], clusters: Clusters) -> dict[Name, Vector]:
    count = _left_out(clusters)
    values: dict[Name, Vector] = {name: np.full(count, np.nan) for name in measures}
    for cluster in range(count):
        counts = (clusters.index != cluster).astype(np.float64)
        for name, measure in measures.items():
            try:
                values[name][cluster] = measure(counts)
            except DataError:
                continue  # NaN, which `spread` reports
    return values


def _left_out(clusters: Clusters) -> int:
    """Return how many clusters are left out in turn: none if they are too few to decide."""
    return clusters.count if clusters.count >= MINIMUM_CLUSTERS else 0


@dataclass(frozen=True)
class Spread:
    """The standard error of a figure and its degrees of freedom, or why they are unknown.

    Attributes:
        error: The standard error; None if it is unknown.
        degrees: Degrees of freedom of Student's t.
        correlation: The correlation of neighbouring days that the error allows for.
        reason: Why the error is unknown, as a clause; empty if it is known.
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
    """Return the jackknife's standard error of a figure, for Student's t with one degree fewer than clusters.

    Of two-way clusters, the variance is that of days plus that of groups minus that of the cells (Cameron, Gelbach and
    Miller 2011, «Robust Inference With Multiway Clustering», equation 2.11), and at least the larger of the first two:
    the difference may be negative. The degrees of freedom are those of the side with fewer clusters, as there. The
    variance of the days allows for neighbouring days that are alike (see `_one_way`), which two-way clusters need as
    well (Chiang, Hansen and Sasaki 2024, «Standard errors for two-way clustering with serially correlated time
    effects»). `tests/logic/evaluation/test_two_way.py` measures the coverage.

    Args:
        value: The figure on all rows.
        left_out: The figure without each cluster, from `leave_one_out`.
        evidence: The clusters that contribute.
    """
    if not evidence.crossed:
        return _one_way(value, left_out, evidence)
    ways = (evidence, *evidence.crossed)
    ends = np.cumsum([_left_out(it.clusters) for it in ways])[:-1]
    found = [_one_way(value, part, it) for part, it in zip(np.split(left_out, ends), ways, strict=True)]
    if unknown := next((it for it in found if it.error is None), None):
        return unknown
    days, groups, cells = (it.error or 0.0 for it in found)
    variance = max(days**2 + groups**2 - cells**2, days**2, groups**2)
    return Spread(math.sqrt(variance), evidence.fewest.count - 1, found[0].correlation)


def _one_way(value: float, left_out: Vector, evidence: Evidence) -> Spread:
    """Return the standard error of a figure for clusters of one kind.

    Only clusters that contribute to the metric count (see `Evidence`).

    The squared error is (G - 1) / G times the sum of squared differences between the figure without a cluster and the
    figure itself, with G - 1 degrees of freedom: CV3 of MacKinnon, Nielsen and Webb (2023, «Cluster-robust inference: A
    guide to empirical practice»). For a mean over equally large days it is the t test on the daily values (Ibragimov
    and Müller 2010): each difference is then (mean - day) / (G - 1). For days of different size, it refers to the
    reported metric, whereas the t test would refer to the mean of the daily values.

    Neighbouring days may be correlated, and then they carry less information. With few days, a correlation cannot be
    distinguished from none: with a test that lets eight independent days decide in 7 of 10 cases, intervals cover 70 %
    if the correlation is 0.5. The error therefore assumes the estimated correlation of neighbours plus its standard
    error, up to `MOST_CORRELATED`.

    Simulations with normal daily differences, a correlation of neighbours of 0, 0.25 and 0.5, and 5 to 60 days: a
    one-sided test at 5 % errs in 2 to 3 %, 3 to 4 % and 4 to 7 % of cases, and 95 % intervals cover 97 to 98 %, 96 to
    97 %, and 92 (5 days) to 96 %. With a correlation of 0.8, which is not allowed for, they cover 77 %. For independent
    days, intervals are 1.5 times (5 days) to 1.15 times (60 days) as wide as Student's. Means of blocks of days
    (Ibragimov and Müller) and cosine-weighted variances (Lazarus, Lewis, Stock and Watson 2018) with the same error
    rates are wider up to 15 days. `benchmarks/gate.py` measures the same with the metrics themselves.

    Args:
        value: The figure on all rows.
        left_out: (clusters,) the figure without each cluster, from `leave_one_out`.
        evidence: The clusters that contribute.
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
        values: (days,) one per day, in order of time.
    """
    daily = np.asarray(values, dtype=np.float64)
    count = len(daily)
    left_out = (daily.sum() - daily) / max(count - 1, 1)
    return spread(float(daily.mean()), left_out, Clusters(np.arange(count), count, "days").everything)


def _correlation(left_out: Vector) -> float:
    """Return the correlation of each day's contribution with the next day's; on average 0 for independent days.

    The plain estimate is -1 / G on average, because the mean is estimated from the same days.
    """
    moves, count = left_out - left_out.mean(), len(left_out)
    total = float((moves**2).sum())
    plain = float((moves[1:] * moves[:-1]).sum()) / total if total > 0 else -1 / count
    return max(min((1 + count * plain) / (count - 1), 1.0), -1.0)


def _inflation(correlation: float, count: int) -> float:
    """Return the factor by which the standard error of a mean is too small if neighbouring days are correlated.

    In a first-order autoregression, days at a distance of k have a correlation of the k-th power. The variance of their
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
    weights: Vector | None = None,
    level: float = LEVEL,
) -> Interval:
    """Return a metric with its interval, or with the reason why there is none.

    The lower end is lowered by the bias that sampling alone can add to the metric. Both ends lie within the range of
    the metric.

    Args:
        metric: The metric.
        truth: See `Metric.function`.
        scores: See `Metric.function`.
        value: The metric on all rows.
        left_out: (clusters,) the metric without each cluster, from `leave_one_out`.
        evidence: The clusters that contribute.
        weights: (rows,) the declared weight of each row.
        level: Coverage of the interval.
    """
    found = spread(value, left_out, evidence).interval(value, level=level)
    if found.low is None or found.high is None:
        return found
    bias = 0.0
    if metric.bias is not None:
        bias = max(metric.bias(truth, scores, it.clusters.index, weights) for it in evidence.sides)
    ends = {"low": max(found.low - bias, metric.lowest), "high": min(found.high, metric.highest)}
    return found.model_copy(update=ends)


def compare_models(
    metric: Metric,
    *,
    against: str,
    values: tuple[float, float],
    left_out: tuple[Vector, Vector],
    evidence: Evidence,
    level: float = LEVEL,
) -> Comparison:
    """Compare the challenger with another model on the same rows.

    Rows that are hard for both models cancel in the difference. Its interval is therefore much narrower than the
    intervals of the two models suggest.

    Args:
        metric: The metric.
        against: The name of the other model in the record.
        values: The challenger's and the other's figure on all rows.
        left_out: (clusters,) the challenger's and the other's figures without each cluster, from `leave_one_out`.
        evidence: The clusters that contribute.
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
        crossed="".join(f"{it.count} {it.clusters.unit}" for it in evidence.sides[1:]),
        standard_error=found.error,
        degrees_of_freedom=found.degrees,
        correlation=found.correlation,
    )


def lower_bound(comparison: Comparison, level: float = LEVEL) -> float | None:
    """Return the one-sided lower bound of the true difference at a confidence; None if there is none."""
    if comparison.standard_error is None or comparison.degrees_of_freedom is None:
        return None
    return (
        comparison.difference.value - student_quantile(level, comparison.degrees_of_freedom) * comparison.standard_error
    )


def p_value(difference: float, error: float, degrees: int) -> float:
    """Return the one-sided probability of a difference this low if the true one is 0.

    Args:
        difference: The measured difference.
        error: Its standard error. If it is 0, the difference is taken as exact.
        degrees: Degrees of freedom of Student's t.
    """
    if error > 0:
        return student_probability(difference / error, degrees)
    return 0.0 if difference < 0 else 1.0


def confidence_words(confidence: float) -> str:
    """Return a confidence as text, with enough digits to distinguish it from 100 %."""
    digits = max(2, -math.floor(math.log10(100 * (1 - confidence))))
    return f"at {f'{100 * confidence:.{digits}f}'.rstrip('0').rstrip('.')} % confidence"


# SciPy is imported when it is used, because that takes a third of a second.
def student_quantile(level: float, degrees: int) -> float:
    """Return a quantile of Student's t, at a level between 0 and 1."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, level))


def student_probability(value: float, degrees: int) -> float:
    """Return the probability of a value this low or lower under Student's t."""
    from scipy.special import stdtr

    return float(stdtr(degrees, value))
