"""The settings of a regression's objective: the loss, its parameters, and the scale of the target."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ml_assets.contracts.objective import Objective, RegressionLoss
from ml_assets.declaration.parts import Part


class ObjectiveSettings(Part):
    """What a regression minimizes. It decides LightGBM's objective, the default metric and the constant baseline."""

    loss: RegressionLoss = Field(
        default="mse",
        description="`mse`: the mean. `mae`: the median. `huber`: between mean and median, by `delta`. `poisson`: the "
        "mean of counts. `tweedie`: the mean of amounts that are often exactly 0. `quantile`: a quantile. Labels of "
        "`poisson` and `tweedie` must not be negative. Default metric: `rmse`, `mae`, `mae`, `poisson_deviance`, "
        "`tweedie_deviance`, `pinball_loss`.",
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Quantile to predict, such as 0.9. Required by `quantile`; not for any other loss."
    )
    delta: Annotated[float, Field(gt=0, le=1e12)] | None = Field(
        default=None,
        description="Residual up to which the loss is quadratic, in units of the target, or of its logarithm with "
        "`transform`. Required by `huber`; not for any other loss.",
    )
    variance_power: Annotated[float, Field(gt=1, lt=2)] | None = Field(
        default=None,
        description="The variance is proportional to the mean to this power: near 1 as of counts, near 2 as of "
        "amounts. Required by `tweedie`; not for any other loss.",
    )
    transform: Literal["log1p"] | None = Field(
        default=None,
        description="Train on log(1 + target). The target must not be negative. Predictions and metrics are on the "
        "original scale. With `mse`, 1 + prediction is multiplied by a factor from the validation rows, because the "
        "mean of logarithms is not the logarithm of the mean. `mae` and `quantile` need no factor, `huber` gets none. "
        "`poisson` and `tweedie` have a logarithm of their own.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if problems := [*self._problems()]:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        for name, value, loss in (
            ("alpha", self.alpha, "quantile"),
            ("delta", self.delta, "huber"),
            ("variance_power", self.variance_power, "tweedie"),
        ):
            if self.loss == loss and value is None:
                yield f"loss '{loss}' needs '{name}'; declare it"
            elif self.loss != loss and value is not None:
                yield f"'{name}' belongs to loss '{loss}', not to '{self.loss}'; leave it out"
        if self.transform is not None and self.loss in ("poisson", "tweedie"):
            yield f"loss '{self.loss}' has a logarithm of its own; leave 'transform' out"

    @property
    def objective(self) -> Objective:
        """The objective as training sets and models store it."""
        return Objective.model_validate(self.model_dump())
