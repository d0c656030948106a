"""The monthly budget of a model, and what happens above it.

Not here: what was spent (see `ml_assets.provenance.cost`), and prices, which are a setting (see
`ml_assets.provenance.prices`).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part


class BudgetSettings(Part):
    """The budget of a calendar month (UTC) for all stages of the model; the tables it is built from are not included.

    The budget is checked before a retraining is requested automatically. Runs that a person starts, and daily runs, are
    never blocked. Declare either `per_month` or `cpu_hours_per_month`.
    """

    per_month: Annotated[float, Field(gt=0, le=1e12)] | None = Field(
        default=None, description="Budget in money, in the currency of the price table that ML_ASSETS_PRICES names."
    )
    cpu_hours_per_month: Annotated[float, Field(gt=0, le=1e12)] | None = Field(
        default=None, description="Budget in CPU hours as they are charged. Needs no prices."
    )
    when_exceeded: Literal["warn", "block"] = Field(
        default="warn",
        description="What happens above the budget. `warn` sends one alert per month; `block` also requests no "
        "retraining until the next month.",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.per_month is None) == (self.cpu_hours_per_month is None):
            raise ValueError("expected either 'per_month' or 'cpu_hours_per_month'; give one of them")
        return self
