"""The settings of evaluation: what is measured on the test window, and which metric decides."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.contracts.dotted_name import DOTTED
from ml_assets.contracts.own_metric import Direction, OwnName
from ml_assets.declaration.parts import ColumnName, Part


class OperatingPointSettings(Part):
    """Which rows a binary model flags: those with the highest scores, or all above a score. Declare one of them."""

    top_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of the rows: those with the highest scores, within each group if `evaluation.within` is "
        "declared.",
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="Lowest score that is flagged."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.top_share is None) == (self.threshold is None):
            raise ValueError("an operating point is either a 'top_share' or a 'threshold'; declare one of them")
        return self


class OwnMetricSettings(Part):
    """A metric of your own: a function `(labels, scores)` or `(labels, scores, weights)` of numpy arrays."""

    function: Annotated[str, Field(pattern=rf"^{DOTTED}$")] = Field(
        description="Dotted name of the function, such as `shop.metrics.cost`. It returns a number."
    )
    direction: Direction = Field(description="Whether a `lower` or a `higher` value is better.")

    @property
    def name(self) -> str:
        """The name of the metric in records and figures."""
        return OwnName(self.function, self.direction).text


class EvaluationSettings(Part):
    """What is measured on the test window, and which metric decides."""

    metric: str | None = Field(
        default=None,
        description="Metric that decides: for gate, slices, performance and retraining. `binary`: `roc_auc` (default), "
        "`average_precision`, `log_loss`, `brier`, `calibration_error`, `accuracy`. `regression`: `rmse` (default), "
        "`mae`, `r2`, and the metric of the declared `objective`, which is then the default. `multiclass`: "
        "`multi_log_loss` (default), `accuracy`, `macro_f1`. `ranking`: `ndcg` of the first `ranking.at` rows "
        "(default), `mean_average_precision`, `mean_reciprocal_rank`.",
    )
    own_metrics: tuple[OwnMetricSettings, ...] = Field(
        default=(),
        exclude_if=lambda it: not it,
        description="Metrics of your own, shown in evaluation, performance and card. `metric` may name one of them by "
        "its function.",
    )
    within: ColumnName | None = Field(
        default=None,
        description="Column of the key, or `day`: the deciding metric is the mean of the metric over the values of it. "
        "Without it, the metric over all rows. A ranking is always measured within its query.",
    )
    operating_point: OperatingPointSettings | None = Field(
        default=None,
        description="Rows that the model flags, on which precision, recall and lift are measured. Binary models only.",
    )
    slices: tuple[ColumnName, ...] = Field(
        default=(), description="Columns whose values are evaluated separately, such as `[region]`."
    )
    baselines: tuple[tuple[ColumnName, ...], ...] = Field(
        default=(),
        description="Baselines that the challenger must beat: for each group of columns, the mean label of the train "
        "window by their values, such as `[[shop], [shop, weekday]]`.",
    )
