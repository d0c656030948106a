"""The scale on which a regression is trained: the transform of the target, its inverse, and the bias of the inverse.

The mean of logarithms is not the logarithm of the mean: exp(E[log(1 + y)]) - 1 is below E[y], unless y is constant
(Jensen's inequality). Predictions with the loss `mse` are therefore multiplied, on the scale of 1 + y, by the smearing
factor: the mean of exp(residual) (Duan 1983, «Smearing estimate: A nonparametric retransformation method»). It assumes
that residuals on the logarithmic scale have the same distribution on all rows. A median or another quantile needs no
factor, because the logarithm keeps the order of values.
"""

from __future__ import annotations

import numpy as np

from ml_assets.contracts.objective import Objective
from ml_assets.logic.training.encoding import Vector


def to_scale(target: Vector, objective: Objective | None) -> Vector:
    """Return the target as it is trained on."""
    return target if objective is None or objective.transform is None else np.log1p(target)


def from_scale(raw: Vector, objective: Objective | None, smearing: float | None = None) -> Vector:
    """Return predictions on the original scale. A transformed target is never negative, so neither are they."""
    if objective is None or objective.transform is None:
        return raw
    values = np.expm1(raw) if smearing is None else np.exp(raw) * smearing - 1
    return np.maximum(values, 0.0)


def smearing_factor(raw: Vector, target: Vector, objective: Objective | None) -> float | None:
    """Return the mean of exp(residual) of rows that the model was not trained on; None if no factor is needed.

    Args:
        raw: (rows,) predictions on the scale of the training.
        target: (rows,) labels on the original scale.
        objective: The objective.
    """
    if objective is None or objective.transform is None or objective.loss != "mse":
        return None
    return float(np.exp(np.log1p(target) - raw).mean())
