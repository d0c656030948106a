"""The settings of retraining: when it is requested automatically, and how often at most."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part, Share
from ml_assets.declaration.training_set import Split


class RetrainingSettings(Part):
    """When a retraining is requested automatically, and how often at most."""

    drift_days: Annotated[int, Field(ge=1, le=31)] = Field(
        default=2,
        description="Days above a drift limit, among the last `drift_window_days` judged days, that cause a "
        "retraining. At most `drift_window_days`.",
    )
    drift_window_days: Annotated[int, Field(ge=1, le=31)] = Field(
        default=3, description="Number of the latest judged days that `drift_days` refers to."
    )
    performance_limit: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=4.0,
        description="Limit of the CUSUM of the metric's shortfall from its expected value, in standard deviations of a "
        "day. `null`: performance causes no retraining.",
    )
    min_coverage: Share = Field(
        default=0.8,
        description="Share of a day's predictions that must have a label before the day's performance is used.",
    )
    label_growth: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=0.15,
        description="Growth of the labelled rows since the last training that causes a retraining, as a share: 0.15 is "
        "15 %. `null`: new labels cause no retraining.",
    )
    floor_days: Annotated[int, Field(ge=1, le=3660)] | None = Field(
        default=7,
        description="Days after which the model is retrained, whatever drift and performance are. `null`: never.",
    )
    cool_down_days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=7,
        description="Days of data between two retrainings. Doubled after each rejected challenger, up to eight times "
        "the number.",
    )
    max_per_day: Annotated[int, Field(ge=1, le=24)] = Field(
        default=1, description="Maximum number of retrainings with the same as-of day."
    )
    trials: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="Tuning trials of a retraining; the champion's parameters are tried in addition. Without it, "
        "`tuning.trials`.",
    )
    split: Split | None = Field(
        default=None,
        description="Windows of a retraining, if the split is by time. Without it, the `split` of the model.",
    )

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.drift_days > self.drift_window_days:
            raise ValueError(
                f"drift_days {self.drift_days} must not be above drift_window_days {self.drift_window_days}"
            )
        return self
