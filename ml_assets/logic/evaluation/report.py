"""Evaluate the challenger on frozen test rows: metrics, baselines, champion, slices, curves, calibration.

Not here: training and scoring (see `ml_assets.logic.training`), and the verdict (see `ml_assets.logic.promotion.gate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.evaluation import (
    Baseline,
    Evaluation,
    EvaluationSummary,
    OperatingPoint,
    RowWeights,
)
from ml_assets.contracts.artifacts.training import HashSplit, TrainingSetSummary, split_words
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import level_of
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.logic.evaluation.baselines import baselines
from ml_assets.logic.evaluation.curves import CALIBRATION_SCHEMA, calibration_bins, curves
from ml_assets.logic.evaluation.formulas import Measure, Vector, acted_on
from ml_assets.logic.evaluation.jackknife import leave_one_out
from ml_assets.logic.evaluation.known_groups import known_groups
from ml_assets.logic.evaluation.measuring import (
    ANCHOR,
    CHALLENGER,
    CHAMPION,
    MINIMUM_SLICE_ROWS,
    Frozen,
    Key,
    daily_loss,
    exactly,
    measure_slices,
    measured_coverage,
)
from ml_assets.logic.evaluation.metrics import Metric, find_metric, group_numbers, groups_of, operating_metrics
from ml_assets.logic.training.encoding import target_vector, weight_vector

MINIMUM_UNSEEN_ROWS: Final = 200


@dataclass(frozen=True)
class Learned:
    """What a model was trained or tuned on.

    Attributes:
        seen: (rows,) whether it was trained or tuned on each test row.
        last_day: the last day of the rows that it was trained or tuned on.
        split: how its training set was split; None for windows of time.
    """

    seen: NDArray[np.bool_]
    last_day: date
    split: HashSplit | None = None


@dataclass(frozen=True)
class Opponent:
    """A model that the challenger is compared with: the champion, the anchor, or the champion of the pooled model.

    Attributes:
        scores: its scores of the test rows, in their order; None if it cannot score them.
        cannot_score: why it cannot, in a sentence.
        learned: what it has learned from; None if that follows from the last seen day.
        seen_rows: test rows that it has learned from because of another split, so that it is not compared.
        model: the name of the pooled model; '' for a version of the challenger's model.
    """

    version: str
    scores: pl.DataFrame | None = None
    cannot_score: str | None = None
    learned: Learned | None = None
    seen_rows: int = 0
    model: str = ""

    @property
    def baseline(self) -> str:
        """The name of the pooled model as a baseline."""
        return f"pooled model {self.model}"


@dataclass(frozen=True)
class EvaluationPlan:
    """What is measured on the rows, and how.

    Attributes:
        metric: the deciding metric, which comparisons and slices use; over all rows or within groups.
        slices: columns of the rows; each value becomes a slice.
        baseline_rates: sets of columns. Each becomes a baseline: the target's smoothed mean in train by their values.
        seed: seed of the tree baseline.
        operating_point: where precision, recall and lift are measured.
        min_slice_rows: a smaller slice is reported but not judged.
        threads: threads of the tree baseline.
        calendar: of the periods whose performance is measured later, which `daily_loss` is compared with.
        coverage: declared coverage of the challenger's prediction intervals; None if it has none.
        own_metrics: metrics that are a person's functions (see `ml_assets.logic.evaluation.own_measure`).
        pooled: the champion of the model of all rows, which a model of some rows must beat like a baseline.
    """

    metric: str
    slices: Sequence[str] = ()
    baseline_rates: Sequence[Sequence[str]] = ()
    seed: int = 0
    operating_point: OperatingPoint | None = None
    min_slice_rows: int = MINIMUM_SLICE_ROWS
    threads: int = 2
    calendar: Calendar = DAILY
    coverage: float | None = None
    own_metrics: Sequence[str] = ()
    pooled: Opponent | None = None


def evaluate(
    rows: pl.DataFrame,
    train: pl.DataFrame,
    summary: TrainingSetSummary,
    scored: Opponent,
    wanted: EvaluationPlan,
    *,
    last_seen_day: date,
    champion: Opponent | None = None,
    anchor: Opponent | None = None,
    training_set_version: str = "",
) -> Evaluation:
    """Measure a challenger on frozen rows, with baselines, champion and anchor on the same rows.

    Intervals come from leaving out one day, group or fold of rows at a time, the same for all models. Differences are
    therefore paired, and rows of one day or group, which are alike, do not count as independent (see `jackknife`). With
    windows of time and a declared group, days and groups are left out.

    Rows that challenger, champion or anchor was trained or tuned on are excluded. If too few rows remain, all rows are
    measured without comparison, so the gate rejects the challenger. If too few remain because a champion or an anchor
    was trained with another split, only that model is not compared.

    A metric that is not defined on the rows (a class is absent) is omitted from the report. For the deciding metric
    and a person's own metrics this is an error.

    `rows` is the test part of a training set with key, `day`, target, features, and the columns of slices and
    baselines; the challenger `scored` each, in their order. Baselines are fitted on `train` only. An anchor that is the
    champion is not measured twice.

    Raises:
        DataError: Rows and scores do not match, columns are missing, or the deciding metric is not defined on the rows.
    """
    metric, declared = wanted.metric, find_metric(wanted.metric, summary.task)
    check_measurable(rows, train, summary, slices=wanted.slices, baseline_rates=wanted.baseline_rates)
    scores = pl.DataFrame() if scored.scores is None else scored.scores
    own = tuple(find_metric(name, summary.task) for name in wanted.own_metrics)
    frozen, challenger = frozen_rows(rows, summary, declared, own), scores_of(scores, rows, summary)
    champion, anchor, pooled = (
        measurable(_compared_or_not(it, scored, frozen), declared) for it in (champion, anchor, wanted.pooled)
    )
    opponents = _scores_of_opponents(champion, anchor, pooled, rows, summary)
    is_seen, last_seen_day = _seen(frozen, last_seen_day, [scored, champion, anchor, pooled])
    seen, seen_rows, unseen = int(is_seen.sum()), 0, np.flatnonzero(~is_seen)
    if seen and _why_too_few(frozen, unseen):
        seen, seen_rows, opponents = 0, seen, {}
    elif seen:
        rows, frozen, challenger, scores = rows[unseen], frozen.of(unseen), challenger[unseen], scores[unseen]
        opponents = {who: values[unseen] for who, values in opponents.items()}
    simple = baselines(
        rows, train, summary, wanted.baseline_rates, seed=wanted.seed, threads=wanted.threads,
        level=None if summary.objective is None else level_of((declared.overall or declared).name),
    )  # fmt: skip

    shown = (*frozen.metrics, *operating_metrics(wanted.operating_point))
    measures: dict[Key, Measure] = {(CHALLENGER, each.name): frozen.measure(each, challenger) for each in shown}
    for who, values in ({who: values for who, (_, values) in simple.items()} | opponents).items():
        measures[who, metric] = frozen.measure(declared, values)
    left_out = leave_one_out(measures, frozen.clusters)
    exact = exactly(measures, rows.height, needed=[key for key in measures if key[1] in {metric, *wanted.own_metrics}])

    metrics = {
        name: frozen.interval(each, challenger, exact[CHALLENGER, name], left_out[CHALLENGER, name])
        for each in shown
        if (CHALLENGER, name := each.name) in exact
    }
    calibration_error = metrics.get("calibration_error")
    report = EvaluationSummary(
        model=summary.model,
        model_version=scored.version,
        training_set_version=training_set_version,
        task=summary.task,
        metric=metric,
        rows=rows.height,
        target_mean=frozen.target_mean,
        metrics=metrics,
        baselines=(
            *(
                Baseline(name=who, description=description, metrics=_point_metrics(frozen, values, shown))
                for who, (description, values) in simple.items()
            ),
            *([] if pooled is None else [_pooled_baseline(pooled, frozen, opponents, shown)]),
        ),
        against_baselines=tuple(
            frozen.compared(who, challenger, exact, left_out)
            for who in (*simple, *([pooled.baseline] if pooled is not None and pooled.baseline in opponents else []))
        ),
        against_champion=frozen.compared(CHAMPION, challenger, exact, left_out) if CHAMPION in opponents else None,
        champion_version=None if champion is None else champion.version,
        champion_cannot_score=None if champion is None else champion.cannot_score,
        against_anchor=frozen.compared(ANCHOR, challenger, exact, left_out) if ANCHOR in opponents else None,
        anchor_version=None if anchor is None else anchor.version,
        anchor_cannot_score=None if anchor is None else anchor.cannot_score,
        test_days=(frozen.days.min().item(), frozen.days.max().item()),
        last_seen_day=last_seen_day,
        excluded_rows=seen,
        seen_rows=seen_rows,
        calibration_error=None if calibration_error is None else calibration_error.value,
        daily_loss=daily_loss(
            frozen.truth,
            challenger,
            rows.select(wanted.calendar.of_days.period_of_row()).to_series().to_numpy(),
            metric=declared,
            promised=metrics[metric].value,
            groups=frozen.groups,
            weights=frozen.weights,
        ),
        groups=frozen.count_groups(challenger),
        operating_point=_with_cut(wanted.operating_point, challenger, frozen.weights),
        split=summary.split,
        champion_seen_rows=0 if champion is None else champion.seen_rows,
        objective=summary.objective,
        coverage=None if wanted.coverage is None else measured_coverage(frozen, scores, wanted.coverage),
        weight=None if frozen.weights is None else row_weights(summary.weight, frozen.weights),
        pooled_version=None if pooled is None or pooled.scores is None else pooled.version,
        known_groups=None
        if summary.group is None
        else known_groups(frozen, rows[summary.group], train[summary.group], challenger, wanted.min_slice_rows),
    )
    return Evaluation(
        summary=report,
        slices=measure_slices(
            frozen, rows, wanted.slices, challenger, opponents.get(CHAMPION), min_rows=wanted.min_slice_rows
        ),
        curves=curves(frozen.truth, challenger, summary, frozen.weights),
        calibration=calibration_bins(frozen, challenger)
        if summary.task == "binary"
        else pl.DataFrame(schema=CALIBRATION_SCHEMA),
    )


def _with_cut(point: OperatingPoint | None, scores: Vector, weights: Vector | None) -> OperatingPoint | None:
    """Return an operating point with the lowest score of its share of all rows, if it is a share."""
    if point is None or point.top_share is None:
        return point
    flagged = scores[acted_on(point, scores, None, weights) > 0]
    return point.model_copy(update={"cut": float(flagged.min())})


def _compared_or_not(opponent: Opponent | None, challenger: Opponent, frozen: Frozen) -> Opponent | None:
    """Return an opponent without scores if it was trained with another split on too many of the test rows."""
    if opponent is None or opponent.learned is None or opponent.scores is None or not opponent.learned.seen.any():
        return opponent
    own, split = opponent.learned, frozen.summary.split
    if own.split is split or (own.split is not None and own.split.is_same_rule(split)):
        return opponent
    is_new = ~own.seen if challenger.learned is None else ~(own.seen | challenger.learned.seen)
    if not _why_too_few(frozen, np.flatnonzero(is_new)):
        return opponent
    rows = int(own.seen.sum())
    return Opponent(
        opponent.version,
        cannot_score=f"not comparable: its training set was split {split_words(own.split)}, that of the challenger "
        f"{split_words(split)}; it was trained or tuned on {rows:,} of the {len(own.seen):,} test rows.",
        seen_rows=rows,
        model=opponent.model,
    )


def _pooled_baseline(
    pooled: Opponent, frozen: Frozen, opponents: Mapping[str, Vector], shown: Sequence[Metric]
) -> Baseline:
    """Return the pooled model as a baseline; without metrics if it is not compared."""
    values, description = opponents.get(pooled.baseline), "The champion of the model of all rows."
    if values is None:
        why = pooled.cannot_score or "too few test rows are new to it."
        return Baseline(name=pooled.baseline, description=f"{description} Not compared: {why}", metrics={})
    return Baseline(name=pooled.baseline, description=description, metrics=_point_metrics(frozen, values, shown))


def _seen(frozen: Frozen, last_seen_day: date, compared: Sequence[Opponent | None]) -> tuple[NDArray[np.bool_], date]:
    """Return whether any of the compared models has learned from each row, and the last day that they learned from."""
    learned = [it.learned for it in compared if it is not None and it.learned is not None and it.scores is not None]
    if not learned:
        return frozen.days <= np.datetime64(last_seen_day), last_seen_day
    return np.logical_or.reduce([it.seen for it in learned]), max(it.last_day for it in learned)


def _why_too_few(frozen: Frozen, unseen: NDArray[np.int64]) -> str:
    """Return why the unseen rows are too few to judge a model; empty if there are enough.

    A test part that is not by time may be small, and then a few seen rows leave enough.
    """
    if frozen.summary.split is None:
        return frozen.of(unseen).why_too_few(MINIMUM_UNSEEN_ROWS)
    least = min(MINIMUM_UNSEEN_ROWS, -(-len(frozen.truth) // 2))
    return "" if len(unseen) >= least else f"{len(unseen)} rows, fewer than {least}"


def scores_of(scores: pl.DataFrame, rows: pl.DataFrame, summary: TrainingSetSummary) -> Vector:
    """Return scores as metrics take them: (rows,), or (rows, classes) in the order of the summary's classes.

    Raises:
        DataError: The number of rows or the keys differ, or a score column is missing.
    """
    wanted = [f"score_{each}" for each in summary.classes] if summary.task == "multiclass" else ["score"]
    missing = [each for each in wanted if each not in scores.columns]
    if missing:
        raise DataError(
            f"the scores of model '{summary.model}' lack {', '.join(missing)}; got {', '.join(scores.columns)}. "
            f"Score with a model of task '{summary.task}' and the same classes."
        )
    if scores.height != rows.height:
        raise DataError(
            f"{scores.height} scores for {rows.height} rows of model '{summary.model}'; expected one each. "
            "Score the frozen rows themselves."
        )
    key = list(summary.key)
    if set(key) <= set(scores.columns) and not scores.select(key).equals(rows.select(key)):
        raise DataError(
            f"the scores of model '{summary.model}' have other keys than the rows; expected the same "
            f"{', '.join(key)} in the same order. Score the frozen rows themselves."
        )
    values = scores.select(pl.col(wanted).cast(pl.Float64)).to_numpy()
    return values if summary.task == "multiclass" else values[:, 0]


def measurable(opponent: Opponent | None, metric: Metric) -> Opponent | None:
    """Return an opponent without its scores if the metric is not defined for them, as of a model of another loss."""
    if opponent is None or opponent.scores is None or not metric.needs_positive_scores:
        return opponent
    wrong = int((opponent.scores["score"] <= 0).sum())
    if not wrong:
        return opponent
    why = f"{wrong} of its {opponent.scores.height} scores are 0 or less, for which {metric.name} is not defined."
    return replace(opponent, scores=None, cannot_score=why)


def _scores_of_opponents(
    champion: Opponent | None,
    anchor: Opponent | None,
    pooled: Opponent | None,
    rows: pl.DataFrame,
    summary: TrainingSetSummary,
) -> dict[str, Vector]:
    """Return the scores of champion, anchor and pooled model, if they have any; each version of a model once."""
    is_same = champion is not None and anchor is not None and champion.version == anchor.version
    requested = (
        (CHAMPION, champion),
        (ANCHOR, None if is_same else anchor),
        (pooled.baseline if pooled else "", pooled),
    )
    return {
        who: scores_of(it.scores, rows, summary) for who, it in requested if it is not None and it.scores is not None
    }


def frozen_rows(
    rows: pl.DataFrame, summary: TrainingSetSummary, metric: Metric, own: tuple[Metric, ...] = ()
) -> Frozen:
    """Return the rows as arrays, with the groups of the metric and of the split."""
    truth = target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes)
    column = summary.unit_column
    units = None if column is None else group_numbers(rows[column])
    weights = weight_vector(rows, summary.weight)
    return Frozen(truth, rows["day"].to_numpy(), summary, metric, groups_of(metric, rows), units, weights, own)


def row_weights(column: str | None, weights: Vector) -> RowWeights:
    """Return what the weights of the test rows amount to (Kish 1965, Survey Sampling)."""
    total = float(weights.sum())
    return RowWeights(column=column or "", total=total, effective_rows=total**2 / float((weights**2).sum()))


def check_measurable(
    rows: pl.DataFrame,
    train: pl.DataFrame,
    summary: TrainingSetSummary,
    *,
    slices: Sequence[str],
    baseline_rates: Sequence[Sequence[str]],
) -> None:
    """Check that a challenger can be evaluated on the rows.

    Raises:
        DataError: Rows or columns are missing, or have the wrong type; all problems together.
    """
    broken: list[str] = []
    if rows.is_empty() or train.is_empty():
        broken.append(f"{rows.height} test rows and {train.height} train rows; expected some of each")
    rates = {column for columns in baseline_rates for column in columns}
    features = {feature.name for feature in summary.features}
    units = set() if summary.unit_column is None else {summary.unit_column}
    trained = set() if summary.group is None else {summary.group}
    own = {summary.target} if summary.weight is None else {summary.target, summary.weight}
    for what, frame, wanted in (
        ("test rows", rows, {"day", *own, *slices, *rates, *features, *units}),
        ("train rows", train, {*own, *rates, *features, *trained}),
    ):
        missing = sorted(wanted - set(frame.columns))
        if missing:
            broken.append(
                f"the {what} lack {', '.join(missing)}, which target, slices, baselines, features or groups need"
            )
    broken += [
        f"slice column '{column}' is {rows.schema[column]}; expected categories, whole numbers or Booleans"
        for column in slices
        if column in rows.columns and not _is_sliceable(rows.schema[column])
    ]
    target = rows.schema.get(summary.target)
    if summary.task != "multiclass" and target is not None and not (target.is_numeric() or target == pl.Boolean):
        broken.append(f"target '{summary.target}' is {target}; task '{summary.task}' needs numbers")
    broken += ["a baseline of historical rates names no column" for columns in baseline_rates if not columns]
    if broken:
        raise DataError(
            f"model '{summary.model}' cannot be evaluated: {'; '.join(broken)}. Fix the declaration or the rows."
        )


def _is_sliceable(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Date)


def _point_metrics(frozen: Frozen, scores: Vector, shown: Sequence[Metric]) -> dict[str, float]:
    measures: dict[Key, Measure] = {("", each.name): frozen.measure(each, scores) for each in shown}
    return {name: value for (_, name), value in exactly(measures, len(frozen.truth)).items()}
