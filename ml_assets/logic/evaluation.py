"""The challenger's report on frozen test rows: metrics, baselines, champion, slices, curves, calibration.

Training and scoring stay out (scores come in as frames), and so does the verdict: see `champion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts import (
    Baseline,
    Comparison,
    Evaluation,
    EvaluationSummary,
    Interval,
    TrainingSetSummary,
)
from ml_assets.contracts.errors import DataError
from ml_assets.logic.metrics import (
    METRICS,
    REPLICATES,
    Measure,
    Metric,
    Vector,
    compare,
    equal_mass_bins,
    find_metric,
    interval_of,
    metrics_of,
    resample,
)
from ml_assets.logic.model import encode, fit_vocabularies, target_vector, to_matrix

CURVE_POINTS: Final = 200
HISTOGRAM_BINS: Final = 50
MINIMUM_CLASS_ROWS: Final = 10
MINIMUM_SLICE_ROWS: Final = 200
PREDICTED_ACTUAL_BINS: Final = 20
RATE_SMOOTHING: Final = 20
TREE_LEAVES: Final = 8
TREE_ROWS: Final = 50_000
WILSON_Z: Final = 1.959963984540054  # two-sided 95 %

CURVES_SCHEMA: Final[dict[str, pl.DataType]] = {
    "curve": pl.String(),
    "x": pl.Float64(),
    "y": pl.Float64(),
    "threshold": pl.Float64(),
}
CALIBRATION_SCHEMA: Final[dict[str, pl.DataType]] = {
    "bin": pl.Int64(),
    "rows": pl.Int64(),
    "score_mean": pl.Float64(),
    "truth_mean": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
}
SLICES_SCHEMA: Final[dict[str, pl.DataType]] = {
    "column": pl.String(),
    "value": pl.String(),
    "rows": pl.Int64(),
    "target_mean": pl.Float64(),
    "metric": pl.String(),
    "score": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "champion_score": pl.Float64(),
    "difference": pl.Float64(),
    "difference_low": pl.Float64(),
    "difference_high": pl.Float64(),
    "is_judged": pl.Boolean(),
    "reason": pl.String(),
}

Key = tuple[str, str]
"""Who was measured (challenger, champion or a baseline's name), and by which metric."""
CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"


@dataclass(frozen=True)
class _Test:
    """The frozen rows as arrays, and how they are resampled."""

    truth: Vector
    days: NDArray[np.datetime64]
    summary: TrainingSetSummary
    metric: Metric
    seed: int
    replicates: int

    def target_mean(self, index: NDArray[np.int64] | slice = slice(None)) -> float | None:
        return None if self.summary.task == "multiclass" else float(self.truth[index].mean())


def evaluate(
    *,
    rows: pl.DataFrame,
    scores: pl.DataFrame,
    train: pl.DataFrame,
    summary: TrainingSetSummary,
    model_name: str,
    model_version: str,
    training_set_version: str,
    metric: str,
    slices: Sequence[str],
    baseline_rates: Sequence[Sequence[str]],
    seed: int,
    champion_scores: pl.DataFrame | None = None,
    champion_version: str | None = None,
    champion_cannot_score: str | None = None,
    replicates: int = REPLICATES,
    minimum_slice_rows: int = MINIMUM_SLICE_ROWS,
    threads: int = 2,
) -> Evaluation:
    """Measure a challenger on frozen rows, beside simple predictors and the champion on the same rows.

    All intervals come from one set of resamples, so every difference is paired. Whole days are drawn, not
    rows: the rows of a day share weather and congestion, and treating them as independent makes intervals
    too narrow (with fewer than ten days, rows are drawn after all).

    A metric other than the declared one that is not defined on the rows (a class absent) is left out of
    the report; for the declared one this is an error.

    Args:
        rows: The test part of a training set: key, `day`, target, slice and baseline columns, features.
        scores: One row for each of `rows`, in their order, as the model's `predict` gives them.
        train: The train part; baselines learn from it and from nothing else.
        summary: What the training set says of itself.
        model_name: The declared model.
        model_version: The challenger's version.
        training_set_version: The version of the rows.
        metric: The declared metric, which comparisons and slices are judged by.
        slices: Columns of `rows`; every value becomes a slice.
        baseline_rates: Sets of columns; each makes a baseline of the target's smoothed mean in train.
        seed: Of the resamples and of the tree baseline.
        champion_scores: The champion's scores of the same rows, if there is a champion.
        champion_version: Its version.
        champion_cannot_score: Why there are no scores of a champion that serves, in a sentence.
        replicates: How many resamples.
        minimum_slice_rows: A smaller slice is shown but not judged.
        threads: For the tree baseline.

    Raises:
        DataError: Rows and scores do not belong together, columns are missing, or the declared metric is
            not defined on the rows.
    """
    declared = find_metric(metric, summary.task)
    _check(
        rows,
        train,
        summary,
        slices=slices,
        baseline_rates=baseline_rates,
        champion=(champion_scores if champion_cannot_score is None else scores, champion_version),
    )
    test = _Test(
        truth=_truth(rows, summary),
        days=rows["day"].to_numpy(),
        summary=summary,
        metric=declared,
        seed=seed,
        replicates=replicates,
    )
    challenger = scores_of(scores, rows, summary)
    champion = None if champion_scores is None else scores_of(champion_scores, rows, summary)
    simple = _baselines(rows, train, summary, baseline_rates, seed=seed, threads=threads)

    measures: dict[Key, Measure] = {
        (CHALLENGER, each.name): each.prepare(test.truth, challenger) for each in metrics_of(summary.task)
    }
    for who, (_, values) in simple.items():
        measures[who, metric] = declared.prepare(test.truth, values)
    if champion is not None:
        measures[CHAMPION, metric] = declared.prepare(test.truth, champion)
    drawn = resample(measures, rows=rows.height, groups=test.days, replicates=replicates, seed=seed)
    exact = _exact(measures, rows.height, needed=[key for key in measures if key[1] == metric])

    metrics = _intervals(exact, drawn, declared=metric)
    calibration_error = metrics.get("calibration_error")
    report = EvaluationSummary(
        model=model_name,
        model_version=model_version,
        training_set_version=training_set_version,
        task=summary.task,
        metric=metric,
        rows=rows.height,
        target_mean=test.target_mean(),
        metrics=metrics,
        baselines=tuple(
            Baseline(name=who, description=description, metrics=_point_metrics(test.truth, values, summary))
            for who, (description, values) in simple.items()
        ),
        against_baselines=tuple(_comparison(who, exact, drawn, declared, rows.height) for who in simple),
        against_champion=None if champion is None else _comparison(CHAMPION, exact, drawn, declared, rows.height),
        champion_version=champion_version,
        champion_cannot_score=champion_cannot_score,
        calibration_error=None if calibration_error is None else calibration_error.value,
    )
    return Evaluation(
        summary=report,
        slices=_slices(test, rows, slices, challenger, champion, minimum_rows=minimum_slice_rows),
        curves=_curves(test.truth, challenger, summary),
        calibration=calibration_bins(test.truth, challenger) if summary.task == "binary" else _no_calibration(),
    )


def scores_of(scores: pl.DataFrame, rows: pl.DataFrame, summary: TrainingSetSummary) -> Vector:
    """Return scores as metrics take them: (rows,), or (rows, classes) in the order of the summary's classes.

    Raises:
        DataError: Another number of rows, other keys, or a score column missing.
    """
    wanted = [f"score_{each}" for each in summary.classes] if summary.task == "multiclass" else ["score"]
    missing = [each for each in wanted if each not in scores.columns]
    if missing:
        message = (
            f"the scores of model '{summary.model}' lack {', '.join(missing)}; got {', '.join(scores.columns)}. "
            f"Score with a model of task '{summary.task}' and the same classes."
        )
        raise DataError(message)
    if scores.height != rows.height:
        message = (
            f"{scores.height} scores for {rows.height} rows of model '{summary.model}'; expected one each. "
            "Score the frozen rows themselves."
        )
        raise DataError(message)
    key = list(summary.key)
    if set(key) <= set(scores.columns) and not scores.select(key).equals(rows.select(key)):
        message = (
            f"the scores of model '{summary.model}' are keyed otherwise than the rows; expected the same "
            f"{', '.join(key)} in the same order. Score the frozen rows themselves."
        )
        raise DataError(message)
    values = scores.select(pl.col(wanted).cast(pl.Float64)).to_numpy()
    return values if summary.task == "multiclass" else values[:, 0]


def calibration_bins(truth: Vector, scores: Vector) -> pl.DataFrame:
    """Return what was predicted and what happened, in the bins that `calibration_error` uses.

    The interval is Wilson's (1927), which takes rows as independent.

    Args:
        truth: (n,) of 0 and 1.
        scores: (n,) probabilities.
    """
    z, bins = WILSON_Z, equal_mass_bins(scores)
    count, rate = np.bincount(bins), _bin_means(bins, truth)
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return pl.DataFrame(
        {
            "bin": np.arange(len(count)),
            "rows": count,
            "score_mean": _bin_means(bins, scores),
            "truth_mean": rate,
            "low": np.clip(centre - half, 0, 1),
            "high": np.clip(centre + half, 0, 1),
        },
        schema=CALIBRATION_SCHEMA,
    )


def _bin_means(bins: NDArray[np.int64], values: Vector) -> Vector:
    means: Vector = np.bincount(bins, weights=values) / np.bincount(bins)
    return means


def _no_calibration() -> pl.DataFrame:
    return pl.DataFrame(schema=CALIBRATION_SCHEMA)


def _truth(rows: pl.DataFrame, summary: TrainingSetSummary) -> Vector:
    return target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes)


