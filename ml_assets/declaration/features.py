"""The settings of features: their table, and the columns that are used."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

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
    left_out: Mapping[str, str] = Field(
        default={},
        description="Columns of the source that were not made features, each with the reason. Only for people: the "
        "card and the summary of a run show them.",
    )
