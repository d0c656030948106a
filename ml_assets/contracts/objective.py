"""The objective of a regression or a ranking: the loss, what it predicts, and the scale of the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field

from ml_assets.contracts.json_record import Record

RegressionLoss = Literal["mse", "mae", "huber", "poisson", "tweedie", "quantile"]
Loss = RegressionLoss | Literal["lambdarank"]
Transform = Literal["log1p"]
AT: Final = " at "
"""Separates the name of a metric from its parameter: `pinball_loss at 0.9`."""
WITHIN: Final = " within "
"""Separates the name of a metric from the column of its groups: `roc_auc within day`."""
HIGHEST_GRADE: Final = 30
"""The highest grade of a ranking; LightGBM has no gain for a higher one."""
_FURTHER_ROWS: Final = 3
"""Rows after the first `at` that `lambdarank` compares with others, as LightGBM's documentation suggests."""

_LIGHTGBM: Final[Mapping[Loss, str]] = {
    "mse": "regression", "mae": "regression_l1", "huber": "huber", "poisson": "poisson", "tweedie": "tweedie",
    "quantile": "quantile", "lambdarank": "lambdarank",
}  # fmt: skip
_METRIC: Final[Mapping[Loss, str]] = {
    "mse": "rmse", "mae": "mae", "huber": "mae", "poisson": "poisson_deviance", "tweedie": "tweedie_deviance",
    "quantile": "pinball_loss", "lambdarank": "ndcg",
}  # fmt: skip
_STOPPING: Final[Mapping[Loss, str]] = {
    "mse": "rmse", "mae": "l1", "huber": "huber", "poisson": "poisson", "tweedie": "tweedie", "quantile": "quantile",
    "lambdarank": "ndcg",
}  # fmt: skip


class Objective(Record):
    """What a regression minimizes, and on which scale; or what a ranking orders.

    Attributes:
        loss: the loss.
        alpha: the quantile that is predicted, for loss `quantile`.
        delta: the residual up to which the loss is quadratic, in units of the (transformed) target, for loss `huber`.
        variance_power: the variance is proportional to the mean to this power, for loss `tweedie`.
        transform: the function of the target that is trained on; predictions and metrics are on the original scale.
        query: the column of the queries, within each of which rows are ranked, for loss `lambdarank`.
        at: the number of first rows that count, for loss `lambdarank`.
    """

    loss: Loss = "mse"
    alpha: float | None = None
    delta: float | None = None
    variance_power: float | None = None
    transform: Transform | None = None
    query: str | None = Field(default=None, exclude_if=lambda it: it is None)
    at: int | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def lightgbm(self) -> dict[str, float | int | str | bool]:
        """LightGBM's parameters of the objective."""
        found: dict[str, float | int | str | bool] = {"objective": _LIGHTGBM[self.loss]}
        alpha = self.alpha if self.loss == "quantile" else self.delta
        if alpha is not None:
            found["alpha"] = alpha
        if self.variance_power is not None:
            found["tweedie_variance_power"] = self.variance_power
        if self.at is not None:
            found |= {"eval_at": self.at, "lambdarank_truncation_level": self.at + _FURTHER_ROWS}
        return found

    @property
    def metric_family(self) -> str:
        """The metric that fits the loss, without its parameter."""
        return _METRIC[self.loss]

    @property
    def metric(self) -> str:
        """The metric that fits the loss, with its parameter and the column of its groups."""
        return self.full_metric(self.metric_family)

    def full_metric(self, name: str) -> str:
        """Return a metric with its parameter, if it fits the loss, and with the column of its groups, if it has any."""
        parameter = {"quantile": self.alpha, "lambdarank": self.at}.get(self.loss, self.variance_power)
        found = name if parameter is None or name != self.metric_family else f"{name}{AT}{parameter}"
        return found if self.query is None else f"{found}{WITHIN}{self.query}"

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
        if self.query is not None:
            return f"{self.loss} (order of the rows of each {self.query}, of which the first {self.at} count)"
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
