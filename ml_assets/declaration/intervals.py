"""The settings of prediction intervals."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import Part


class IntervalSettings(Part):
    """The prediction intervals of a regression."""

    coverage: Annotated[float, Field(ge=0.5, le=0.999)] = Field(
        default=0.9,
        description="Share of the labels that the intervals should contain. A coverage of 0.9 needs at least 19 "
        "validation rows, 0.99 at least 199.",
    )
