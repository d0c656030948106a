"""The settings of expectations: how a day of the features is compared with the days before it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part


class ExpectationsSettings(Part):
    """How a day of the features is compared with the days before it, beside the rules of its contract.

    Compared are the number of rows, the share of missing values and the share of each category.
    """

    days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=28, description="Number of days before it that a day is compared with. 0 turns the comparison off."
    )
    min_days: Annotated[int, Field(ge=2, le=366)] = Field(
        default=7, description="Days that the comparison needs. With fewer, a day is not judged. At most `days`."
    )
    margin: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.5,
        description="How far a figure may lie outside the range of the days before, as a multiple of the width of "
        "that range.",
    )
    is_blocking: bool = Field(
        default=False, description="Whether a day that differs is rejected. Otherwise it is published with a warning."
    )

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if 0 < self.days < self.min_days:
            raise ValueError(f"min_days {self.min_days} must not be above days {self.days}")
        return self
