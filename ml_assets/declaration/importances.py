"""The settings of importances: how they are measured."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import Part


class ImportancesSettings(Part):
    """How importances are measured. More rows and folds give more exact figures and take longer."""

    rows: Annotated[int, Field(ge=1_000, le=10_000_000)] = Field(
        default=20_000,
        description="Maximum number of validation rows on which permutation importance is measured. Earlier folds use "
        "half as many.",
    )
    folds: Annotated[int, Field(ge=2, le=20)] = Field(
        default=3, description="Time folds that importances are measured on; the last one is the validation window."
    )
