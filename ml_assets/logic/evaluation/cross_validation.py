"""Evaluate the procedure that trained a challenger by a repeated cross-validation, for tables with few rows.

Not here: dealing rows into folds (see `ml_assets.logic.tables.folds`), training without a fold (see
`ml_assets.models.evaluation`), and a single test part (see `report`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.evaluation import (
    FOLDS,
    Baseline,
    Comparison,
    CrossValidation,
    Evaluation,
    EvaluationSummary,
    Interval,
    MeasuredCoverage,
)
from ml_assets.contracts.artifacts.training import INTERVAL, TrainingSet
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import level_of
from ml_assets.logic.evaluation.baselines import baselines
from ml_assets.logic.evaluation.curves import CALIBRATION_SCHEMA, calibration_bins, curves
from ml_assets.logic.evaluation.formulas import Vector
from ml_assets.logic.evaluation.jackknife import MINIMUM_CLUSTERS, Spread, leave_one_out
from ml_assets.logic.evaluation.measuring import (
    ANCHOR,
    CHALLENGER,
    CHAMPION,
    Frozen,
    SliceFigures,
    daily_loss,
    slice_table,
)
from ml_assets.logic.evaluation.metrics import Metric, find_metric, operating_metrics
from ml_assets.logic.evaluation.report import (
    EvaluationPlan,
    Opponent,
    check_measurable,
    frozen_rows,
    measurable,
    row_weights,
    scores_of,
)


@dataclass(frozen=True)
class ScoredFold:
    """The scores of the tested rows of one fold.

    Attributes:
        index: (rows,) the places of the tested rows in the training set.
        others: the rows that its models were selected, tuned and trained on.
        scores: by model: challenger, champion and anchor; of models that can score them.
    """

    index: NDArray[np.int64]
    others: pl.DataFrame
    scores: Mapping[str, pl.DataFrame]


def corrected_spread(values: Vector, test_share: float) -> Spread:
    """Return the standard error of a mean over folds, by the corrected resampled t test.

    The models of two folds share most of their training rows, so their figures are not independent, and the plain
    variance s² / J of a mean over J folds is far too small. Nadeau and Bengio (2003, «Inference for the Generalization
    Error», Machine Learning 52) replace it by (1 / J + n_test / n_train) s², with J - 1 degrees of freedom. Bouckaert
    and Frank (2004) use it for repeated cross-validation.

    Folds on which the metric is not defined are left out.

    Args:
        values: (folds,) one figure per fold; NaN where the metric is not defined.
        test_share: the tested rows of a fold divided by the rows that its models are trained on.
    """
    known = values[np.isfinite(values)]
    count = len(known)
    if count < MINIMUM_CLUSTERS:
        return Spread(
            reason=f"cannot decide: the metric is defined on {count} of the {len(values)} folds; at least "
            f"{MINIMUM_CLUSTERS} are needed"
        )
    return Spread(math.sqrt((1 / count + test_share) * float(known.var(ddof=1))), count - 1)


@dataclass(frozen=True)
class _Folds:
    """The scores of all models on all folds, as arrays.

    Attributes:
        frozen: all rows.
        scores: by model, and for each fold in order: (rows of the fold,) scores.
    """

    frozen: Frozen
    index: tuple[NDArray[np.int64], ...]
    scores: Mapping[str, tuple[Vector, ...]]
    test_share: float

    def values(self, who: str, metric: Metric, among: NDArray[np.bool_] | None = None) -> Vector:
        """Return (folds,) a metric of a model on each fold; NaN where it is not defined.

        With `among` (rows,), only these rows count.
        """
        return np.array(
            [
                self._value(metric, index, scores, among)
                for index, scores in zip(self.index, self.scores[who], strict=True)
            ]
        )

    def _value(
        self, metric: Metric, index: NDArray[np.int64], scores: Vector, among: NDArray[np.bool_] | None
    ) -> float:
        if among is not None:
            index, scores = index[among[index]], scores[among[index]]
        if not len(index):
            return math.nan
        part = self.frozen.of(index)
        try:
            return part.measure(metric, scores)(np.ones(len(index)))
        except DataError:
            return math.nan

    def figure(self, values: Vector, lowest: float, highest: float) -> Interval:
        """Return the mean of a figure over the folds, with its interval."""
        value = float(np.nanmean(values))
        found = corrected_spread(values, self.test_share).interval(value)
        if found.low is None or found.high is None:
            return found
        return found.model_copy(update={"low": max(found.low, lowest), "high": min(found.high, highest)})

    @cached_property
    def of_rows(self) -> Vector:
        """The challenger's score of each row in the first repeat: (rows,), or (rows, classes)."""
        return self.first_repeat(CHALLENGER)

    def first_repeat(self, who: str) -> Vector:
        """Return a model's score of each row in the first repeat: (rows,), or (rows, classes)."""
        own = self.scores[who]
        found = np.full((len(self.frozen.truth), *own[0].shape[1:]), np.nan)
        for index, scores in zip(self.index, own, strict=True):
            is_open = np.isnan(found[index].reshape(len(index), -1)[:, 0])
            found[index[is_open]] = scores[is_open]
        return found

    def metric(self, metric: Metric) -> Interval | None:
        """Return a metric of the challenger; None if it is defined on no fold.

        The calibration error of a few rows is mostly noise. It is measured on the scores of all rows in one repeat, and
        its interval comes from leaving out rows or groups.
        """
        if metric.bias is None:
            values = self.values(CHALLENGER, metric)
            return self.figure(values, metric.lowest, metric.highest) if np.isfinite(values).any() else None
        measure = self.frozen.measure(metric, self.of_rows)
        left_out = leave_one_out({metric.name: measure}, self.frozen.clusters)[metric.name]
        return self.frozen.interval(metric, self.of_rows, measure(np.ones(len(self.of_rows))), left_out)

    def mean(self, who: str, metric: Metric) -> float | None:
        """Return a metric as `metric` does, without an interval; None if it is defined on no fold."""
        if metric.bias is not None:
            return self.frozen.measure(metric, self.first_repeat(who))(np.ones(len(self.frozen.truth)))
        values = self.values(who, metric)
        return float(np.nanmean(values)) if np.isfinite(values).any() else None

    def compared(self, against: str, among: NDArray[np.bool_] | None = None) -> Comparison | None:
        """Compare the challenger with another model, fold by fold; None if it has no scores."""
        if against not in self.scores:
            return None
        metric = self.frozen.metric
        own, other = (self.values(who, metric, among) for who in (CHALLENGER, against))
        is_known = np.isfinite(own) & np.isfinite(other)
        gains = np.where(is_known, own - other if metric.higher_is_better else other - own, np.nan)
        if not is_known.any():
            return None
        found = corrected_spread(gains, self.test_share)
        return Comparison(
            against=against,
            metric=metric.name,
            challenger=float(own[is_known].mean()),
            other=float(other[is_known].mean()),
            difference=found.interval(float(gains[is_known].mean())),
            rows=len(self.frozen.truth) if among is None else int(among.sum()),
            clusters=int(is_known.sum()),
            unit=FOLDS,
            standard_error=found.error,
            degrees_of_freedom=found.degrees,
        )


