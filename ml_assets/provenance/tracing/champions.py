"""Reads from the promotion logs which versions were champion, for a trace.

A damaged log does not stop a trace. Its problems are reported with the entries that can be read.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.manifests import Manifests
from ml_assets.lake.promotion_log import PromotionLog


def decision_phrase(entry: Promotion) -> str:
    """Return the time, action and person of a decision, as a phrase."""
    when = f"{entry.decided_at.astimezone(UTC):%Y-%m-%d %H:%M}"
    return f"{when} UTC (entry {entry.number}, {entry.action.replace('_', ' ')} by {entry.decided_by})"


@dataclass(frozen=True)
class ChampionHistory:
    """The decisions about one model, oldest first, and the problems of its log."""

    model: str
    entries: Sequence[Promotion]
    problems: Sequence[str] = ()

    @property
    def serving(self) -> str | None:
        """The current champion."""
        return self.entries[-1].champion if self.entries else None

    def since(self, moment: datetime) -> Promotion | None:
        """Return the entry that made the champion of a moment; None if there was none."""
        periods = self._periods([entry for entry in self.entries if entry.decided_at <= moment])
        return periods[-1][0] if periods and periods[-1][0].champion is not None else None

    @staticmethod
    def _periods(entries: Sequence[Promotion]) -> list[tuple[Promotion, Promotion | None]]:
        """Return the entries that changed the champion, each with the next one."""
        changes = [
            entry
            for before, entry in zip([None, *entries], entries, strict=False)
            if entry.champion != (before.champion if before else None)
        ]
        return [*itertools.zip_longest(changes, changes[1:])]

    def history_of(self, version: str) -> str:
        """Return what happened to a version, as a phrase."""
        phrases = []
        for first, end in self._periods(self.entries):
            if first.champion == version and end is None:
                phrases.append(f"champion now, since {decision_phrase(first)}")
            elif first.champion == version and end is not None:
                phrases.append(f"was champion from {decision_phrase(first)} to {decision_phrase(end)}")
        if phrases:
            return "; ".join(reversed(phrases))
        judged = [entry for entry in self.entries if entry.challenger == version]
        return f"never champion; judged {decision_phrase(judged[-1])}" if judged else "never champion or judged"


def read_champion_history(lake: Manifests, model: str) -> ChampionHistory:
    """Return a model's log as far as it can be read."""
    look = PromotionLog(lake, model).inspect()
    return ChampionHistory(model, look.entries, look.problems)
