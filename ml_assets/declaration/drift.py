"""The settings of drift: the limits above which a day counts as drifted."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import Part, Share

Psi = Annotated[float, Field(gt=0, le=100)]
"""Two distributions without a common value, with shares of at least 0.0001, have a PSI of 18."""


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
        default=0.05,
        description="Limit of the rise of the share of a feature's rows with a category that the reference lacks, from "
        "the share that 99 of 100 training days do not exceed.",
    )
    null_share_change: Share = Field(
        default=0.2, description="Limit of the change, up or down, of a feature's share of missing values."
    )
    min_rows: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=200, description="Rows that a day needs. With fewer, its drift is not judged."
    )
    pool_days: Annotated[int, Field(ge=1, le=92)] = Field(
        default=1,
        description="Maximum number of days that are judged together. Days are added until they have `min_rows`. "
        "The reference is pooled in the same way.",
    )
