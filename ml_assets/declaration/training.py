"""How a model is trained and measured: windows, importances, tuning, training, evaluation."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from ml_assets.contracts.artifacts import Unseen
from ml_assets.contracts.boosting_parameters import parameter_problems
from ml_assets.declaration.parts import ColumnName, Part


class _Grown(Part):
    """A part that has got fields since manifests were written with it.

    At their defaults they are not written: an artifact from before then was made with the same parameters.
    """

    LATER: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        written: dict[str, Any] = whole(self)
        usual = {name for name in self.LATER if getattr(self, name) == fields[name].default}
        return {name: value for name, value in written.items() if name not in usual}


class Split(Part):
    """Windows in days, counted back from the as-of day: test last, validation before it, train before that."""

    train_days: Annotated[int, Field(gt=0, le=36_600)] | None = None
    validation_days: Annotated[int, Field(gt=0, le=3660)] = 30
    test_days: Annotated[int, Field(gt=0, le=3660)] = 30

    @property
    def held_back(self) -> int:
        """Days that are not trained on: validation and test."""
        return self.validation_days + self.test_days


class ImportancesSettings(Part):
    """How much work the importances may cost."""

    rows: Annotated[int, Field(ge=1_000, le=10_000_000)] = 20_000
    folds: Annotated[int, Field(ge=2, le=20)] = 3


class TuningSettings(_Grown):
    """The study's budget and what stays fixed."""

    LATER = ("workers",)

    metric: str | None = Field(default=None, description="metric to tune for; the evaluation's metric if absent")
    within: ColumnName | None = Field(
        default=None, description="tune for the mean of the metric inside each value of it"
    )
    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    seconds: Annotated[float, Field(gt=0, le=30 * 24 * 3600)] | None = None
    max_rounds: Annotated[int, Field(ge=10, le=100_000)] = 500
    early_stopping_rounds: Annotated[int, Field(ge=5, le=100_000)] = 30
    fixed: dict[str, float | int | str | bool] = Field(default={}, description="LightGBM parameters that are not tuned")
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1,
        description="trials at once, each in a process or pod of its own; with several, the order is that of arrival",
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


class TrainingSettings(_Grown):
    """How the model is trained."""

    LATER = ("device_fallback", "workers")

    unseen: Unseen = "missing"
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    device: Literal["cpu", "gpu", "cuda"] = "cpu"
    device_fallback: Literal["cpu"] | None = Field(
        default=None,
        description="what to train on where LightGBM cannot use the device; absent: the step fails and says why",
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="of Dask, over which the rows are spread"
    )

    @model_validator(mode="after")
    def _falls_back_from_something(self) -> Self:
        if self.device_fallback is not None and self.device == "cpu":
            raise ValueError("'device_fallback' goes with device 'gpu' or 'cuda'; leave it out")
        return self


class OperatingPointSettings(Part):
    """Where a binary model is used: on the rows with the highest scores, or on all from a score on."""

    top_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="share of the rows with the highest scores, of each group if `within` is declared"
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, description="score from which on")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.top_share is None) == (self.threshold is None):
            raise ValueError("an operating point is either a 'top_share' or a 'threshold'; declare one of them")
        return self


class EvaluationSettings(Part):
    """What is measured on the frozen test rows."""

    metric: str | None = Field(default=None, description="the deciding metric; the task's usual one if absent")
    within: ColumnName | None = Field(
        default=None,
        description="decide by the mean of the metric inside each value of it: `day`, or a column of the key",
    )
    operating_point: OperatingPointSettings | None = Field(
        default=None, description="where precision, recall and lift are measured; binary models only"
    )
    slices: tuple[ColumnName, ...] = ()
    baselines: tuple[tuple[ColumnName, ...], ...] = Field(
        default=(), description="column groups for historical-rate baselines"
    )
