"""The settings of the gate, of drift limits, of retraining, and of the watch over a new champion."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part, Share
from ml_assets.declaration.training import Split

Margin = Annotated[float, Field(ge=0, le=1e12)]
"""In units of the deciding metric, which may be money."""

Psi = Annotated[float, Field(gt=0, le=100)]
"""Two distributions without a common value, with shares of at least 0.0001, have a PSI of 18."""


class GateSettings(Part):
    """What a challenger must show before it is promoted. Margins are in units of the deciding metric."""

    rule: Literal["non_inferiority", "superiority"] = Field(
        default="non_inferiority",
        description="Whether the challenger must not be worse than the champion by more than `margin`, or must be "
        "better by at least `margin`. With both rules it must not be worse than the anchor by more than `margin`.",
    )
    margin: Margin = Field(
        default=0.005,
        description="How much worse than champion and anchor the challenger may be, or how much better than the "
        "champion it must be, see `rule`. At most 1 for metrics between 0 and 1.",
    )
    slice_margin: Margin = Field(
        default=0.01,
        description="How much worse than the champion the challenger may be on a declared slice. At most 1 for metrics "
        "between 0 and 1.",
    )
    minimum_rows: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=500, description="Test rows that a promotion needs. With fewer, every challenger is rejected."
    )
    minimum_slice_rows: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=200, description="Rows that a slice needs to be judged. A smaller slice is only reported."
    )
    max_calibration_error: Share | None = Field(
        default=None,
        description="Upper limit of the calibration error. It is compared with the lower end of the error's 95 % "
        "interval. Binary models only.",
    )
    max_latency_ms: Annotated[float, Field(gt=0, le=600_000)] | None = Field(
        default=None,
        description="Upper limit of the median time to score one row, in milliseconds, on the machine that runs the "
        "gate.",
    )
    max_size_mib: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        default=None, description="Upper limit of the size of the model's text, in MiB."
    )
    approval: Literal["gate", "person"] = Field(
        default="gate",
        description="Who promotes a challenger that passes every rule: `gate` promotes it at once; `person` waits for "
        "the command `promote`.",
    )


class DriftSettings(Part):
    """The limits above which a day counts as drifted, and how many rows a day needs to be judged.

    The excess PSI of a column is its PSI, less what sampling error alone explains for that number of rows, and less
    the value that 99 of 100 training days do not exceed.
    """

    weighted_excess_psi: Psi = Field(
        default=0.1, description="Limit of the sum over all features of excess PSI times importance."
    )
    score_excess_psi: Psi = Field(default=0.5, description="Limit of the score's excess PSI.")
    feature_excess_psi: Psi = Field(
        default=2.0,
        description="Limit of one feature's excess PSI, times the ratio of its importance to the average importance.",
    )
    new_category_share: Share = Field(
        default=0.05, description="Limit of the share of a feature's rows with a category that the reference lacks."
    )
    null_share_change: Share = Field(
        default=0.2, description="Limit of the change, up or down, of a feature's share of missing values."
    )
    minimum_rows: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=200, description="Rows that a day needs. With fewer, its drift is not judged."
    )
    pool_days: Annotated[int, Field(ge=1, le=92)] = Field(
        default=1,
        description="Days that are judged together, at most, until they have `minimum_rows`. The reference is pooled "
        "in the same way.",
    )


class RetrainingSettings(Part):
    """When a retraining is requested automatically, and how often at most."""

    drift_days: Annotated[int, Field(ge=1, le=31)] = Field(
        default=2,
        description="Days above a drift limit, among the last `of_days` judged days, that cause a retraining. At most "
        "`of_days`.",
    )
    of_days: Annotated[int, Field(ge=1, le=31)] = Field(
        default=3, description="Number of the latest judged days that `drift_days` refers to."
    )
    performance_limit: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=4.0,
        description="Limit of the CUSUM of the metric's shortfall from its expected value, in standard deviations of a "
        "day. `null`: performance causes no retraining.",
    )
    minimum_coverage: Share = Field(
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
    per_day: Annotated[int, Field(ge=1, le=24)] = Field(
        default=1, description="Retrainings with the same as-of day, at most."
    )
    trials: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="Tuning trials of a retraining; the champion's parameters are tried in addition. Without it, "
        "`tuning.trials`.",
    )
    split: Split | None = Field(
        default=None, description="Windows of a retraining. Without it, the `split` of the model."
    )

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.drift_days > self.of_days:
            raise ValueError(f"drift_days {self.drift_days} must not be above of_days {self.of_days}")
        return self


class WatchSettings(Part):
    """How a new champion is compared with its predecessor, on the same rows, in its first days.

    A champion that is worse by more than the margin is rolled back automatically.
    """

    days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=7,
        description="Days with labels that are compared. 0 turns the watch off. Else at least `minimum_days`.",
    )
    minimum_days: Annotated[int, Field(ge=5, le=366)] = Field(
        default=5,
        description="Days that a decision needs. Below five, the test would not keep its stated error rate.",
    )
    margin: Margin = Field(
        default=0.01,
        description="How much worse than its predecessor the champion may be, in units of the deciding metric. At most "
        "1 for metrics between 0 and 1.",
    )

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        if 0 < self.days < self.minimum_days:
            raise ValueError(
                f"days {self.days} must not be below minimum_days {self.minimum_days}: nothing would ever be judged"
            )
        return self
