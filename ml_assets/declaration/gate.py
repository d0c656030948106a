"""The settings of the gate: what a challenger must show before it is promoted."""

from typing import Annotated, Literal

from pydantic import Field

from ml_assets.contracts.dotted_name import DOTTED
from ml_assets.declaration.parts import Part, Share

Margin = Annotated[float, Field(ge=0, le=1e12)]
"""In units of the deciding metric, which may be money."""


class GateSettings(Part):
    """What a challenger must show before it is promoted. Margins are in units of the deciding metric."""

    rule: Literal["non_inferiority", "superiority"] = Field(
        default="non_inferiority",
        description="Whether the challenger must not be worse than the champion by more than `margin`, or must be "
        "better by at least `margin`. With both rules it must not be worse than the anchor by more than `margin`.",
    )
    margin: Margin = Field(
        default=0.005,
        description="How much worse than champion and anchor the challenger may be, or how much better than the "
        "champion it must be, see `rule`. At most 1 for metrics between 0 and 1.",
    )
    slice_margin: Margin = Field(
        default=0.01,
        description="How much worse than the champion the challenger may be on a declared slice. At most 1 for metrics "
        "between 0 and 1.",
    )
    min_rows: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=500,
        description="Test rows that a promotion needs. With fewer, every challenger is rejected. 50 is the default if "
        "the `split` of the model is not by time.",
    )
    min_slice_rows: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=200,
        description="Rows that a slice needs to be judged. A smaller slice is only reported. 50 is the default if the "
        "`split` of the model is not by time.",
    )
    max_calibration_error: Share | None = Field(
        default=None,
        description="Upper limit of the calibration error. It is compared with the lower end of the error's 95 % "
        "interval. Binary models only.",
    )
    max_latency_ms: Annotated[float, Field(gt=0, le=600_000)] | None = Field(
        default=None,
        description="Upper limit of the median time to score one row, in milliseconds, on the machine that runs the "
        "gate.",
    )
    max_size_mib: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        default=None, description="Upper limit of the size of the model's text, in MiB."
    )
    own_rules: tuple[Annotated[str, Field(pattern=rf"^{DOTTED}$")], ...] = Field(
        default=(),
        exclude_if=lambda it: not it,
        description="Rules of your own: dotted names of functions, such as `shop.rules.enough_precision`. Each takes "
        "the evaluation and returns a `ml_assets.GateResult`. A challenger must pass all of them, too.",
    )
    approval: Literal["gate", "person"] = Field(
        default="gate",
        description="Who promotes a challenger that passes every rule: `gate` promotes it at once; `person` waits for "
        "the command `promote`.",
    )
