"""DeLong's test of the difference of two ROC AUCs on the same rows.

What follows from it stays out: rows of a day are not independent, so it stands beside the day bootstrap as a check.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from ml_assets.contracts.artifacts import DeLong
from ml_assets.contracts.errors import DataError
from ml_assets.logic.metrics import Vector


def delong(truth: Vector, challenger: Vector, other: Vector) -> DeLong:
    """Return the difference of two AUCs with its standard error and the one-sided p-value of the challenger's lead.

    DeLong, DeLong and Clarke-Pearson 1988; from midranks, which take a sort instead of all pairs (Sun and Xu 2014).

    Args:
        truth: (n,) of 0 and 1.
        challenger: (n,) its scores; only their order matters, a tie counts half.
        other: (n,) the other's scores of the same rows.

    Raises:
        DataError: Fewer than two rows of a class, whose variance is then unknown.
    """
    is_positive = truth == 1
    positives = int(is_positive.sum())
    negatives = len(truth) - positives
    if min(positives, negatives) < 2:
        message = f"DeLong's test got {positives} positives and {negatives} negatives; expected two of each. Add rows."
        raise DataError(message)
    above, below = (
        np.subtract(mine, theirs)
        for mine, theirs in zip(_placements(is_positive, challenger), _placements(is_positive, other), strict=True)
    )
    difference = float(above.mean())
    error = float(np.sqrt(above.var(ddof=1) / positives + below.var(ddof=1) / negatives))
    if error == 0:
        return DeLong(difference=difference, error=0.0, p_value=0.0 if difference > 0 else 1.0)
    return DeLong(difference=difference, error=error, p_value=NormalDist().cdf(-difference / error))


def _placements(is_positive: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], scores: Vector) -> tuple[Vector, Vector]:
    """Return for each positive the share of negatives below it, and for each negative the share of positives above."""
    positives, negatives = scores[is_positive], scores[~is_positive]
    among_all = _midranks(scores)
    above = (among_all[is_positive] - _midranks(positives)) / len(negatives)
    below = 1 - (among_all[~is_positive] - _midranks(negatives)) / len(positives)
    return above, below


def _midranks(values: Vector) -> Vector:
    """Return ranks from 1; equal values share the middle of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Vector = (last - (counts - 1) / 2)[group]
    return ranks