def cross_validate(
    training: TrainingSet,
    folds: Sequence[ScoredFold],
    wanted: EvaluationPlan,
    *,
    version: str,
    last_seen_day: date,
    champion: Opponent | None = None,
    anchor: Opponent | None = None,
    training_set_version: str = "",
) -> Evaluation:
    """Measure the procedure that trained a challenger, with baselines, champion and anchor on the same folds.

    Each figure is the mean over the folds of all repeats. Its interval and the comparisons are those of
    `corrected_spread`. Curves and calibration show the first repeat, in which each row is scored once.

    `champion` and `anchor` have no scores of their own: those of models of their recipe are in the folds.

    Raises:
        DataError: Columns are missing, or the deciding metric is defined on no fold.
    """
    rows, summary, split = training.rows, training.summary, training.summary.split
    declared = find_metric(wanted.metric, summary.task)
    check_measurable(rows, folds[0].others, summary, slices=wanted.slices, baseline_rates=wanted.baseline_rates)
    champion, anchor = (
        _measurable_on(folds, who, it, declared) for who, it in ((CHAMPION, champion), (ANCHOR, anchor))
    )
    compared = [
        who for who, it in ((CHAMPION, champion), (ANCHOR, anchor)) if it is not None and it.cannot_score is None
    ]
    simple = [
        baselines(
            rows[it.index], it.others, summary, wanted.baseline_rates, seed=wanted.seed, threads=wanted.threads,
            level=None if summary.objective is None else level_of((declared.overall or declared).name),
        )
        for it in folds
    ]  # fmt: skip
    scores = {
        who: tuple(scores_of(it.scores[who], rows[it.index], summary) for it in folds)
        for who in (CHALLENGER, *compared)
        if who in folds[0].scores
    } | {who: tuple(it[who][1] for it in simple) for who in simple[0]}
    tested = float(np.mean([len(it.index) for it in folds]))
    trained = float(np.mean([it.others.height for it in folds]))
    own = tuple(find_metric(name, summary.task) for name in wanted.own_metrics)
    frozen = frozen_rows(rows, summary, declared, own)
    found = _Folds(frozen, tuple(it.index for it in folds), scores, tested / trained)
    shown = (*frozen.metrics, *operating_metrics(wanted.operating_point))
    metrics = {each.name: figure for each in shown if (figure := found.metric(each)) is not None}
    if wanted.metric not in metrics:
        raise DataError(
            f"metric '{wanted.metric}' of model '{summary.model}' is defined on none of the {len(folds)} folds. "
            "Declare fewer folds, or another metric."
        )
    calibration_error = metrics.get("calibration_error")
    report = EvaluationSummary(
        model=summary.model,
        model_version=version,
        training_set_version=training_set_version,
        task=summary.task,
        metric=wanted.metric,
        rows=rows.height,
        target_mean=frozen.target_mean,
        metrics=metrics,
        baselines=tuple(
            Baseline(
                name=who,
                description=description,
                metrics={each.name: mean for each in shown if (mean := found.mean(who, each)) is not None},
            )
            for who, (description, _) in simple[0].items()
        ),
        against_baselines=tuple(it for who in simple[0] if (it := found.compared(who)) is not None),
        against_champion=found.compared(CHAMPION),
        champion_version=None if champion is None else champion.version,
        champion_cannot_score=None if champion is None else champion.cannot_score,
        against_anchor=found.compared(ANCHOR),
        anchor_version=None if anchor is None else anchor.version,
        anchor_cannot_score=None if anchor is None else anchor.cannot_score,
        test_days=(frozen.days.min().item(), frozen.days.max().item()),
        last_seen_day=last_seen_day,
        calibration_error=None if calibration_error is None else calibration_error.value,
        daily_loss=daily_loss(
            frozen.truth,
            found.of_rows,
            rows.select(wanted.calendar.of_days.period_of_row()).to_series().to_numpy(),
            metric=declared,
            promised=metrics[wanted.metric].value,
            groups=frozen.groups,
            weights=frozen.weights,
        ),
        groups=frozen.count_groups(found.of_rows),
        operating_point=wanted.operating_point,
        split=split,
        objective=summary.objective,
        coverage=None if wanted.coverage is None else _coverage(found, folds, wanted.coverage),
        weight=None if frozen.weights is None else row_weights(summary.weight, frozen.weights),
        cross_validation=CrossValidation(
            folds=0 if split is None else split.folds,
            repeats=0 if split is None else split.repeats,
            test_rows=tested,
            train_rows=trained,
            scores={who: _or_none(found.values(who, declared)) for who in scores},
        ),
    )
    return Evaluation(
        summary=report,
        slices=_slices(found, rows, wanted),
        curves=curves(frozen.truth, found.of_rows, summary, frozen.weights),
        calibration=calibration_bins(frozen, found.of_rows)
        if summary.task == "binary"
        else pl.DataFrame(schema=CALIBRATION_SCHEMA),
    )


