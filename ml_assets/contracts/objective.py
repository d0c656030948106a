"""The objective of a regression: the loss that is minimized, what it predicts, and the scale of the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from ml_assets.contracts.json_record import Record

Loss = Literal["mse", "mae", "huber", "poisson", "tweedie", "quantile"]
Transform = Literal["log1p"]
AT: Final = " at "
"""Separates the name of a metric from its parameter: `pinball_loss at 0.9`."""

_LIGHTGBM: Final[Mapping[Loss, str]] = {
    "mse": "regression", "mae": "regression_l1", "huber": "huber", "poisson": "poisson", "tweedie": "tweedie",
    "quantile": "quantile",
}  # fmt: skip
_METRIC: Final[Mapping[Loss, str]] = {
    "mse": "rmse", "mae": "mae", "huber": "mae", "poisson": "poisson_deviance", "tweedie": "tweedie_deviance",
    "quantile": "pinball_loss",
}  # fmt: skip
_STOPPING: Final[Mapping[Loss, str]] = {
    "mse": "rmse", "mae": "l1", "huber": "huber", "poisson": "poisson", "tweedie": "tweedie", "quantile": "quantile",
}  # fmt: skip


class Objective(Record):
    """What a regression minimizes, and on which scale.

    Attributes:
        loss: the loss.
        alpha: the quantile that is predicted, for loss `quantile`.
        delta: the residual up to which the loss is quadratic, in units of the (transformed) target, for loss `huber`.
        variance_power: the variance is proportional to the mean to this power, for loss `tweedie`.
        transform: the function of the target that is trained on; predictions and metrics are on the original scale.
    """

    loss: Loss = "mse"
    alpha: float | None = None
    delta: float | None = None
    variance_power: float | None = None
    transform: Transform | None = None

    @property
    def lightgbm(self) -> dict[str, float | int | str | bool]:
        """LightGBM's parameters of the objective."""
        found: dict[str, float | int | str | bool] = {"objective": _LIGHTGBM[self.loss]}
        alpha = self.alpha if self.loss == "quantile" else self.delta
        if alpha is not None:
            found["alpha"] = alpha
        if self.variance_power is not None:
            found["tweedie_variance_power"] = self.variance_power
        return found

    @property
    def metric_family(self) -> str:
        """The metric that fits the loss, without its parameter."""
        return _METRIC[self.loss]

    @property
    def metric(self) -> str:
        """The metric that fits the loss, with its parameter."""
        parameter = self.alpha if self.loss == "quantile" else self.variance_power
        return self.metric_family if parameter is None else f"{self.metric_family}{AT}{parameter}"

    @property
    def stopping_metric(self) -> str:
        """LightGBM's metric that is closest to the loss."""
        return _STOPPING[self.loss]

    @property
    def level(self) -> float | None:
        """The quantile that is predicted; None if it is the mean."""
        return 0.5 if self.loss == "mae" else self.alpha

    @property
    def lowest_label(self) -> float | None:
        """The lowest value that the label may have; None if any number is valid."""
        return 0.0 if self.has_log_link or self.transform == "log1p" else None

    @property
    def has_log_link(self) -> bool:
        """Whether LightGBM predicts the logarithm of the mean, so that predictions are always above 0."""
        return self.loss in ("poisson", "tweedie")

    @property
    def words(self) -> str:
        """The objective as text for the card."""
        parameters = {"alpha": self.alpha, "delta": self.delta, "variance power": self.variance_power}
        given = ", ".join(f"{name} {value:g}" for name, value in parameters.items() if value is not None)
        scale = f" of {self.transform} of the target" if self.transform else ""
        return f"{self.loss}{f' ({given})' if given else ''}{scale}"


def level_of(metric: str) -> float | None:
    """Return the quantile of the label that a metric rates best as a constant prediction; None if it is the mean."""
    if metric == "mae":
        return 0.5
    family, _, parameter = metric.partition(AT)
    return float(parameter) if family == "pinball_loss" else None