def _check(
    rows: pl.DataFrame,
    train: pl.DataFrame,
    summary: TrainingSetSummary,
    *,
    slices: Sequence[str],
    baseline_rates: Sequence[Sequence[str]],
    champion: tuple[pl.DataFrame | None, str | None],
) -> None:
    broken: list[str] = []
    if rows.is_empty() or train.is_empty():
        broken.append(f"{rows.height} test rows and {train.height} train rows; expected some of each")
    rates = {column for columns in baseline_rates for column in columns}
    features = {feature.name for feature in summary.features}
    for what, frame, wanted in (
        ("test rows", rows, {"day", summary.target, *slices, *rates, *features}),
        ("train rows", train, {summary.target, *rates, *features}),
    ):
        missing = sorted(wanted - set(frame.columns))
        if missing:
            broken.append(f"the {what} lack {', '.join(missing)}, which target, slices, baselines or features want")
    broken += [
        f"slice column '{column}' is {rows.schema[column]}; expected categories, whole numbers or Booleans"
        for column in slices
        if column in rows.columns and not _is_sliceable(rows.schema[column])
    ]
    target = rows.schema.get(summary.target)
    if summary.task != "multiclass" and target is not None and not (target.is_numeric() or target == pl.Boolean):
        broken.append(f"target '{summary.target}' is {target}; task '{summary.task}' wants numbers")
    broken += ["a baseline of historical rates names no column" for columns in baseline_rates if not columns]
    if (champion[0] is None) != (champion[1] is None):
        broken.append("the champion's scores and version come together; got one without the other")
    if broken:
        message = f"model '{summary.model}' cannot be evaluated: {'; '.join(broken)}. Mend the declaration or the rows."
        raise DataError(message)


