"""The settings of the watch: how a new champion is compared with its predecessor."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.declaration.gate import Margin
from ml_assets.declaration.parts import Part


class WatchSettings(Part):
    """How a new champion is compared with its predecessor, on the same rows, in its first days.

    A champion that is worse by more than the margin is rolled back automatically.
    """

    days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=7,
        description="Days with labels that are compared. 0 turns the watch off. Else at least `min_days`, and with a "
        "coarser grain at least so many periods. With `split.group`, nothing is judged.",
    )
    min_days: Annotated[int, Field(ge=5, le=366)] = Field(
        default=5, description="Days that a decision needs. Below five, the test would not keep its stated error rate."
    )
    margin: Margin = Field(
        default=0.01,
        description="How much worse than its predecessor the champion may be, in units of the deciding metric. At most "
        "1 for metrics between 0 and 1.",
    )

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        if 0 < self.days < self.min_days:
            raise ValueError(
                f"days {self.days} must not be below min_days {self.min_days}: nothing would ever be judged"
            )
        return self
