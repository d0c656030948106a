"""The formulas of the metrics on numpy arrays. Each returns a function of row weights.

Truth is (n,): 0/1 or Boolean for binary, numbers for regression, class indices for multiclass. Scores are (n,)
probabilities of the positive class or values, or (n, classes) probabilities.

Not here: which metrics there are, and metrics within groups (see `ml_assets.logic.evaluation.metrics`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_assets.contracts.artifacts.evaluation import OperatingPoint
from ml_assets.contracts.errors import DataError

Vector = NDArray[np.float64]
Measure = Callable[[Vector], float]
"""A function from one weight per row to the metric. Sorting and losses are computed once, before."""

CALIBRATION_BINS: Final = 10
_EQUAL: Final = 1e-9
"""Sums of weights that differ by less, as a share of the total, are equal: they are rounded."""


def equal_mass_bins(
    scores: ArrayLike, bins: int = CALIBRATION_BINS, weights: Vector | None = None
) -> NDArray[np.int64]:
    """Return the bin of each row, from low scores to high; equal scores share a bin.

    Args:
        scores: (n,) finite.
        bins: Maximum number of bins. There are fewer if scores are few or tied.
        weights: (n,) the weight of each row, above 0: the bins then have equal weights. Without it, equally many rows.
    """
    values = np.asarray(scores, dtype=np.float64)
    count = min(bins, len(values))
    if weights is None:
        # Integer positions: with floats, a quantile at 0.3 × 100 rows would round to the 31st.
        ordered, last_of_bin = np.sort(values), np.arange(1, count) * len(values) // count - 1
    else:
        order = np.argsort(values, kind="stable")
        ordered, up_to = values[order], np.cumsum(weights[order])
        # As for rows, an edge is rounded down to a whole unit, which is the smallest weight here.
        ends = np.arange(1, count) * up_to[-1] / count - weights.min() + _EQUAL * up_to[-1]
        last_of_bin = np.searchsorted(up_to, ends, side="left")
    index = np.searchsorted(np.unique(ordered[last_of_bin]), values, side="left")
    return np.unique(index, return_inverse=True)[1].astype(np.int64)


def checked(name: str, truth: ArrayLike, scores: ArrayLike, dimensions: int) -> tuple[Vector, Vector]:
    """Return truth and scores as numbers.

    Raises:
        DataError: There are none, they are missing or infinite, or their numbers of rows or dimensions differ.
    """
    actual = np.asarray(truth, dtype=np.float64)
    given = np.asarray(scores, dtype=np.float64)
    if actual.ndim != 1 or given.ndim != dimensions or len(actual) != len(given):
        raise DataError(
            f"metric '{name}' got truth of shape {actual.shape} and scores of shape {given.shape}; expected one row "
            f"of {'class probabilities' if dimensions > 1 else 'score'} for each row of truth. Score the same rows."
        )
    if len(actual) == 0:
        raise DataError(f"metric '{name}' got no rows; expected at least one. Widen the window.")
    for what, values in (("truth", actual), ("scores", given)):
        missing = int((~np.isfinite(values)).sum())
        if missing:
            raise DataError(
                f"metric '{name}': {missing} of {values.size} {what} are missing or infinite; expected numbers. "
                f"Remove rows without {'a label' if what == 'truth' else 'a score'} before measuring."
            )
    return actual, given


def _checked_binary(name: str, truth: ArrayLike, scores: ArrayLike, *, probabilities: bool) -> tuple[Vector, Vector]:
    """Return truth and scores as numbers.

    Raises:
        DataError: They are missing, of another shape or number, not 0 and 1, or not probabilities.
    """
    actual, given = checked(name, truth, scores, 1)
    if not ((actual == 0) | (actual == 1)).all():
        found = ", ".join(f"{value:g}" for value in np.unique(actual)[:5])
        raise DataError(f"the truth of metric '{name}' holds {found}; expected 0 and 1 only. Declare another task.")
    if probabilities and ((given < 0) | (given > 1)).any():
        raise DataError(
            f"the scores of metric '{name}' lie in [{given.min():g}, {given.max():g}]; expected probabilities in "
            "[0, 1]. Pass probabilities, not raw margins."
        )
    return actual, given


def _multiclass(name: str, truth: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], Vector]:
    actual, given = checked(name, truth, scores, 2)
    classes = given.shape[1]
    if not ((actual == np.floor(actual)) & (actual >= 0) & (actual < classes)).all():
        raise DataError(f"the truth of metric '{name}' has values other than the class indices 0 to {classes - 1}.")
    if ((given < 0) | (given > 1)).any() or (np.abs(given.sum(axis=1) - 1) > 1e-3).any():
        raise DataError(
            f"the scores of metric '{name}' are not class probabilities; expected rows of [0, 1] that sum to 1."
        )
    return actual.astype(np.int64), given


def absent_class(name: str, which: str) -> DataError:
    """Return the error that a metric is not defined without a class."""
    return DataError(
        f"metric '{name}' is not defined: {which} is absent from the rows; expected every class. "
        "Widen the window, or choose log_loss or brier, which need only one class."
    )


def class_of_each(truth: ArrayLike, scores: ArrayLike) -> NDArray[np.int64]:
    """Return the kind of each row (see `Metric.kinds`): its class."""
    del scores
    return np.asarray(truth).astype(np.int64)


def _weighted_mean(losses: Vector, finish: Callable[[float], float] = float) -> Measure:
    # A sum of products, not a BLAS dot: the result must not depend on the number of BLAS threads.
    return lambda weights: finish(float((weights * losses).sum() / weights.sum()))


def _tie_starts(ordered: Vector) -> NDArray[np.int64] | None:
    is_start = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    return None if bool(is_start.all()) else np.flatnonzero(is_start).astype(np.int64)


def _sorted_positives_and_negatives(
    truth: Vector, scores: Vector, *, descending: bool
) -> Callable[[Vector], tuple[Vector, Vector]]:
    """Return a function from row weights to the weights of positives and negatives at each distinct score."""
    order = np.argsort(-scores if descending else scores, kind="stable")
    positive = truth[order]
    starts = _tie_starts(scores[order])

    def split(weights: Vector) -> tuple[Vector, Vector]:
        ordered = weights[order]
        positives = ordered * positive
        negatives = ordered - positives
        if starts is None:
            return positives, negatives
        return np.add.reduceat(positives, starts), np.add.reduceat(negatives, starts)

    return split


def roc_auc(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the share of (positive, negative) pairs in the right order; a tie counts half (Mann and Whitney 1947)."""
    actual, given = _checked_binary("roc_auc", truth, scores, probabilities=False)
    split = _sorted_positives_and_negatives(actual, given, descending=False)

    def measure(weights: Vector) -> float:
        positives, negatives = split(weights)
        below = np.cumsum(negatives)
        total_negatives = float(below[-1])
        below -= negatives / 2
        pairs = float(positives.sum()) * total_negatives
        if pairs <= 0:
            raise absent_class("roc_auc", "the negative class" if total_negatives <= 0 else "the positive class")
        return float((positives * below).sum()) / pairs

    return measure


