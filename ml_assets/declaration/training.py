"""How a model is trained and measured: windows, importances, tuning, training, evaluation."""

from typing import Annotated, Literal

from pydantic import Field

from ml_assets.contracts.artifacts import Unseen
from ml_assets.declaration.parts import Name, Part


class Split(Part):
    """Windows in days, counted back from the as-of day: test last, validation before it, train before that."""

    train_days: Annotated[int, Field(gt=0)] | None = None
    validation_days: Annotated[int, Field(gt=0)] = 30
    test_days: Annotated[int, Field(gt=0)] = 30


class ImportancesSettings(Part):
    """How much work the importances may cost."""

    rows: Annotated[int, Field(ge=1_000)] = 20_000
    folds: Annotated[int, Field(ge=2, le=20)] = 3


class TuningSettings(Part):
    """The study's budget and what stays fixed."""

    metric: str | None = Field(default=None, description="metric to tune for; the evaluation's metric if absent")
    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    seconds: Annotated[float, Field(gt=0)] | None = None
    max_rounds: Annotated[int, Field(ge=10)] = 500
    early_stopping_rounds: Annotated[int, Field(ge=5)] = 30
    fixed: dict[str, float | int | str | bool] = Field(default={})


class TrainingSettings(Part):
    """How the model is trained."""

    unseen: Unseen = "missing"
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    device: Literal["cpu", "gpu", "cuda"] = "cpu"


class EvaluationSettings(Part):
    """What is measured on the frozen test rows."""

    metric: str | None = Field(default=None, description="the deciding metric; the task's usual one if absent")
    slices: tuple[Name, ...] = ()
    baselines: tuple[tuple[Name, ...], ...] = Field(
        default=(), description="column groups for historical-rate baselines"
    )
    replicates: Annotated[int, Field(ge=50, le=100_000)] = 500