def _or_none(values: Vector) -> tuple[float | None, ...]:
    return tuple(float(value) if math.isfinite(value) else None for value in values)


def _measurable_on(folds: Sequence[ScoredFold], who: str, opponent: Opponent | None, metric: Metric) -> Opponent | None:
    """Return an opponent, with the reason why its scores cannot be measured if it has any such score."""
    own = [it.scores[who] for it in folds if who in it.scores]
    if opponent is None or not own:
        return opponent
    found = measurable(Opponent(opponent.version, pl.concat(own)), metric)
    return opponent if found is None or found.scores is not None else found


def _coverage(found: _Folds, folds: Sequence[ScoredFold], declared: float) -> MeasuredCoverage:
    """Return the share of the labels inside the prediction intervals of the models of the folds, and the mean width."""
    inside, widths = [], []
    for it in folds:
        low, high = (it.scores[CHALLENGER][name].to_numpy() for name in INTERVAL)
        part = found.frozen.of(it.index)
        inside.append(part.mean(((part.truth >= low) & (part.truth <= high)).astype(np.float64)))
        widths.append(part.mean(high - low))
    measured = found.figure(np.array(inside), 0.0, 1.0)
    return MeasuredCoverage(declared=declared, measured=measured, mean_width=float(np.mean(widths)))


def _slices(found: _Folds, rows: pl.DataFrame, wanted: EvaluationPlan) -> pl.DataFrame:
    """Return one row for each slice and metric. A slice is judged if its metric is defined on enough folds."""
    frozen = found.frozen

    def measure(index: NDArray[np.int64]) -> SliceFigures:
        among = np.zeros(rows.height, dtype=np.bool_)
        among[index] = True
        scores = {
            it.name: (_mean_of(found, CHALLENGER, it, among), _mean_of(found, CHAMPION, it, among))
            for it in frozen.metrics
        }
        if reason := frozen.of(index).why_too_few(wanted.min_slice_rows):
            return SliceFigures(scores, reason)
        own = found.values(CHALLENGER, frozen.metric, among)
        defined = int(np.isfinite(own).sum())
        if not defined:
            return SliceFigures(scores, "the metric is defined on no fold")
        figure = found.figure(own, frozen.metric.lowest, frozen.metric.highest)
        compared = found.compared(CHAMPION, among)
        reason = figure.reason or ("" if compared is None else compared.difference.reason)
        return SliceFigures(scores, reason, figure, compared, defined, FOLDS)

    return slice_table(rows, wanted.slices, frozen, measure)


def _mean_of(found: _Folds, who: str, metric: Metric, among: NDArray[np.bool_]) -> float | None:
    if who not in found.scores:
        return None
    values = found.values(who, metric, among)
    return float(np.nanmean(values)) if np.isfinite(values).any() else None
