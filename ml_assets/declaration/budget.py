"""What a model may cost in a month, and what the loop does when it has cost more.

What was spent stays out, see `ml_assets.provenance.cost`; so do prices, which are a setting: `resources.prices`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part


class BudgetSettings(Part):
    """The budget of a calendar month (UTC), for all stages of the model; the tables that it is made from are not in it.

    It is looked at before the loop asks for a retraining. What a person runs, and what runs by the day, is never held.
    """

    per_month: Annotated[float, Field(gt=0, le=1e12)] | None = Field(
        default=None, description="money, in the currency of the price table that ML_ASSETS_PRICES names"
    )
    cpu_hours_per_month: Annotated[float, Field(gt=0, le=1e12)] | None = Field(
        default=None, description="CPU hours as they are charged, which need no prices"
    )
    over: Literal["warn", "block"] = Field(
        default="warn", description="over it: alert once a month, or hold retrainings back until the next month too"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.per_month is None) == (self.cpu_hours_per_month is None):
            raise ValueError("expected either 'per_month' or 'cpu_hours_per_month'; give one of them")
        return self
