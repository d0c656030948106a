"""Where a model's features and labels come from, and what is asked of them beside their contracts."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import ColumnName, Name, Part


class FeaturesFrom(Part):
    """The table with one row a prediction, and which of its columns say who and when."""

    table: Name
    key: Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    event_time: ColumnName
    prediction_time: ColumnName
    columns: tuple[ColumnName, ...] | None = Field(
        None, description="features to use; all of the table's features if absent"
    )
    exclude: tuple[ColumnName, ...] = ()


class LabelsFrom(Part):
    """The table with the outcomes, and when each became known."""

    table: Name
    target: ColumnName
    known_time: ColumnName
    reason: ColumnName | None = Field(None, description="column that says why a row has no label")
    wait_days: Annotated[int, Field(ge=0, le=3660)] = Field(
        2, description="days after its own day within which a label becomes known; a later correction does not count"
    )


class LeakTestSettings(Part):
    """How often each run of the features tests whether rows hold what was not known at their prediction time.

    Features with a leak are not published, and nobody is promoted on them.
    """

    samples: Annotated[
        int, Field(ge=0, le=10_000, description="prediction times a run, at most 5 of one day; 0: not tested")
    ] = 50
    acknowledged: tuple[ColumnName, ...] = Field(
        default=(),
        description="features that a person has looked at and that may predict the target almost alone",
    )


class ExpectationsSettings(Part):
    """What a day of the features is held against: the range of the days before it, beside the rules of its contract."""

    days: Annotated[int, Field(ge=0, le=366)] = Field(default=28, description="days before that count; 0 leaves it out")
    minimum_days: Annotated[int, Field(ge=2, le=366)] = Field(
        default=7, description="with fewer of them a day is not judged"
    )
    margin: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.5, description="how far out of their range a figure may lie, in widths of it"
    )
    is_blocking: bool = Field(default=False, description="whether a day that surprises is not published")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if 0 < self.days < self.minimum_days:
            raise ValueError(f"minimum_days {self.minimum_days} must not be above days {self.days}")
        return self