def _is_sliceable(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Date)


def _exact(measures: Mapping[Key, Measure], rows: int, *, needed: Sequence[Key]) -> dict[Key, float]:
    everything = np.ones(rows)
    exact = {key: measures[key](everything) for key in needed}
    for key, measure in measures.items():
        value = None if key in exact else _defined(measure, everything)
        if value is not None:
            exact[key] = value
    return exact


def _defined(measure: Measure, weights: Vector) -> float | None:
    """Return the metric, or None where it is not defined: the report then has no such figure."""
    try:
        return measure(weights)
    except DataError:
        return None


def _intervals(exact: Mapping[Key, float], drawn: Mapping[Key, Vector], *, declared: str) -> dict[str, Interval]:
    intervals: dict[str, Interval] = {}
    for metric in METRICS.values():
        key = (CHALLENGER, metric.name)
        if key not in exact:
            continue
        try:
            intervals[metric.name] = interval_of(metric, exact[key], drawn[key])
        except DataError:
            if metric.name == declared:
                raise
    return intervals


def _comparison(
    against: str, exact: Mapping[Key, float], drawn: Mapping[Key, Vector], metric: Metric, rows: int
) -> Comparison:
    return compare(
        metric,
        against=against,
        challenger=exact[CHALLENGER, metric.name],
        other=exact[against, metric.name],
        challenger_values=drawn[CHALLENGER, metric.name],
        other_values=drawn[against, metric.name],
        rows=rows,
    )


