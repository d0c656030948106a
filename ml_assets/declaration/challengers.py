"""The settings of challengers that were not promoted: whether they are scored and compared in shadow."""

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from ml_assets.declaration.parts import Part


class CanarySettings(Part):
    """Which share of the keys a challenger answers, step by step, unless it is shown to be worse than the champion."""

    shares: tuple[Annotated[float, Field(gt=0, le=0.9)], ...] = Field(
        default=(0.05, 0.25, 0.5),
        min_length=1,
        max_length=10,
        description="Shares of the keys that the challenger answers, each larger than the one before.",
    )
    days: Annotated[int, Field(ge=5, le=90)] = Field(
        default=7, description="Days with matured labels of each step, the first of which is without answers."
    )

    @model_validator(mode="after")
    def _is_widening(self) -> Self:
        if any(after <= before for before, after in pairwise(self.shares)):
            raise ValueError("'shares' must each be larger than the one before, such as [0.05, 0.25, 0.5]")
        return self


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

    online: bool = Field(
        default=False,
        description="Whether the prediction service scores the newest challenger in shadow beside the champion. It "
        "stores these scores in the request log, and answers none. Needs `shadow` and `serving`.",
    )
    canary: CanarySettings | None = Field(
        default=None,
        description="Lets the challenger that is online answer a share of the keys, and withdraws it if it is shown to "
        "be worse than the champion by more than the gate's margin. With `satisfies_gate` it must pass all shares "
        "first. Needs `online`.",
    )

    @model_validator(mode="after")
    def _is_scored(self) -> Self:
        if self.satisfies_gate and not self.shadow:
            raise ValueError(
                "'satisfies_gate' needs the scores of challengers in shadow; declare 'shadow: true', or remove it"
            )
        if self.online and not self.shadow:
            raise ValueError("'online' needs challengers in shadow; declare 'shadow: true', or remove it")
        if self.canary is not None and not self.online:
            raise ValueError(
                "'canary' needs a challenger that the service scores; declare 'online: true', or remove it"
            )
        return self
