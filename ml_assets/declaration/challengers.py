"""The settings of challengers that were not promoted: whether they are scored and compared in shadow."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part


class ChallengersSettings(Part):
    """What happens to challengers that the gate rejected, or that wait for a person.

    In shadow they score the same rows as the champion, and are compared with it on these rows. Their scores have no
    effect.
    """

    shadow: bool = Field(
        default=False,
        description="Whether they score each period next to the champion, in the asset `shadow_predictions`. Only if "
        "the `split` is by time.",
    )
    most: Annotated[int, Field(ge=1, le=10)] = Field(
        default=2, description="The largest number of challengers in shadow. The newest are chosen."
    )
    days: Annotated[int, Field(ge=5, le=366)] = Field(
        default=14,
        description="Days of a comparison: the first ones after the as-of days of both, with matured labels. Each "
        "challenger is compared once.",
    )
    satisfies_gate: bool = Field(
        default=False,
        description="Whether a challenger is judged again on these days, by every rule of the gate, and promoted if it "
        "passes. With `gate.approval: person` it waits for the command `promote`.",
    )

    @model_validator(mode="after")
    def _is_scored(self) -> Self:
        if self.satisfies_gate and not self.shadow:
            raise ValueError(
                "'satisfies_gate' needs the scores of challengers in shadow; declare 'shadow: true', or remove it"
            )
        return self
