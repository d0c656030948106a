"""What every declaration is made of: names, shares, days, and the closed class that its parts derive from."""

from datetime import date, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ml_assets.contracts.days import yesterday
from ml_assets.declaration.times import Timezone

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="lower case, digits and _, from a letter")]
Share = Annotated[float, Field(ge=0, le=1)]
Stage = Literal[
    "features", "labels", "training_set", "importances", "tuning", "model", "evaluation", "champion",
    "predictions", "drift", "performance", "card",
]  # fmt: skip


class Part(BaseModel):
    """Base of every part of a declaration: closed and frozen, so that a stray field is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Days(Part):
    """The days there are partitions for, both included; an open end means up to yesterday."""

    first: date
    last: date | None = None
    timezone: Timezone = Field("UTC", description="where a day begins and ends; one for all declarations")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last day {self.last} lies before first day {self.first}; swap them")
        return self

    def newest(self, now: datetime) -> date:
        """Return the newest of these days that is over at a moment."""
        over = yesterday(now, self.timezone)
        return over if self.last is None else min(over, self.last)
