"""Measure how reliable the retraining rules are: false alarms on streams without drift, power on streams with drift.

Not here: the rules (see `ml_assets.logic.monitoring.retraining`), and the injected drift (see
`ml_assets.logic.backtest.injection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.artifacts.monitoring import DriftSummary, PerformanceSummary
from ml_assets.contracts.artifacts.training import Feature
from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import DAILY
from ml_assets.contracts.simulation import FalseAlarms, How, Power
from ml_assets.logic.backtest.injection import Injection, inject, inject_prior
from ml_assets.logic.evaluation.measuring import daily_loss
from ml_assets.logic.evaluation.metrics import Metric, expected_metric, groups_of
from ml_assets.logic.monitoring.drift import Watched, measure_drift, rows_of_period
from ml_assets.logic.monitoring.drift_verdict import DriftLimits
from ml_assets.logic.monitoring.reference import SCORE, Reference
from ml_assets.logic.monitoring.retraining import Rules, Serving, drift_finding, performance_finding
from ml_assets.logic.monitoring.sketch import number_periods, sketch_reference
from ml_assets.logic.training.encoding import weight_vector

T = TypeVar("T")
ROW: Final = "row"
FIRST: Final = date(2000, 1, 1)
QUIET: Final = 3
"""Days of a trial before the drift: as many as the rules look back."""
WITHIN: Final = 3
"""Days within which a drift must be found."""


@dataclass(frozen=True)
class Population:
    """Rows that streams are drawn from, and the monitored model.

    Attributes:
        rows: features, `day`, the column of the metric's groups and the target, which is null for a row without a
            label.
        target: the label, 0 or 1.
        reference: labelled rows of the reference, if they are other rows.
        weight: the column with the weight of each row; None if all rows count alike.
    """

    rows: pl.DataFrame
    target: str
    features: Sequence[Feature]
    weights: Mapping[str, float]
    score: Callable[[pl.DataFrame], pl.Series]
    metric: Metric
    limits: DriftLimits
    rules: Rules
    reference: pl.DataFrame | None = None
    weight: str | None = None

    @cached_property
    def usual(self) -> pl.DataFrame:
        """The rows of the reference, with their scores."""
        if self.reference is None:
            return self.scored
        return self.reference.with_columns(self.score(self.reference).alias(SCORE))

    @cached_property
    def scored(self) -> pl.DataFrame:
        """The rows with their scores."""
        return self.rows.with_columns(self.score(self.rows).alias(SCORE))

    @cached_property
    def by_day(self) -> list[pl.DataFrame]:
        """The rows with their scores, one frame per day."""
        return self.scored.partition_by(DAY)

    @cached_property
    def known(self) -> Reference:
        """The reference that days are compared with."""
        rows = self.usual
        days = number_periods(rows[DAY], min_rows=self.limits.min_rows, most_days=self.limits.pool_days)
        sketch = sketch_reference(rows, features=self.features, score=rows[SCORE], days=days)
        return Reference.of(sketch, model="watched")

    @cached_property
    def serving(self) -> Serving:
        """The champion, with how much its days differ."""
        labelled = self.usual.drop_nulls(self.target)
        truth, scores = labelled[self.target].cast(pl.Float64).to_numpy(), labelled[SCORE].to_numpy()
        groups, weights = groups_of(self.metric, labelled), weight_vector(labelled, self.weight)
        promised = self.metric.function(truth, scores, weights, groups=groups)
        days = labelled[DAY].to_numpy()
        loss = daily_loss(truth, scores, days, metric=self.metric, promised=promised, groups=groups, weights=weights)
        return Serving("v", FIRST, labelled.height, loss, promised)


def draw_stream(population: Population, days: int, *, how: How, seed: int, rows: int | None = None) -> pl.DataFrame:
    """Return rows of days from `FIRST` on, drawn with replacement.

    By `days`, a day is drawn and then as many of its rows; by `rows`, rows of all days are drawn. `rows` is the number
    per day, by default the day's own.
    """
    random = np.random.default_rng(seed)
    each = population.by_day
    drawn = []
    for number in range(days):
        of_day = each[random.integers(len(each))]
        source = of_day if how == "days" else population.scored
        picked = source[random.integers(source.height, size=rows or of_day.height)]
        drawn.append(picked.with_columns(pl.lit(FIRST + timedelta(days=number)).alias(DAY)))
    return pl.concat(drawn).with_row_index(ROW)


def count_false_alarms(
    population: Population, *, days: int, how: How, seed: int, rows: int | None = None
) -> FalseAlarms:
    """Return how often a stream without drift requests a retraining, without a cool-down."""
    stream = draw_stream(population, days, how=how, seed=seed, rows=rows)
    drift, performance = watch(population, stream)
    return FalseAlarms(
        days=days,
        judged=sum(day.state != "not judged" for day in drift),
        over=sum(day.is_over for day in drift),
        requested_by_drift=sum(drift_requests(population, drift)),
        requested_by_performance=sum(performance_requests(population, performance)),
    )


def measure_power(
    population: Population, injection: Injection, *, trials: int, seed: int = 0, how: How = "days", lead: int = 0
) -> Power:
    """Return how often a drift is found.

    The first day and the seed of the injection are replaced by those of the trial. `lead` is the number of days of a
    slope before the days within which it must be found.
    """
    found = [_trial(population, injection, number, how=how, lead=lead) for number in range(seed, seed + trials)]
    costs = [cost for cost, _, _ in found if cost is not None]
    return Power(
        kind=injection.kind,
        column=injection.column,
        size=injection.size,
        cost=float(np.mean(costs)) if costs else None,
        trials=trials,
        by_drift=sum(by_drift for _, by_drift, _ in found),
        by_performance=sum(by_performance for _, _, by_performance in found),
        by_either=sum(by_drift or by_performance for _, by_drift, by_performance in found),
    )


def _trial(
    population: Population, injection: Injection, seed: int, *, how: How, lead: int
) -> tuple[float | None, bool, bool]:
    """Return the loss of the metric, and whether each rule found the drift."""
    stream = draw_stream(population, QUIET + lead + WITHIN, how=how, seed=seed)
    hurt = put_in(population, stream, replace(injection, first_day=FIRST + timedelta(days=QUIET), seed=seed))
    drift, performance = watch(population, hurt)
    counted = FIRST + timedelta(days=QUIET + lead)
    before, after = (_metric_since(population, frame, counted) for frame in (stream, hurt))
    cost = None if before is None or after is None else population.metric.gain(before, after)
    by_drift = drift_requests(population, drift)[QUIET:]
    return cost, any(by_drift), any(performance_requests(population, performance)[QUIET:])


def put_in(population: Population, stream: pl.DataFrame, injection: Injection) -> pl.DataFrame:
    """Return a stream with injected drift, scored again."""
    if injection.kind == "flip":
        return inject(stream, replace(injection, column=population.target), day=DAY)
    if injection.kind == "prior":
        labels = stream.select(ROW, population.target)
        wanted = replace(injection, column=population.target)
        return inject_prior(stream, labels, wanted, key=[ROW], day=DAY)[0]
    features = stream.select(DAY, *_takes(population, stream, injection))
    changed = stream.with_columns(inject(features, injection, day=DAY).drop(DAY).get_columns())
    return changed.with_columns(population.score(changed).alias(SCORE))


def _takes(population: Population, stream: pl.DataFrame, injection: Injection) -> list[str]:
    """Return the matching features of the model that have a type which the injection supports."""
    names = [feature.name for feature in population.features]
    if injection.kind in {"unit", "slope"}:
        return [name for name in names if stream.schema[name].is_numeric()]
    return [name for name in names if injection.kind != "category" or stream.schema[name] == pl.String]


def watch(population: Population, stream: pl.DataFrame) -> tuple[list[DriftSummary], list[PerformanceSummary]]:
    """Return each day's drift, and its performance as if all labels of the day were known."""
    limits, version = population.limits, population.serving.version
    drift, performance = [], []
    by_day = stream.with_columns(model_version=pl.lit(version)).partition_by(DAY)
    days = {DAILY.first_key(rows[DAY][0]): rows for rows in by_day}
    watched = Watched("watched", version, population.known, population.weights)
    for key, rows in days.items():
        pooled, judged = rows_of_period(days, key, version, min_rows=limits.min_rows, most_periods=limits.pool_days)
        drift.append(measure_drift(judged, watched, pooled, limits).summary)
        performance.append(_performance(population, rows, rows[DAY][0]))
    return drift, performance


