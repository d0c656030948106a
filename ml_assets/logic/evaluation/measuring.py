"""The frozen test rows with the scores of several models: on all rows, without each day, group or fold, and by slice.

Not here: the report (see `ml_assets.logic.evaluation.report`), and which slices fail (see
`ml_assets.logic.evaluation.slices`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.evaluation import Comparison, DailyLoss, GroupCount, Interval, MeasuredCoverage
from ml_assets.contracts.artifacts.training import INTERVAL, TrainingSetSummary
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.formulas import Measure, Vector
from ml_assets.logic.evaluation.jackknife import Clusters, Evidence, compare_models, interval_of, leave_one_out, spread
from ml_assets.logic.evaluation.metrics import Metric, expected_metric, metrics_of
from ml_assets.logic.training.encoding import mean_of

MINIMUM_CLASS_ROWS: Final = 10
MINIMUM_SLICE_ROWS: Final = 200
SLICES_SCHEMA: Final[dict[str, pl.DataType]] = {
    "column": pl.String(), "value": pl.String(), "rows": pl.Int64(), "target_mean": pl.Float64(), "metric": pl.String(),
    "score": pl.Float64(), "low": pl.Float64(), "high": pl.Float64(), "champion_score": pl.Float64(),
    "difference": pl.Float64(), "difference_low": pl.Float64(), "difference_high": pl.Float64(),
    "difference_standard_error": pl.Float64(), "degrees_of_freedom": pl.Int64(), "clusters": pl.Int64(),
    "unit": pl.String(), "is_judged": pl.Boolean(), "reason": pl.String(),
}  # fmt: skip

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
        units: (rows,) the declared group of each row; None without one.
        weights: (rows,) the declared weight of each row; None without one. Every figure is weighted, counts are not.
        own: a person's own metrics.
    """

    truth: Vector
    days: NDArray[np.datetime64]
    summary: TrainingSetSummary
    metric: Metric
    groups: NDArray[np.int64] | None = None
    units: NDArray[np.int64] | None = None
    weights: Vector | None = None
    own: tuple[Metric, ...] = ()

    def of(self, index: NDArray[np.int64]) -> Frozen:
        """Return a subset of the rows."""
        groups, units = (None if it is None else it[index] for it in (self.groups, self.units))
        weights = None if self.weights is None else self.weights[index]
        truth, days = self.truth[index], self.days[index]
        return replace(self, truth=truth, days=days, groups=groups, units=units, weights=weights)

    @cached_property
    def clusters(self) -> Clusters:
        """The clusters that are left out in turn: days and declared groups, or what the training set is split by."""
        column, units = self.summary.unit_column, self.units
        groups = None if column is None or units is None else Clusters.of_groups(units, column=column)
        if self.summary.split is not None:
            return groups or Clusters.of_rows(len(self.truth), seed=0)
        days = Clusters.of_days(self.days if self.summary.task != "ranking" else self._days_of_queries)
        return days.crossed_with(groups)

    @property
    def _days_of_queries(self) -> NDArray[np.datetime64]:
        """The day of the first row of the query of each row, so that no query is left out in part."""
        assert self.groups is not None  # noqa: S101 - the metrics of a ranking have groups
        query = np.unique(self.groups, return_inverse=True)[1]
        first = np.full(int(query.max(initial=-1)) + 1, self.days.max(), dtype=self.days.dtype)
        np.minimum.at(first, query, self.days)
        return first[query]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the task, a person's own, and the deciding one if it is a metric within groups."""
        known = metrics_of(self.summary.task, self.summary.objective)
        is_shown = self.metric.within is None or self.metric.name in {it.name for it in known}
        return (*known, *self.own, *(() if is_shown else (self.metric,)))

    def count_groups(self, scores: Vector) -> GroupCount | None:
        """Return in how many groups the deciding metric is defined; None for a metric over all rows."""
        column = self.metric.within
        if column is None or self.groups is None:
            return None
        alone = self.metric.by_group(self.truth, scores, self.groups, self.weights).alone
        measured = int(np.isfinite(alone).sum())
        undefined = len(alone) - measured
        return GroupCount(column=column, measured=measured, undefined=undefined, why=self.metric.undefined)

    def measure(self, metric: Metric, scores: Vector) -> Measure:
        """Return a metric of some scores as a function of how often each row counts."""
        return metric.measure(self.truth, scores, self.groups, self.weights)

    def mean(self, values: Vector) -> float:
        """Return the mean of some figures of the rows."""
        return mean_of(values, self.weights)

    @property
    def target_mean(self) -> float | None:
        """The mean of the target; None if the target is a class."""
        return None if self.summary.task == "multiclass" else self.mean(self.truth)

    def interval(self, metric: Metric, scores: Vector, exact: float, left_out: Vector) -> Interval:
        """Return a metric of some scores with its interval."""
        evidence = self.evidence(metric, scores)
        return interval_of(
            metric, self.truth, scores, value=exact, left_out=left_out, evidence=evidence, weights=self.weights
        )

    def evidence(self, metric: Metric, scores: Vector) -> Evidence:
        """Return the clusters that contribute to a metric of some scores."""
        return self.clusters.evidence(metric, self.truth, scores, self.groups, self.weights)

    def compared(
        self, against: str, scores: Vector, exact: Mapping[Key, float], left_out: Mapping[Key, Vector]
    ) -> Comparison:
        """Compare the challenger with another model by the deciding metric.

        `exact` and `left_out` have the figures by model and metric: on all rows, and without each cluster.
        """
        challenger, other = (CHALLENGER, self.metric.name), (against, self.metric.name)
        return compare_models(
            self.metric,
            against=against,
            values=(exact[challenger], exact[other]),
            left_out=(left_out[challenger], left_out[other]),
            evidence=self.evidence(self.metric, scores),
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


def measured_coverage(frozen: Frozen, scores: pl.DataFrame, declared: float) -> MeasuredCoverage:
    """Return the share of the labels inside the prediction intervals, with its 95 % interval, and the mean width.

    `scores` has the ends of the intervals, in the order of the rows.
    """
    low, high = (scores[name].to_numpy() for name in INTERVAL)
    inside = ((frozen.truth >= low) & (frozen.truth <= high)).astype(np.float64)
    value = frozen.mean(inside)
    own = np.ones(len(inside)) if frozen.weights is None else frozen.weights
    measures = {"coverage": lambda counts: float((counts * own * inside).sum() / (counts * own).sum())}
    left_out = leave_one_out(measures, frozen.clusters)["coverage"]
    found = spread(value, left_out, frozen.clusters.everything).interval(value)
    if found.low is not None and found.high is not None:
        found = found.model_copy(update={"low": max(found.low, 0.0), "high": min(found.high, 1.0)})
    return MeasuredCoverage(declared=declared, measured=found, mean_width=frozen.mean(high - low))


def daily_loss(
    truth: Vector,
    scores: Vector,
    days: NDArray[np.datetime64],
    *,
    metric: Metric,
    promised: float,
    groups: NDArray[np.int64] | None = None,
    weights: Vector | None = None,
) -> DailyLoss | None:
    """Return how far days fall short of the expected metric in a test window. Later days are compared with it.

    Labels, days, groups and weights are (n,), scores (n,) or (n, classes). `promised` is the metric on all rows, for
    metrics that cannot be expected from scores.

    Returns:
        None if the metric is defined on fewer than two days.
    """
    losses, rows = [], []
    for day in np.unique(days):
        of_day = days == day
        try:
            inside, own = (None if it is None else it[of_day] for it in (groups, weights))
            value = metric.function(truth[of_day], scores[of_day], own, groups=inside)
        except DataError:
            continue  # the metric is not defined on a day with a single class
        expected = expected_metric(metric, scores[of_day], inside, own)
        losses.append(metric.gain(promised if expected is None else expected, value))
        rows.append(int(of_day.sum()))
    if len(losses) < 2:
        return None
    deviation = float(np.std(losses, ddof=1))
    return DailyLoss(
        mean=float(np.mean(losses)), standard_deviation=deviation, days=len(losses), rows_per_day=float(np.median(rows))
    )


@dataclass(frozen=True)
class SliceFigures:
    """What is measured of one slice. All but `scores` and `reason` is about the deciding metric.

    Attributes:
        scores: by metric, the figures of challenger and champion.
        reason: why the slice is not judged; '' if it is.
        count: the number of clusters or folds that the interval rests on, in `unit`.
    """

    scores: Mapping[str, tuple[float | None, float | None]]
    reason: str
    interval: Interval | None = None
    compared: Comparison | None = None
    count: int | None = None
    unit: str | None = None

    @property
    def decided(self) -> dict[str, float | str | None]:
        """The fields of the deciding metric."""
        interval, compared = self.interval, self.compared
        difference = compared.difference if compared else None
        return {
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "difference_low": difference.low if difference else None,
            "difference_high": difference.high if difference else None,
            "difference_standard_error": compared.standard_error if compared else None,
            "degrees_of_freedom": compared.degrees_of_freedom if compared else None,
            "clusters": self.count,
            "unit": self.unit,
        }


def slice_table(
    rows: pl.DataFrame, columns: Sequence[str], frozen: Frozen, measure: Callable[[NDArray[np.int64]], SliceFigures]
) -> pl.DataFrame:
    """Return one row for each slice and metric, the largest slices first.

    Args:
        rows: the measured rows, with the columns.
        columns: each of their values is a slice.
        frozen: the same rows, as metrics read them.
        measure: returns the figures of some rows.
    """
    records: list[dict[str, float | int | str | bool | None]] = []
    for column in columns:
        groups = (
            rows.select(pl.col(column).cast(pl.String).fill_null("(missing)").alias("value"))
            .with_row_index("row")
            .group_by("value")
            .agg(pl.col("row"))
            .sort(pl.col("row").list.len(), "value", descending=[True, False])
        )
        for value, members in groups.iter_rows():
            index = np.asarray(members, dtype=np.int64)
            found = measure(index)
            of = {"column": column, "value": value, "rows": len(index), "target_mean": frozen.of(index).target_mean}
            for metric in frozen.metrics:
                mine, theirs = found.scores[metric.name]
                records.append(
                    {
                        **of,
                        "metric": metric.name,
                        "score": mine,
                        "champion_score": theirs,
                        "difference": None if mine is None or theirs is None else metric.gain(mine, theirs),
                        **(found.decided if metric.name == frozen.metric.name else {}),
                        "is_judged": not found.reason,
                        "reason": found.reason,
                    }
                )
    return pl.DataFrame(records, schema=SLICES_SCHEMA)


def measure_slices(
    frozen: Frozen,
    rows: pl.DataFrame,
    columns: Sequence[str],
    challenger: Vector,
    champion: Vector | None,
    *,
    min_rows: int,
) -> pl.DataFrame:
    """Return one row for each slice and metric, with intervals for the deciding metric, which the gate uses.

    A judged slice states its clusters and their unit, such as 28 days: those on whose rows the metric can be measured.
    Scores are (rows,) or (rows, classes). A slice with fewer than `min_rows` is reported but not judged.
    """

    def measure(index: NDArray[np.int64]) -> SliceFigures:
        others = None if champion is None else champion[index]
        return measure_slice(frozen.of(index), challenger[index], others, min_rows=min_rows)

    return slice_table(rows, columns, frozen, measure)


def measure_slice(part: Frozen, challenger: Vector, champion: Vector | None, *, min_rows: int) -> SliceFigures:
    """Return the figures of some of the frozen rows, with intervals if there are enough of them."""
    declared, rows = part.metric, len(part.truth)
    measures: dict[Key, Measure] = {}
    for metric in part.metrics:
        measures[CHALLENGER, metric.name] = part.measure(metric, challenger)
        if champion is not None:
            measures[CHAMPION, metric.name] = part.measure(metric, champion)
    exact = exactly(measures, rows)
    own = (CHALLENGER, declared.name)
    scores = {it.name: (exact.get((CHALLENGER, it.name)), exact.get((CHAMPION, it.name))) for it in part.metrics}
    if reason := part.why_too_few(min_rows) or _why_undefined(measures[own], rows):
        return SliceFigures(scores, reason)
    judged = {key: measure for key, measure in measures.items() if key[1] == declared.name}
    left_out = leave_one_out(judged, part.clusters)
    evidence = part.evidence(declared, challenger)
    interval = part.interval(declared, challenger, exact[own], left_out[own])
    compared = None if champion is None else part.compared(CHAMPION, challenger, exact, left_out)
    reason = interval.reason or ("" if compared is None else compared.difference.reason)
    fewest = evidence.fewest
    return SliceFigures(scores, reason, interval, compared, fewest.count, fewest.clusters.unit)


def _why_undefined(measure: Measure, rows: int) -> str:
    try:
        measure(np.ones(rows))
    except DataError as error:
        return str(error)
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
