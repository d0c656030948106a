"""The data of the evaluation's plots: ROC, precision and recall, residuals, confusion, histogram, calibration.

Not here: drawing (see `ml_assets.logic.plots`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import TrainingSetSummary
from ml_assets.logic.evaluation.baselines import quantiles
from ml_assets.logic.evaluation.formulas import Measure, Vector, equal_mass_bins
from ml_assets.logic.evaluation.jackknife import leave_one_out, spread
from ml_assets.logic.evaluation.measuring import Frozen

CURVE_POINTS: Final = 200
HISTOGRAM_BINS: Final = 50
PREDICTED_ACTUAL_BINS: Final = 20

CURVES_SCHEMA: Final[dict[str, pl.DataType]] = {
    "curve": pl.String(),
    "x": pl.Float64(),
    "y": pl.Float64(),
    "threshold": pl.Float64(),
}
CALIBRATION_SCHEMA: Final[dict[str, pl.DataType]] = {
    "bin": pl.Int64(), "rows": pl.Int64(), "score_mean": pl.Float64(), "truth_mean": pl.Float64(), "low": pl.Float64(),
    "high": pl.Float64(),
}  # fmt: skip


def calibration_bins(frozen: Frozen, scores: Vector) -> pl.DataFrame:
    """Return predicted and actual shares, in the bins that `calibration_error` uses.

    The interval is computed like all others, by leaving out each day that has rows in the bin. There is none if the bin
    has fewer than five days, or if all its days have the same share. Labels are 0 and 1, and scores (n,) probabilities.
    """
    bins = equal_mass_bins(scores, weights=frozen.weights)
    rows = []
    for number in range(int(bins.max()) + 1):
        index = np.flatnonzero(bins == number)
        part = frozen.of(index)
        rate = part.mean(part.truth)
        left_out = leave_one_out({number: _share_of(part)}, part.clusters)[number]
        found = spread(rate, left_out, part.clusters.everything)
        ends = found.interval(rate)
        low, high = (ends.low, ends.high) if found.error else (None, None)
        rows.append(
            {
                "bin": number,
                "rows": len(index),
                "score_mean": part.mean(scores[index]),
                "truth_mean": rate,
                "low": None if low is None else max(low, 0.0),
                "high": None if high is None else min(high, 1.0),
            }
        )
    return pl.DataFrame(rows, schema=CALIBRATION_SCHEMA)


def _share_of(part: Frozen) -> Measure:
    """Return the share of positives as a function of how often each row counts."""
    own = np.ones(len(part.truth)) if part.weights is None else part.weights
    return lambda counts: float((counts * own) @ part.truth / (counts * own).sum())


def _bin_means(bins: NDArray[np.int64], values: Vector, weights: Vector) -> Vector:
    means: Vector = np.bincount(bins, weights=weights * values) / np.bincount(bins, weights=weights)
    return means


def curves(truth: Vector, scores: Vector, summary: TrainingSetSummary, weights: Vector | None = None) -> pl.DataFrame:
    """Return the task's curves, one row per point, from (n,) labels and (n,) or (n, classes) scores.

    With the (n,) declared weights of the rows, shares, means and quantiles are weighted. The histogram and the
    confusion count rows.
    """
    if summary.task == "binary":
        own = np.ones(len(truth)) if weights is None else weights
        parts = [*_binary_curves(truth, scores, own), _histogram(scores, 0.0, 1.0)]
    elif summary.task in ("regression", "ranking"):
        low, high = float(scores.min()), float(scores.max())
        parts = [_histogram(scores, low, high if high > low else low + 1)]
        if summary.task == "regression":
            level = None if summary.objective is None else summary.objective.level
            parts = [*_regression_curves(truth, scores, level, weights), *parts]
    else:
        parts = [_confusion(truth, scores), _histogram(scores.max(axis=1), 0.0, 1.0)]
    return pl.concat(parts)


def _curve(name: str, x: Vector, y: Vector, threshold: Vector | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {"curve": [name] * len(x), "x": x, "y": y, "threshold": [None] * len(x) if threshold is None else threshold},
        schema=CURVES_SCHEMA,
    ).with_columns(pl.col("threshold").fill_nan(None))


def _binary_curves(truth: Vector, scores: Vector, weights: Vector) -> tuple[pl.DataFrame, pl.DataFrame]:
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_tie = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    found = np.cumsum((weights * truth)[order])[last_of_tie]
    flagged = np.cumsum(weights[order])[last_of_tie]
    positives, negatives = found[-1], flagged[-1] - found[-1]
    if truth.min() == truth.max():  # log_loss and brier are defined here, but the two curves are not
        nothing = np.empty(0)
        return _curve("roc", nothing, nothing), _curve("precision_recall", nothing, nothing)
    true_share = np.append(0.0, found / positives)
    false_share = np.append(0.0, (flagged - found) / negatives)
    threshold = np.append(np.nan, ordered[last_of_tie])
    indices = _thin(true_share + false_share)
    roc = _curve("roc", false_share[indices], true_share[indices], threshold[indices])
    precision, recall = found / flagged, found / positives
    indices = _thin(recall)
    return roc, _curve("precision_recall", recall[indices], precision[indices], ordered[last_of_tie][indices])


def _thin(progress: Vector) -> NDArray[np.int64]:
    """Return at most `CURVE_POINTS` positions, evenly spaced along an increasing progress, including both ends."""
    if len(progress) <= CURVE_POINTS:
        return np.arange(len(progress))
    positions = np.linspace(progress[0], progress[-1], CURVE_POINTS - 1)
    return np.unique(np.append(np.searchsorted(progress, positions, side="left"), len(progress) - 1)).astype(np.int64)


def _histogram(scores: Vector, low: float, high: float) -> pl.DataFrame:
    counts, edges = np.histogram(scores, bins=HISTOGRAM_BINS, range=(low, high))
    return _curve("score_histogram", (edges[:-1] + edges[1:]) / 2, counts.astype(np.float64))


def _regression_curves(
    truth: Vector, scores: Vector, level: float | None, weights: Vector | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    shares = np.linspace(0, 1, 101)
    bins = equal_mass_bins(scores, PREDICTED_ACTUAL_BINS, weights)
    own = np.ones(len(truth)) if weights is None else weights
    if level is None:
        actual = _bin_means(bins, truth, own)
    else:
        actual = quantiles(bins, truth, level, groups=int(bins.max()) + 1, weights=weights)
    residuals = truth - scores
    if weights is None:
        spread_out = np.quantile(residuals, shares)
    else:
        spread_out = np.quantile(residuals, shares, weights=weights, method="inverted_cdf")
    return (
        _curve("residual_quantiles", shares, spread_out),
        _curve("predicted_actual", _bin_means(bins, scores, own), actual),
    )


def _confusion(truth: Vector, scores: Vector) -> pl.DataFrame:
    classes = scores.shape[1]
    cells = truth.astype(np.int64) * classes + scores.argmax(axis=1)
    counts = np.bincount(cells, minlength=classes * classes).astype(np.float64)
    actual, predicted = np.divmod(np.arange(classes * classes), classes)
    return _curve("confusion", actual.astype(np.float64), predicted.astype(np.float64), counts)