def _point_metrics(truth: Vector, scores: Vector, summary: TrainingSetSummary) -> dict[str, float]:
    measures: dict[Key, Measure] = {("", each.name): each.prepare(truth, scores) for each in metrics_of(summary.task)}
    return {name: value for (_, name), value in _exact(measures, len(truth), needed=[]).items()}


def _baselines(
    rows: pl.DataFrame,
    train: pl.DataFrame,
    summary: TrainingSetSummary,
    baseline_rates: Sequence[Sequence[str]],
    *,
    seed: int,
    threads: int,
) -> dict[str, tuple[str, Vector]]:
    """Return name, description and scores of each simple predictor; every one is fitted on train only."""
    what = {"binary": "share of positives", "regression": "mean of the target", "multiclass": "share of each class"}
    outcomes = _outcomes(train, summary)
    prior = outcomes.mean(axis=0)
    baselines = {"constant": (f"The {what[summary.task]} in train, for every row.", np.tile(prior, (rows.height, 1)))}
    for columns in baseline_rates:
        name = f"rate by {' and '.join(columns)}"
        description = (
            f"The {what[summary.task]} in train for the same {' and '.join(columns)}, "
            f"with {RATE_SMOOTHING} rows of the overall one added."
        )
        baselines[name] = (description, _historical_rates(rows, train, outcomes, prior, columns))
    if summary.features:
        description = f"A regression tree of at most {TREE_LEAVES} leaves on the {len(summary.features)} features."
        if summary.task == "multiclass":
            description = f"For each class a regression tree of at most {TREE_LEAVES} leaves, made to sum to one."
        baselines["shallow tree"] = (
            description,
            _shallow_tree(rows, train, outcomes, prior, summary, seed=seed, threads=threads),
        )
    return {
        name: (description, values if summary.task == "multiclass" else values[:, 0])
        for name, (description, values) in baselines.items()
    }


def _outcomes(train: pl.DataFrame, summary: TrainingSetSummary) -> Vector:
    """Return (rows, outputs): the target, or for multiclass one 0/1 column a class."""
    truth = _truth(train, summary).reshape(-1, 1)
    return truth if summary.task != "multiclass" else (truth == np.arange(len(summary.classes))).astype(np.float64)


def _historical_rates(
    rows: pl.DataFrame, train: pl.DataFrame, outcomes: Vector, prior: Vector, columns: Sequence[str]
) -> Vector:
    """Return train's mean per group, drawn towards the overall one by the m-estimate (Micci-Barreca 2001)."""
    groups = train.select(columns).unique(maintain_order=True).with_row_index("__group")

    def group_of(frame: pl.DataFrame) -> Vector:
        joined = frame.select(columns).join(
            groups, on=list(columns), how="left", nulls_equal=True, maintain_order="left"
        )
        return joined["__group"].cast(pl.Float64).fill_null(float("nan")).to_numpy()

    of_train, of_rows = group_of(train).astype(np.int64), group_of(rows)
    # bincount adds in row order: the same sums on any number of threads.
    counts = np.bincount(of_train, minlength=groups.height)
    rates = np.column_stack(
        [
            (np.bincount(of_train, weights=outcome, minlength=groups.height) + RATE_SMOOTHING * mean)
            / (counts + RATE_SMOOTHING)
            for outcome, mean in zip(outcomes.T, prior, strict=True)
        ]
    )
    is_new = np.isnan(of_rows)
    found = rates[np.where(is_new, 0, of_rows).astype(np.int64)]
    return np.where(is_new[:, np.newaxis], prior, found)


