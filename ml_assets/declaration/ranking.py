"""The settings of a ranking: which rows are ranked together, and how many of the first count."""

from typing import Annotated

from pydantic import Field

from ml_assets.contracts.objective import Objective
from ml_assets.declaration.parts import ColumnName, Part


class RankingSettings(Part):
    """Which rows are ranked together. The label is a grade: a whole number from 0 to 30, higher for a better row."""

    query: ColumnName = Field(
        description="Column of the feature table with the query of a row, such as a search or a race. Rows are ranked "
        "within it, and all its rows are in the same part of the training set."
    )
    at: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=10, description="Number of first rows that the metric `ndcg` and the training look at."
    )

    @property
    def objective(self) -> Objective:
        """The objective as training sets and models store it."""
        return Objective(loss="lambdarank", query=self.query, at=self.at)
