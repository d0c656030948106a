"""The settings of a training: windows, importances, tuning, training, evaluation."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ml_assets.contracts.artifacts import Unseen
from ml_assets.contracts.boosting_parameters import parameter_problems
from ml_assets.declaration.parts import ColumnName, Part


class Split(Part):
    """The windows of a training, in days. The last is test, up to the as-of day; before it validation, then train."""

    train_days: Annotated[int, Field(gt=0, le=36_600)] | None = Field(
        default=None, description="Days of the train window. Without it, all days before the validation window."
    )
    validation_days: Annotated[int, Field(gt=0, le=3660)] = Field(
        default=30, description="Days of the validation window, on which features and parameters are chosen."
    )
    test_days: Annotated[int, Field(gt=0, le=3660)] = Field(
        default=30,
        description="Days of the test window, on which the gate compares challenger and champion. At least 5.",
    )

    @property
    def held_back(self) -> int:
        """Days that are not trained on: validation and test."""
        return self.validation_days + self.test_days


class ImportancesSettings(Part):
    """How importances are measured. More rows and folds give more exact figures and take longer."""

    rows: Annotated[int, Field(ge=1_000, le=10_000_000)] = Field(
        default=20_000,
        description="Validation rows, at most, that permutation importance is measured on; half as many on earlier "
        "folds.",
    )
    folds: Annotated[int, Field(ge=2, le=20)] = Field(
        default=3, description="Time folds that importances are measured on; the last one is the validation window."
    )


class TuningSettings(Part):
    """The search for LightGBM parameters: its budget, and which parameters are fixed."""

    metric: str | None = Field(
        default=None,
        description="Metric of the trials on the validation window, one of the task's. Without it, "
        "`evaluation.metric`.",
    )
    within: ColumnName | None = Field(
        default=None,
        description="Column of the key, or `day`: a trial is rated by the mean of the metric over the values of it. "
        "Without it, by the metric over all rows.",
    )
    trials: Annotated[int, Field(ge=1, le=10_000)] = Field(default=20, description="Number of trials.")
    seconds: Annotated[float, Field(gt=0, le=30 * 24 * 3600)] | None = Field(
        default=None,
        description="Seconds after which no further trial starts. Without it, there is no limit. With a limit, the "
        "result depends on the speed of the machine.",
    )
    max_rounds: Annotated[int, Field(ge=10, le=100_000)] = Field(
        default=500, description="Boosting rounds of a trial, at most."
    )
    early_stopping_rounds: Annotated[int, Field(ge=5, le=100_000)] = Field(
        default=30,
        description="A trial stops after this number of rounds without a better metric on the validation window.",
    )
    fixed: dict[str, float | int | str | bool] = Field(
        default={}, description="LightGBM parameters that are not tuned, by name, such as `{max_depth: 6}`."
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1,
        description="Trials that run at the same time, each in its own process or pod. With more than one, the result "
        "depends on the order in which trials end.",
    )

    @field_validator("fixed")
    @classmethod
    def _can_be_set(cls, fixed: dict[str, float | int | str | bool]) -> dict[str, float | int | str | bool]:
        if wrong := [
            InitErrorDetails(type=PydanticCustomError("parameter", problem), loc=(name,), input=fixed[name])
            for name, problem in parameter_problems(fixed)
        ]:
            raise ValidationError.from_exception_data("TuningSettings", wrong)
        return fixed


class TrainingSettings(Part):
    """How the model is trained."""

    unseen: Unseen = Field(
        default="missing",
        description="What happens to a category at prediction time that the training data did not have: it is "
        "treated as a missing value, or it is an error.",
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default=2, description="CPU threads of LightGBM. The result does not depend on it."
    )
    device: Literal["cpu", "gpu", "cuda"] = Field(
        default="cpu",
        description="Device that LightGBM trains on: `gpu` needs OpenCL, `cuda` a LightGBM that was built with CUDA.",
    )
    device_fallback: Literal["cpu"] | None = Field(
        default=None,
        description="Device to use if LightGBM cannot use `device`, which must be `gpu` or `cuda`. Without it, the "
        "step fails.",
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1,
        description="Dask workers that the rows are spread over. With more than one, the result agrees with that of "
        "one worker within a tolerance.",
    )

    @model_validator(mode="after")
    def _falls_back_from_something(self) -> Self:
        if self.device_fallback is not None and self.device == "cpu":
            raise ValueError("'device_fallback' goes with device 'gpu' or 'cuda'; leave it out")
        return self


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


class EvaluationSettings(Part):
    """What is measured on the test window, and which metric decides."""

    metric: str | None = Field(
        default=None,
        description="Metric that decides: for gate, slices, performance and retraining. `binary`: `roc_auc` (default), "
        "`average_precision`, `log_loss`, `brier`, `calibration_error`, `accuracy`. `regression`: `rmse` (default), "
        "`mae`, `r2`. `multiclass`: `multi_log_loss` (default), `accuracy`, `macro_f1`.",
    )
    within: ColumnName | None = Field(
        default=None,
        description="Column of the key, or `day`: the deciding metric is the mean of the metric over the values of it. "
        "Without it, the metric over all rows.",
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
