"""The settings of training: how the model is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ml_assets.contracts.artifacts.training import Unseen
from ml_assets.contracts.dotted_name import DOTTED
from ml_assets.declaration.parts import Part


class TrainingSettings(Part):
    """How the model is trained."""

    estimator: Annotated[str, Field(pattern=rf"^{DOTTED}$")] | None = Field(
        default=None,
        exclude_if=lambda it: it is None,
        description="Dotted name of a subclass of `ml_assets.Estimator` that is trained instead of LightGBM, such as "
        "`ml_assets.estimators.linear.Linear`, `ml_assets.estimators.xgboost.XGBoost` or one of your own.",
    )
    unseen_categories: Unseen = Field(
        default="missing",
        description="What happens to a category at prediction time that the training data did not have: it is "
        "treated as a missing value, or it is an error.",
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default=2, description="CPU threads of a training. The result does not depend on it."
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
    refit: bool = Field(
        default=False,
        exclude_if=lambda it: not it,
        description="Train the model again on train and validation rows together, with the parameters and the number "
        "of rounds that were found. Importances, prediction intervals and the validation metric are those of the "
        "model before; only the test rows measure the new one.",
    )

    @model_validator(mode="after")
    def _falls_back_from_something(self) -> Self:
        if self.device_fallback is not None and self.device == "cpu":
            raise ValueError("'device_fallback' goes with device 'gpu' or 'cuda'; leave it out")
        return self
