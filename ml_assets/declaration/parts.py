"""What every declaration is made of: names, shares, days, and the closed class that its parts derive from."""

from datetime import date, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ml_assets.contracts.days import yesterday
from ml_assets.contracts.yaml_lines import compose, line_of
from ml_assets.declaration.times import Timezone

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="lower case, digits and _, from a letter")]
ColumnName = Annotated[str, Field(min_length=1, description="a column of a table, as its contract calls it")]
Share = Annotated[float, Field(ge=0, le=1)]
Stage = Literal[
    "features", "labels", "training_set", "importances", "tuning", "model", "evaluation", "champion",
    "predictions", "drift", "performance", "card",
]  # fmt: skip


class Part(BaseModel):
    """Base of every part of a declaration: closed and frozen, so that a stray field is told."""

    # Dagster's own loader prints pydantic's errors as they are, and what was given may carry a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    def read_from(self, path: str, text: str) -> Self:
        """Remember the file that this was read from, and return itself."""
        self.__dict__["_origin"] = path, text  # not a private attribute, which would take part in comparisons
        return self

    def place(self, *loc: str) -> str:
        """Return a field with the file and line it stands in, as errors name it; without them where it was not read."""
        path, text = self.__dict__.get("_origin", ("", ""))
        where = f"{path}:{line_of(compose(text), ('attributes', *loc))}: " if path else ""
        return where + ".".join(loc)


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
