"""How old something may be: the last run of it, and the data in it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part
from ml_assets.declaration.times import Cron, Timezone, later


class Freshness(Part):
    """How old something may be: the last run of it, by a window or by a cron, and the data in it."""

    fail_hours: Annotated[float, Field(ge=0.05, le=3660 * 24)] | None = Field(
        None, description="hours without a materialization after which it fails"
    )
    warn_hours: Annotated[float, Field(ge=0.05, le=3660 * 24)] | None = None
    cron: Cron | None = Field(None, description="when what it is made from comes, for instance '0 6 * * *'")
    by_minutes: Annotated[int, Field(gt=0, lt=24 * 60)] | None = Field(
        None, description="minutes after each time of the cron by which it must have been materialized"
    )
    timezone: Timezone | None = Field(None, description="of the cron; UTC if absent")
    data_days: Annotated[int, Field(ge=0, le=3660)] | None = Field(
        None,
        description="days that its newest day, or the as-of day of who serves, may lie behind the newest there can be",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.warn_hours is not None and (self.fail_hours is None or self.warn_hours >= self.fail_hours):
            raise ValueError(f"warn_hours {self.warn_hours} must be below fail_hours {self.fail_hours}")
        if self.cron is not None and self.fail_hours is not None:
            raise ValueError("give either 'fail_hours' or 'cron'; Dagster knows one policy an asset")
        if (self.cron is None) != (self.by_minutes is None):
            raise ValueError("'cron' and 'by_minutes' go together")
        if self.cron is None and self.timezone is not None:
            raise ValueError("'timezone' says how 'cron' is meant; give it too")
        if self.cron is None and self.fail_hours is None and self.data_days is None:
            raise ValueError("give 'fail_hours', 'cron' or 'data_days'")
        if self.cron is not None and self.by_minutes is not None:
            later(self.cron, self.by_minutes)
        return self

    @property
    def deadline(self) -> str | None:
        """The cron by whose times it must have been materialized: `by_minutes` after those of `cron`."""
        return None if self.cron is None or self.by_minutes is None else later(self.cron, self.by_minutes)
