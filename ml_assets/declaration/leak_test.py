"""The settings of the leak test: how many prediction times it samples."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import ColumnName, Part


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
