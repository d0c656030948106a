"""The maximum age of an asset: of its last materialization, and of the data in it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part
from ml_assets.declaration.times import Cron, Timezone, later


class Freshness(Part):
    """The maximum age of an asset: of its last materialization, by hours or by a cron, and of the data in it.

    Declare at least one of `fail_hours`, `cron` and `data_lag_days`; `fail_hours` and `cron` cannot be combined.
    """

    fail_hours: Annotated[float, Field(ge=0.05, le=3660 * 24)] | None = Field(
        default=None, description="Hours without a materialization after which the asset is overdue."
    )
    warn_hours: Annotated[float, Field(ge=0.05, le=3660 * 24)] | None = Field(
        default=None, description="Hours without a materialization after which a warning is shown. Below `fail_hours`."
    )
    cron: Cron | None = Field(
        default=None,
        description="Times when the inputs of the asset arrive, such as `0 6 * * *`. Needs `within_minutes`.",
    )
    within_minutes: Annotated[int, Field(gt=0, lt=24 * 60)] | None = Field(
        default=None,
        description="Minutes after each time of `cron` by which the asset must have been materialized. The deadline "
        "must be before midnight.",
    )
    timezone: Timezone | None = Field(default=None, description="Time zone of `cron`. Without it, UTC.")
    data_lag_days: Annotated[int, Field(ge=0, le=3660)] | None = Field(
        default=None,
        description="Days that the asset's newest partition, or the as-of day of the current champion, may be behind "
        "the newest day possible. The check `data_is_fresh` reports it.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.warn_hours is not None and (self.fail_hours is None or self.warn_hours >= self.fail_hours):
            raise ValueError(f"warn_hours {self.warn_hours} must be below fail_hours {self.fail_hours}")
        if self.cron is not None and self.fail_hours is not None:
            raise ValueError("give either 'fail_hours' or 'cron'; Dagster supports one policy per asset")
        if (self.cron is None) != (self.within_minutes is None):
            raise ValueError("'cron' and 'within_minutes' go together")
        if self.cron is None and self.timezone is not None:
            raise ValueError("'timezone' is the time zone of 'cron'; give 'cron' too")
        if self.cron is None and self.fail_hours is None and self.data_lag_days is None:
            raise ValueError("give 'fail_hours', 'cron' or 'data_lag_days'")
        if self.cron is not None and self.within_minutes is not None:
            later(self.cron, self.within_minutes)
        return self

    @property
    def deadline(self) -> str | None:
        """The cron of the deadlines: `within_minutes` after the times of `cron`."""
        return None if self.cron is None or self.within_minutes is None else later(self.cron, self.within_minutes)
