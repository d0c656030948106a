"""The result of a gate rule that is a person's function.

Not here: calling it (see `ml_assets.logic.promotion.own_rule`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GateResult:
    """Whether a challenger passes a rule, and why.

    Attributes:
        holds: whether it passes.
        sentence: the reason, with its figures, for the promotion log and the card.
        figures: the numbers that decided, by name.
    """

    holds: bool
    sentence: str
    figures: Mapping[str, float] = field(default_factory=dict)
