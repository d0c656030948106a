"""Which versions were champion, by the promotion logs, for a trace.

A damaged log does not end a trace: what is wrong with it is reported beside the entries that can be read. Not here:
deciding (see `ml_assets.lake.promotion_log`, whose entries hold more than is read here).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from ml_assets.lake.manifests import Manifests
from ml_assets.lake.promotion_log import PromotionLog


class Decision(BaseModel):
    """What a trace needs of one entry."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int
    model: str
    action: str
    champion: str | None
    challenger: str
    reasons: tuple[str, ...] = ()
    decided_at: AwareDatetime
    decided_by: str
    previous: str | None = None
    gives_up: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """When it was decided, what and by whom."""
        when = f"{self.decided_at.astimezone(UTC):%Y-%m-%d %H:%M}"
        return f"{when} UTC (entry {self.number}, {self.action} by {self.decided_by})"


@dataclass(frozen=True)
class Log:
    """The decisions about one model, oldest first, and what cannot be read of them."""

    model: str
    entries: Sequence[Decision]
    problems: Sequence[str] = ()

    @property
    def serving(self) -> str | None:
        """The version that serves now."""
        return self.entries[-1].champion if self.entries else None

    def since(self, moment: datetime) -> Decision | None:
        """Return the entry by which the version that served at a moment had become champion; None if nobody did."""
        reigns = self._reigns([entry for entry in self.entries if entry.decided_at <= moment])
        return reigns[-1][0] if reigns and reigns[-1][0].champion is not None else None

    @staticmethod
    def _reigns(entries: Sequence[Decision]) -> list[tuple[Decision, Decision | None]]:
        """Return the entries with which somebody else, or nobody, began to serve, and those that ended it."""
        changes = [
            entry
            for before, entry in zip([None, *entries], entries, strict=False)
            if entry.champion != (before.champion if before else None)
        ]
        return [*itertools.zip_longest(changes, changes[1:])]

    def told(self, version: str) -> str:
        """Return what became of a version, in a phrase."""
        phrases = []
        for first, end in self._reigns(self.entries):
            if first.champion == version and end is None:
                phrases.append(f"champion now, since {first.told}")
            elif first.champion == version and end is not None:
                phrases.append(f"was champion from {first.told} to {end.told}")
        if phrases:
            return "; ".join(reversed(phrases))
        judged = [entry for entry in self.entries if entry.challenger == version]
        return f"never champion; judged {judged[-1].told}" if judged else "never champion, nor judged"


def read_log(lake: Manifests, model: str) -> Log:
    """Return a model's log as far as it can be read."""
    look = PromotionLog(lake, model, Decision).inspect()
    return Log(model, look.entries, look.problems)
