"""Measure a metric that is a person's function of labels and scores.

Not here: its name (see `ml_assets.contracts.own_metric`), and the other metrics (see
`ml_assets.logic.evaluation.metrics`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ml_assets.contracts.dotted_name import find_function, is_finite_number, takes
from ml_assets.contracts.errors import FAILURES, DataError, failure_words
from ml_assets.logic.evaluation.formulas import Measure, Vector


def own_measure(truth: ArrayLike, scores: ArrayLike, *, function: str) -> Measure:
    """Return the metric as a function of row weights.

    A function of labels and scores gets the rows with a weight of 1, and not those with 0. Other weights need a
    function with a third argument.

    Raises:
        DataError: when it is measured: the function failed, returned no finite number, or takes no weights.
    """
    actual, given, called = np.asarray(truth), np.asarray(scores), find_function(function)
    has_weights = takes(called, 3)

    def measure(weights: Vector) -> float:
        rows = weights > 0
        if not rows.any():
            raise DataError(f"metric '{function}' got no rows; expected at least one.")
        if not has_weights and not (weights[rows] == weights[rows][0]).all():
            raise DataError(
                f"metric '{function}' takes labels and scores, but the rows have weights. Add a third argument: "
                "the weight of each row."
            )
        arguments = [actual[rows], given[rows], *([weights[rows]] if has_weights else [])]
        try:
            value = called(*arguments)
        except FAILURES as error:
            raise DataError(f"metric '{function}' failed: {failure_words(error)}. Correct the function.") from error
        if not is_finite_number(value):
            raise DataError(
                f"metric '{function}' returned {value!r:.100}; expected a finite number. Where it is not defined, "
                "raise a ValueError that states why."
            )
        return float(value)

    return measure
