"""The settings of features: their table, and the columns that are used."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from ml_assets.contracts.dotted_name import DOTTED
from ml_assets.contracts.table import Column, TableContract
from ml_assets.declaration.parts import ColumnName, Name, Part


class FeatureFunctionSettings(Part):
    """A function of your own that adds columns to the feature rows: polars in, polars out."""

    name: Annotated[str, Field(pattern=rf"^{DOTTED}$")] = Field(
        description="Dotted name of the function, such as `shop.features.ratios`. It takes the rows of one period "
        "(key, day, times, features), and returns their key with the new columns, one row each."
    )
    contract: Annotated[str, Field(pattern=rf"^{DOTTED}$")] = Field(
        description="Dotted name of the pandera model of the new columns, such as `shop.features.Ratios`. Each is a "
        "feature."
    )


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
    function: FeatureFunctionSettings | None = Field(
        default=None,
        exclude_if=lambda it: it is None,
        description="A function of your own that computes further features from those of the table.",
    )
    columns: tuple[ColumnName, ...] | None = Field(
        default=None,
        description="Columns to use as features. In a name, `*` stands for any text: `sensor_*` is every column with "
        "such a name that has the role `feature` or none and is not a key or a time. The order is that of the "
        "contract. Without it, every column with the role `feature` in the table's contract is used.",
    )
    exclude: tuple[ColumnName, ...] = Field(
        default=(), description="Columns that are not used as features; `*` is as in `columns`."
    )
    left_out: Mapping[str, str] = Field(
        default={},
        description="Columns of the source that were not made features, each with the reason. Only for people: the "
        "card and the summary of a run show them.",
    )

    def candidates(self, table: TableContract) -> tuple[Column, ...]:
        """Return the columns of the table that are used as features if none is excluded, in the order of the table."""
        if self.columns is None:
            return table.with_role("feature")
        return tuple(it for it in table.columns if any(self.includes(name, it) for name in self.columns))

    def includes(self, name: str, column: Column) -> bool:
        """Return whether a name in `columns` is that of a column, or a pattern that stands for it."""
        if name == column.name:
            return True
        others = (*self.key, self.event_time, self.prediction_time)
        return column.role in (None, "feature") and column.name not in others and is_like(name, column.name)


def is_pattern(name: str) -> bool:
    """Return whether a declared name stands for several columns."""
    return "*" in name


def is_like(name: str, column: str) -> bool:
    """Return whether a column has a declared name, in which `*` stands for any text."""
    return re.fullmatch(".*".join(map(re.escape, name.split("*"))), column, re.DOTALL) is not None
