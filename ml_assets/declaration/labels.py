"""The settings of labels: their table, and when they are known."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import ColumnName, Name, Part


class LabelsFrom(Part):
    """The label table: outcomes, and when each became known."""

    table: Name = Field(description="Table of the labels: the name of a dbt model.")
    target: ColumnName = Field(description="Column with the label that the model learns to predict.")
    positive: bool | int | str | None = Field(
        default=None,
        description='Value of the target that is the positive class, such as `"returned"`; every other value is '
        "negative, and a missing one is no label. Without it, the target is Boolean, or 0 and 1. Binary models only.",
    )
    known_time: ColumnName = Field(description="Column with the time when the label could first be known.")
    weight: ColumnName | None = Field(
        default=None,
        description="Column with the weight of each row: a finite number of 0 or more. Training, search, baselines, "
        "metrics, intervals, calibration and the gate use it; a row with weight 0 is left out and counted. Counts of "
        "rows and drift do not use it. Without it, all rows count alike.",
    )
    reason: ColumnName | None = Field(
        default=None, description="Column that states why a row has no label. Rows without a label are counted by it."
    )
    maturity_days: Annotated[int, Field(ge=0, le=3660)] = Field(
        default=2,
        description="Days after the day of the event until which a label can become known. Corrections that arrive "
        "later are ignored.",
    )