def _shallow_tree(
    rows: pl.DataFrame,
    train: pl.DataFrame,
    outcomes: Vector,
    prior: Vector,
    summary: TrainingSetSummary,
    *,
    seed: int,
    threads: int,
) -> Vector:
    """Return the leaf means of one tree per output.

    The objective is squared error for probabilities too: its leaves are plain rates (a tree by Gini
    impurity), where one step of a logistic objective overshoots them. Eight leaves need no more than
    `TREE_ROWS` rows, evenly taken from train.
    """
    import lightgbm as lgb

    step = -(-train.height // TREE_ROWS)
    sample, labels = train.gather_every(step), outcomes[::step]
    features = summary.features
    vocabularies = fit_vocabularies(sample, features)
    smallest_leaf = max(1, min(100, sample.height // 20))
    dataset = lgb.Dataset(
        to_matrix(encode(sample, features, vocabularies, "missing")),
        feature_name=[f"f{position}" for position in range(len(features))],
        categorical_feature=[position for position, feature in enumerate(features) if feature.is_categorical],
        params={"max_bin": 63, "min_data_in_leaf": smallest_leaf, "verbosity": -1, "num_threads": threads},
        free_raw_data=False,
    )
    parameters = {
        "objective": "regression",
        "learning_rate": 1.0,
        "num_leaves": TREE_LEAVES,
        "min_data_in_leaf": smallest_leaf,
        "max_bin": 63,
        "cat_l2": 0.0,
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "num_threads": threads,
        "verbosity": -1,
    }
    asked = to_matrix(encode(rows, features, vocabularies, "missing"))
    predicted = np.empty((rows.height, outcomes.shape[1]))
    for output in range(outcomes.shape[1]):
        if labels[:, output].min() == labels[:, output].max():
            predicted[:, output] = prior[output]
            continue
        dataset.set_label(labels[:, output])
        predicted[:, output] = lgb.train(parameters, dataset, num_boost_round=1).predict(asked, num_threads=threads)
    if summary.task == "regression":
        return predicted
    # A leaf without a hit does not prove that there is none: half a row's worth is left to chance.
    predicted = np.clip(predicted, 0.5 / smallest_leaf, 1 - 0.5 / smallest_leaf)
    if summary.task == "multiclass":
        predicted /= predicted.sum(axis=1, keepdims=True)
    return predicted


def _slices(
    test: _Test,
    rows: pl.DataFrame,
    columns: Sequence[str],
    challenger: Vector,
    champion: Vector | None,
    *,
    minimum_rows: int,
) -> pl.DataFrame:
    """Return one row for each slice and metric; intervals for the declared metric, which the gate reads."""
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
            of = {"column": column, "value": value, "rows": len(index), "target_mean": test.target_mean(index)}
            others = None if champion is None else champion[index]
            records += [
                {**of, **figures}
                for figures in _slice(test, index, challenger[index], others, minimum_rows=minimum_rows)
            ]
    return pl.DataFrame(records, schema=SLICES_SCHEMA)


def _slice(
    test: _Test, index: NDArray[np.int64], challenger: Vector, champion: Vector | None, *, minimum_rows: int
) -> list[dict[str, float | str | bool | None]]:
    truth, declared = test.truth[index], test.metric
    measures: dict[Key, Measure] = {}
    for metric in metrics_of(test.summary.task):
        measures[CHALLENGER, metric.name] = metric.prepare(truth, challenger)
        if champion is not None:
            measures[CHAMPION, metric.name] = metric.prepare(truth, champion)
    exact = _exact(measures, len(index), needed=[])
    reason = _why_not_judged(truth, test, minimum_rows)
    interval: Interval | None = None
    difference: Interval | None = None
    if not reason:
        judged = {key: measure for key, measure in measures.items() if key[1] == declared.name}
        drawn = resample(judged, rows=len(index), groups=test.days[index], replicates=test.replicates, seed=test.seed)
        try:
            judged[CHALLENGER, declared.name](np.ones(len(index)))
            interval = interval_of(declared, exact[CHALLENGER, declared.name], drawn[CHALLENGER, declared.name])
            if champion is not None:
                difference = _comparison(CHAMPION, exact, drawn, declared, len(index)).difference
        except DataError as error:
            reason, interval = str(error), None
    records: list[dict[str, float | str | bool | None]] = []
    for metric in metrics_of(test.summary.task):
        mine, theirs = exact.get((CHALLENGER, metric.name)), exact.get((CHAMPION, metric.name))
        is_declared = metric.name == declared.name
        records.append(
            {
                "metric": metric.name,
                "score": mine,
                "low": interval.low if interval and is_declared else None,
                "high": interval.high if interval and is_declared else None,
                "champion_score": theirs,
                "difference": None if mine is None or theirs is None else metric.gain(mine, theirs),
                "difference_low": difference.low if difference and is_declared else None,
                "difference_high": difference.high if difference and is_declared else None,
                "is_judged": not reason,
                "reason": reason,
            }
        )
    return records


def _why_not_judged(truth: Vector, test: _Test, minimum_rows: int) -> str:
    if len(truth) < minimum_rows:
        return f"{len(truth)} rows, fewer than {minimum_rows}"
    if test.summary.task == "binary":
        positives = int(truth.sum())
        for which, count in (("positives", positives), ("negatives", len(truth) - positives)):
            if count < MINIMUM_CLASS_ROWS:
                return f"{count} {which}, fewer than {MINIMUM_CLASS_ROWS}"
    return ""


def _curves(truth: Vector, scores: Vector, summary: TrainingSetSummary) -> pl.DataFrame:
    if summary.task == "binary":
        parts = [*_binary_curves(truth, scores), _histogram(scores, 0.0, 1.0)]
    elif summary.task == "regression":
        low, high = float(scores.min()), float(scores.max())
        parts = [
            *_regression_curves(truth, scores),
            _histogram(scores, low, high if high > low else low + 1),
        ]
    else:
        parts = [_confusion(truth, scores), _histogram(scores.max(axis=1), 0.0, 1.0)]
    return pl.concat(parts)


def _curve(name: str, x: Vector, y: Vector, threshold: Vector | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {"curve": [name] * len(x), "x": x, "y": y, "threshold": [None] * len(x) if threshold is None else threshold},
        schema=CURVES_SCHEMA,
    ).with_columns(pl.col("threshold").fill_nan(None))


def _binary_curves(truth: Vector, scores: Vector) -> tuple[pl.DataFrame, pl.DataFrame]:
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_tie = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    found = np.cumsum(truth[order])[last_of_tie]
    flagged = last_of_tie + 1.0
    positives, negatives = found[-1], flagged[-1] - found[-1]
    if positives == 0 or negatives == 0:  # log_loss and brier are defined here, the two curves are not
        nothing = np.empty(0)
        return _curve("roc", nothing, nothing), _curve("precision_recall", nothing, nothing)
    true_share = np.append(0.0, found / positives)
    false_share = np.append(0.0, (flagged - found) / negatives)
    threshold = np.append(np.nan, ordered[last_of_tie])
    kept = _thin(true_share + false_share)
    roc = _curve("roc", false_share[kept], true_share[kept], threshold[kept])
    precision, recall = found / flagged, found / positives
    kept = _thin(recall)
    return roc, _curve("precision_recall", recall[kept], precision[kept], ordered[last_of_tie][kept])


def _thin(progress: Vector) -> NDArray[np.int64]:
    """Return at most `CURVE_POINTS` positions, evenly along a rising progress, both ends included."""
    if len(progress) <= CURVE_POINTS:
        return np.arange(len(progress))
    asked = np.linspace(progress[0], progress[-1], CURVE_POINTS - 1)
    return np.unique(np.append(np.searchsorted(progress, asked, side="left"), len(progress) - 1)).astype(np.int64)


def _histogram(scores: Vector, low: float, high: float) -> pl.DataFrame:
    counts, edges = np.histogram(scores, bins=HISTOGRAM_BINS, range=(low, high))
    return _curve("score_histogram", (edges[:-1] + edges[1:]) / 2, counts.astype(np.float64))


def _regression_curves(truth: Vector, scores: Vector) -> tuple[pl.DataFrame, pl.DataFrame]:
    quantiles = np.linspace(0, 1, 101)
    bins = equal_mass_bins(scores, PREDICTED_ACTUAL_BINS)
    return (
        _curve("residual_quantiles", quantiles, np.quantile(truth - scores, quantiles)),
        _curve("predicted_actual", _bin_means(bins, scores), _bin_means(bins, truth)),
    )


def _confusion(truth: Vector, scores: Vector) -> pl.DataFrame:
    classes = scores.shape[1]
    cells = truth.astype(np.int64) * classes + scores.argmax(axis=1)
    counts = np.bincount(cells, minlength=classes * classes).astype(np.float64)
    actual, predicted = np.divmod(np.arange(classes * classes), classes)
    return _curve("confusion", actual.astype(np.float64), predicted.astype(np.float64), counts)
