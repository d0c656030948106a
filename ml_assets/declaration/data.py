"""The tables that a model's features and labels come from, and what is checked on them beside their contracts."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import ColumnName, Name, Part


class FeaturesFrom(Part):
    """The feature table, with one row per prediction."""

    table: Name = Field(description="Table of the features: the name of a dbt model.")
    key: Annotated[tuple[ColumnName, ...], Field(min_length=1)] = Field(
        description="Columns that identify a row, at least one."
    )
    event_time: ColumnName = Field(description="Column with the time when the predicted event happens.")
    prediction_time: ColumnName = Field(
        description="Column with the time when the prediction is made. A row holds only what was known by then."
    )
    columns: tuple[ColumnName, ...] | None = Field(
        default=None,
        description="Columns to use as features. Without it, every column with the role `feature` in the table's "
        "contract is used.",
    )
    exclude: tuple[ColumnName, ...] = Field(default=(), description="Columns that are not used as features.")


class LabelsFrom(Part):
    """The label table: outcomes, and when each became known."""

    table: Name = Field(description="Table of the labels: the name of a dbt model.")
    target: ColumnName = Field(description="Column with the label that the model learns to predict.")
    known_time: ColumnName = Field(description="Column with the time when the label could first be known.")
    reason: ColumnName | None = Field(
        default=None, description="Column that states why a row has no label. Rows without a label are counted by it."
    )
    wait_days: Annotated[int, Field(ge=0, le=3660)] = Field(
        default=2,
        description="Days after the day of the event until which a label can become known. Corrections that arrive "
        "later are ignored.",
    )


class LeakTestSettings(Part):
    """The leak test: features are rebuilt from raw data as known at sampled prediction times, and compared.

    Features with a leak are not published, and no model is trained or promoted on them.
    """

    samples: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=50,
        description="Prediction times that each run of the features samples, at most 5 of one day. 0 turns the test "
        "off.",
    )
    acknowledged: tuple[ColumnName, ...] = Field(
        default=(),
        description="Features that predict the target almost alone, that a person has reviewed, and that are no leak.",
    )


class ExpectationsSettings(Part):
    """How a day of the features is compared with the days before it, beside the rules of its contract.

    Compared are the number of rows, the share of missing values and the share of each category.
    """

    days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=28, description="Number of days before it that a day is compared with. 0 turns the comparison off."
    )
    minimum_days: Annotated[int, Field(ge=2, le=366)] = Field(
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
        if 0 < self.days < self.minimum_days:
            raise ValueError(f"minimum_days {self.minimum_days} must not be above days {self.days}")
        return self
