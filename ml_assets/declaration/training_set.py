"""The settings of the training set: its windows."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import Part


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
