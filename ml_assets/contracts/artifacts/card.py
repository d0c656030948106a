"""The model card."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Card:
    """The model card as one self-contained HTML page."""

    html: str = field(metadata={"file": "card.html"})