def _performance(population: Population, rows: pl.DataFrame, day: date) -> PerformanceSummary:
    value = _metric(population, rows)
    labelled = rows.drop_nulls(population.target)
    name = population.metric.name
    expected, expected_labelled = (
        {} if part is None or (found := _expected_metric(population, part)) is None else {name: found}
        for part in (rows if population.weight is None else None, labelled)
    )
    return PerformanceSummary(
        model="watched", model_version=population.serving.version, day=day, predictions=rows.height,
        labelled=labelled.height, without_label=rows.height - labelled.height,
        measured={} if value is None else {name: Interval(value=value, low=None, high=None, reason="not measured")},
        expected=expected, expected_labelled=expected_labelled,
    )  # fmt: skip


def _expected_metric(population: Population, rows: pl.DataFrame) -> float | None:
    groups, weights = groups_of(population.metric, rows), weight_vector(rows, population.weight)
    return expected_metric(population.metric, rows[SCORE].to_numpy(), groups, weights)


def _metric(population: Population, rows: pl.DataFrame) -> float | None:
    labelled = rows.drop_nulls(population.target)
    try:
        return population.metric.function(
            labelled[population.target].cast(pl.Float64).to_numpy(),
            labelled[SCORE].to_numpy(),
            weight_vector(labelled, population.weight),
            groups=groups_of(population.metric, labelled),
        )
    except DataError:
        return None  # the metric is not defined on a day with a single class


def _metric_since(population: Population, stream: pl.DataFrame, day: date) -> float | None:
    """Return the mean over days."""
    values = [_metric(population, rows) for rows in stream.filter(pl.col(DAY) >= day).partition_by(DAY)]
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def drift_requests(population: Population, days: Sequence[DriftSummary]) -> list[bool]:
    """Return for each day whether drift requests a retraining, with what is known by its end."""
    return [drift_finding(seen, population.serving, population.rules).is_over for seen in _so_far(days)]


def performance_requests(population: Population, days: Sequence[PerformanceSummary]) -> list[bool]:
    """Return for each day whether performance requests a retraining, with what is known by its end."""
    return [
        performance_finding(seen, population.serving, population.rules, population.metric).is_over
        for seen in _so_far(days)
    ]


def _so_far(days: Sequence[T]) -> Iterator[Sequence[T]]:
    return (days[: number + 1] for number in range(len(days)))
