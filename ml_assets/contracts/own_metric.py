"""The name of a metric that is a person's function: its dotted name and its direction.

Records and figures contain it, so that they can be read without the declaration: `shop.metrics.cost (lower is better)`.
Not here: measuring it (see `ml_assets.logic.evaluation.own_measure`).
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from ml_assets.contracts.dotted_name import DOTTED

Direction = Literal["lower", "higher"]
_NAME: Final = re.compile(rf"({DOTTED}) \((lower|higher) is better\)")


class OwnName(NamedTuple):
    """The function and the direction of such a metric."""

    function: str
    direction: str

    @property
    def text(self) -> str:
        """The name."""
        return f"{self.function} ({self.direction} is better)"

    @property
    def short(self) -> str:
        """The function's own name, for plots and pages."""
        return self.function.rpartition(".")[2]

    @classmethod
    def of(cls, name: str) -> OwnName | None:
        """Return the parts of a metric's name; None for a metric of the engine."""
        found = _NAME.fullmatch(name)
        return None if found is None else cls(found[1], found[2])
