"""What closes the loop: the gate, drift limits, when a retraining is asked for, and the watch over a new champion."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part, Share
from ml_assets.declaration.training import Split

Margin = Annotated[float, Field(ge=0, le=1e12)]
"""In units of the deciding metric, which may be an error in money."""

Psi = Annotated[float, Field(gt=0, le=100)]
"""Two distributions with nothing in common, in parts of a ten-thousandth, have a PSI of 18."""


class GateSettings(Part):
    """What a challenger must show before it is promoted; margins are in units of the deciding metric."""

    rule: Literal["non_inferiority", "superiority"] = Field(
        default="non_inferiority",
        description="whether it must not be worse than the champion by more than the margin, or be better by it; "
        "it must never be worse than the anchor by more than the margin",
    )
    margin: Annotated[
        Margin, Field(description="how much worse than champion and anchor it may be, or how much better it must be")
    ] = 0.005
    slice_margin: Annotated[Margin, Field(description="how much worse it may be on a declared slice")] = 0.01
    minimum_rows: Annotated[int, Field(ge=1, le=10**9, description="with fewer test rows nobody is promoted")] = 500
    minimum_slice_rows: Annotated[int, Field(ge=1, le=10**9, description="a smaller slice is shown and not judged")] = (
        200
    )
    max_calibration_error: Share | None = Field(
        default=None,
        description="ceiling for the lower end of the calibration error's 95 % interval; binary models only",
    )
    max_latency_ms: Annotated[float, Field(gt=0, le=600_000)] | None = Field(
        default=None, description="milliseconds that one row may take where the gate runs, as a median"
    )
    max_size_mib: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        default=None, description="size of the booster as text, in MiB"
    )
    approval: Literal["gate", "person"] = Field(
        default="gate", description="who lets in what passes every rule; for a person it waits (ml-assets promote)"
    )


class DriftSettings(Part):
    """From where on a day counts as drifted, and how many rows it takes to judge one.

    Excess PSI is PSI less what sampling makes of so few rows, less the most that 99 of 100 days of training show.
    """

    weighted_excess_psi: Annotated[
        Psi, Field(description="limit of the sum of every feature's excess PSI times its importance")
    ] = 0.1
    score_excess_psi: Annotated[Psi, Field(description="limit of the score's excess PSI")] = 0.5
    feature_excess_psi: Psi = Field(
        default=2.0,
        description="limit of one feature's excess PSI, times its importance beside the average feature's",
    )
    new_category_share: Share = 0.05
    null_share_change: Share = 0.2
    minimum_rows: Annotated[int, Field(ge=1, le=10**9, description="with fewer rows nothing is judged")] = 200
    pool_days: Annotated[int, Field(ge=1, le=92)] = Field(
        default=1,
        description="days that are judged together at most, until they have minimum_rows; of the reference too",
    )


class RetrainingSettings(Part):
    """When the loop asks for a retraining by itself, and how much of it there may be."""

    drift_days: Annotated[int, Field(ge=1, le=31, description="days over their drift limits that ask for one ...")] = 2
    of_days: Annotated[int, Field(ge=1, le=31, description="... among so many days that were judged")] = 3
    performance_limit: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=4.0,
        description="CUSUM of the metric's shortfall from what was expected, in a day's deviations; null: no limit",
    )
    minimum_coverage: Share = Field(
        default=0.8, description="share of a day's predictions that must have their label before it counts as measured"
    )
    label_growth: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=0.15,
        description="share by which labelled rows must have grown since the last training; null: never asks",
    )
    floor_days: Annotated[int, Field(ge=1, le=3660)] | None = Field(
        default=7, description="days after which a training is repeated whatever the sensors see; null: never"
    )
    cool_down_days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=7,
        description="days of data between two retrainings; doubled after each refused challenger, up to eight times",
    )
    per_day: Annotated[int, Field(ge=1, le=24, description="retrainings as of one day, at most")] = 1
    trials: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="tuning trials of a retraining, beside the champion's parameters; all of tuning's if absent",
    )
    split: Split | None = Field(default=None, description="windows of a retraining; those of the model if absent")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.drift_days > self.of_days:
            raise ValueError(f"drift_days {self.drift_days} must not be above of_days {self.of_days}")
        return self


class WatchSettings(Part):
    """How a new champion is compared with the one before it, on the same rows, in its first days."""

    days: Annotated[int, Field(ge=0, le=366, description="days with labels that are compared; 0 leaves it out")] = 7
    minimum_days: Annotated[int, Field(ge=5, le=366)] = Field(
        default=5, description="with fewer of them nothing is decided; a test of fewer than five would not hold"
    )
    margin: Margin = Field(default=0.01, description="how much worse it may be, in units of the deciding metric")

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        if 0 < self.days < self.minimum_days:
            raise ValueError(
                f"days {self.days} must not be below minimum_days {self.minimum_days}: nothing would ever be judged"
            )
        return self