def average_precision(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the sum of precision times the step in recall over distinct scores, without interpolation.

    The definition of scikit-learn's `average_precision_score`.
    """
    actual, given = _checked_binary("average_precision", truth, scores, probabilities=False)
    split = _sorted_positives_and_negatives(actual, given, descending=True)

    def measure(weights: Vector) -> float:
        positives, negatives = split(weights)
        found = np.cumsum(positives)
        total = float(found[-1])
        if total <= 0:
            raise absent_class("average_precision", "the positive class")
        flagged = found + np.cumsum(negatives)
        if float(flagged[-1]) <= total:
            raise absent_class("average_precision", "the negative class")
        # If no row is flagged yet, precision is 0 / 0. It is replaced by 0 / 1, which adds nothing.
        precision = found / np.where(flagged > 0, flagged, 1.0)
        return float((precision * positives).sum()) / total

    return measure


def log_loss(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the mean negative log-likelihood in nats. Probabilities are clipped by one float's width from 0 and 1."""
    actual, given = _checked_binary("log_loss", truth, scores, probabilities=True)
    width = float(np.finfo(np.float64).eps)
    probability = np.clip(given, width, 1 - width)
    return _weighted_mean(-np.where(actual == 1, np.log(probability), np.log1p(-probability)))


def brier(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the mean squared error of the probability (Brier 1950, the half that scikit-learn uses)."""
    actual, given = _checked_binary("brier", truth, scores, probabilities=True)
    return _weighted_mean((given - actual) ** 2)


def calibration_error(truth: ArrayLike, scores: ArrayLike, row_weights: Vector | None = None) -> Measure:
    """Return the mean difference of predicted and actual share over bins of equal mass.

    This is the expected calibration error (Naeini, Cooper and Hauskrecht 2015) with bins of equally many rows (Nguyen
    and O'Connor 2015; Roelofs and others 2022 show that they bias it less than bins of equal width). The bins are those
    of all rows, by the row weights if there are any, whatever is left out, so leaving rows out moves no edge.
    """
    actual, given = _checked_binary("calibration_error", truth, scores, probabilities=True)
    bins = equal_mass_bins(given, weights=row_weights)
    gaps = actual - given

    def measure(weights: Vector) -> float:
        by_bin = np.bincount(bins, weights=weights * gaps)
        return float(np.abs(by_bin).sum() / weights.sum())

    return measure


def calibration_bias(
    truth: Vector, scores: Vector, clusters: NDArray[np.int64], row_weights: Vector | None = None
) -> float:
    """Return the most that sampling error of clusters adds to the calibration error: what it adds without a real one.

    A bin counts by the absolute value of its difference. For pure noise, its mean is the standard error times the root
    of 2 / pi (half-normal distribution). If there is a real difference, noise adds less.
    """
    weights = np.ones(len(truth)) if row_weights is None else row_weights
    bins, count = equal_mass_bins(scores, weights=row_weights), int(clusters.max()) + 1
    gaps = weights * (truth - scores)
    cells = np.bincount(bins * count + clusters, weights=gaps, minlength=(int(bins.max()) + 1) * count)
    errors = cells.reshape(-1, count).std(axis=1, ddof=1) * count**0.5
    return float(errors.sum()) * math.sqrt(2 / math.pi) / float(weights.sum())


def rmse(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the root of the mean squared error, in the target's unit."""
    actual, given = checked("rmse", truth, scores, 1)
    return _weighted_mean((actual - given) ** 2, finish=lambda value: value**0.5)


def mae(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the mean absolute error, in the target's unit."""
    actual, given = checked("mae", truth, scores, 1)
    return _weighted_mean(np.abs(actual - given))


def r2(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the share of the target's variance explained: 1 - residual over total sum of squares."""
    actual, given = checked("r2", truth, scores, 1)
    # Centred first: the squares of values far from zero would lose the variance to rounding.
    centred = actual - actual.mean()
    squares, residuals = centred**2, (actual - given) ** 2

    def measure(weights: Vector) -> float:
        total = float((weights * squares).sum()) - float((weights * centred).sum()) ** 2 / float(weights.sum())
        if not actual.min() < actual.max() or total <= 0:
            raise DataError(
                "metric 'r2' is not defined: every row has the same target; expected at least two values. "
                "Widen the window, or choose rmse."
            )
        return 1 - float((weights * residuals).sum()) / total

    return measure


def _checked_means(name: str, truth: ArrayLike, scores: ArrayLike) -> tuple[Vector, Vector]:
    actual, given = checked(name, truth, scores, 1)
    for what, wrong, expected in (
        ("labels", actual < 0, "labels of 0 or more. Fix the label table, or declare another loss"),
        ("scores", given <= 0, "scores above 0, as those of a model with the loss poisson or tweedie"),
    ):
        if count := int(wrong.sum()):
            raise DataError(
                f"metric '{name}' got {count} of {len(actual)} {what} outside its range; expected {expected}."
            )
    return actual, given


def poisson_deviance(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the mean of 2 (y log(y / p) - y + p), with 0 log 0 = 0.

    The mean unit deviance of the Poisson distribution (McCullagh and Nelder 1989, Generalized Linear Models, 2.3), as
    scikit-learn's `mean_poisson_deviance`.
    """
    actual, given = _checked_means("poisson_deviance", truth, scores)
    logs = np.log(np.where(actual > 0, actual, 1.0) / given)
    return _weighted_mean(2 * (actual * logs - actual + given))


def tweedie_deviance(truth: ArrayLike, scores: ArrayLike, *, power: float) -> Measure:
    """Return the mean of 2 (y^(2-k) / ((1-k) (2-k)) - y p^(1-k) / (1-k) + p^(2-k) / (2-k)) for a power k of 1 to 2.

    The mean unit deviance of a compound Poisson and gamma distribution (Jørgensen 1987, Exponential dispersion models),
    as scikit-learn's `mean_tweedie_deviance`.
    """
    actual, given = _checked_means("tweedie_deviance", truth, scores)
    one, two = 1 - power, 2 - power
    return _weighted_mean(2 * (actual**two / (one * two) - actual * given**one / one + given**two / two))


def pinball_loss(truth: ArrayLike, scores: ArrayLike, *, alpha: float) -> Measure:
    """Return the mean of alpha (y - p) where y > p, otherwise (1 - alpha) (p - y), in the target's unit.

    Koenker and Bassett 1978, Regression quantiles; scikit-learn's `mean_pinball_loss`.
    """
    actual, given = checked("pinball_loss", truth, scores, 1)
    above = actual - given
    return _weighted_mean(np.maximum(alpha * above, (alpha - 1) * above))


def accuracy(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the share of rows whose most probable class is the true one; binary models are cut at one half."""
    if np.ndim(scores) == 1:
        actual, given = _checked_binary("accuracy", truth, scores, probabilities=True)
        return _weighted_mean(((given > 0.5) == (actual == 1)).astype(np.float64))
    classes, probabilities = _multiclass("accuracy", truth, scores)
    return _weighted_mean((probabilities.argmax(axis=1) == classes).astype(np.float64))


def multi_log_loss(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the mean negative log-likelihood of the true class, in nats."""
    classes, probabilities = _multiclass("multi_log_loss", truth, scores)
    width = float(np.finfo(np.float64).eps)
    likelihood = probabilities[np.arange(len(classes)), classes] / probabilities.sum(axis=1)
    return _weighted_mean(-np.log(np.clip(likelihood, width, 1)))


def macro_f1(truth: ArrayLike, scores: ArrayLike) -> Measure:
    """Return the unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN); the most probable class is predicted."""
    classes, probabilities = _multiclass("macro_f1", truth, scores)
    count = probabilities.shape[1]
    cells = classes * count + probabilities.argmax(axis=1)

    def measure(weights: Vector) -> float:
        confusion = np.bincount(cells, weights=weights, minlength=count * count).reshape(count, count)
        actual, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        if (actual <= 0).any():
            raise absent_class("macro_f1", f"class number {int(np.flatnonzero(actual <= 0)[0])}")
        return float((2 * confusion.diagonal() / (actual + predicted)).mean())

    return measure


def acted_on(
    point: OperatingPoint, scores: ArrayLike, groups: ArrayLike | None, weights: Vector | None = None
) -> Vector:
    """Return how much of each row is acted on: 1, 0, or the same fraction of all rows that tie at the cut.

    Of n rows of a group, a share s is s * n rows, rounded, at least one. With row weights it is the share s of their
    sum, which is not rounded: a part of the row at the cut is acted on.
    """
    given = np.asarray(scores, dtype=np.float64)
    if point.threshold is not None:
        return (given >= point.threshold).astype(np.float64)
    acted = np.zeros(len(given))
    index = np.zeros(len(given), dtype=np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    for rows in np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1]):
        if weights is not None:
            acted[rows] = _top_share(point.top_share or 0.0, given[rows], weights[rows])
            continue
        wanted = max(1, int(np.floor((point.top_share or 0.0) * len(rows) + 0.5)))
        cut = np.sort(given[rows])[-wanted]
        above, ties = given[rows] > cut, given[rows] == cut
        acted[rows] = above + ties * ((wanted - above.sum()) / ties.sum())
    return acted


def _top_share(share: float, scores: Vector, weights: Vector) -> Vector:
    """Return how much of each row is in the share of the weights with the highest scores."""
    _, place = np.unique(-scores, return_inverse=True)
    of_score = np.bincount(place, weights=weights)
    before = np.cumsum(of_score) - of_score
    parts: Vector = np.clip((share * float(weights.sum()) - before) / of_score, 0.0, 1.0)[place]
    return parts


def only_positives(truth: ArrayLike, acted_on: ArrayLike) -> NDArray[np.int64]:
    """Return the kind of each row for a metric of the positives: 0 for a positive, -1 for another row."""
    return class_of_each(truth, acted_on) - 1


def only_acted_on(truth: ArrayLike, acted_on: ArrayLike) -> NDArray[np.int64]:
    """Return the kind of each row for a metric of the rows that are acted on: 0 for such a row, -1 for another."""
    del truth
    return np.where(np.asarray(acted_on) > 0, 0, -1)


def precision(truth: ArrayLike, acted_on: ArrayLike) -> Measure:
    """Return the share of positives among the rows that are acted on."""
    actual, acted = _checked_binary("precision", truth, acted_on, probabilities=True)
    return _ratio("precision", acted * actual, acted, "a row that is acted on")


def recall(truth: ArrayLike, acted_on: ArrayLike) -> Measure:
    """Return the share of the positives that are acted on."""
    actual, acted = _checked_binary("recall", truth, acted_on, probabilities=True)
    return _ratio("recall", acted * actual, actual, "the positive class")


def lift(truth: ArrayLike, acted_on: ArrayLike) -> Measure:
    """Return the share of positives among rows that are acted on, divided by their share among all rows."""
    found, share = precision(truth, acted_on), _ratio("lift", truth, np.ones_like(truth), "any row")

    def measure(weights: Vector) -> float:
        positives = share(weights)
        if positives <= 0:
            raise absent_class("lift", "the positive class")
        return found(weights) / positives

    return measure


def _ratio(name: str, some: ArrayLike, among: ArrayLike, needed: str) -> Measure:
    above, below = np.asarray(some, dtype=np.float64), np.asarray(among, dtype=np.float64)

    def measure(weights: Vector) -> float:
        total = float((weights * below).sum())
        if total <= 0:
            raise absent_class(name, needed)
        return float((weights * above).sum()) / total

    return measure
