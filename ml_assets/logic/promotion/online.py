"""What follows from the comparison of a challenger online with the champion: a larger share of the keys, or none.

The comparison is that of the watch: the mean of the daily differences on the same rows, with Student's bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from ml_assets.contracts.artifacts.monitoring import PerformanceSummary
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.words import counted
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.promotion.watch import Watching, WatchResult, compare_with_former

Step = Literal["stays", "widens", "withdrawn", "passed"]


@dataclass(frozen=True)
class OnlineRules:
    """How a challenger online is compared, and which shares of the keys it answers one after the other.

    Attributes:
        shares: the shares after the step without answers; empty if it never answers.
        days: the days of each step.
        margin: how much worse it may be, from 0, in units of the metric.
        coverage: the share of a day's rows that must have a label before the day counts.
    """

    shares: tuple[float, ...]
    days: int
    margin: float
    coverage: float


@dataclass(frozen=True)
class OnlineResult:
    """What follows for a challenger online.

    Attributes:
        share: the share of the keys that it answers from now on.
        days: the days that were compared.
    """

    step: Step
    share: float
    sentence: str
    days: int
    compared: WatchResult


def next_step(
    now: Promotion, since: date, days: Sequence[PerformanceSummary], rules: OnlineRules, metric: Metric
) -> OnlineResult:
    """Return what follows for a challenger from the days of all its steps until now.

    It is withdrawn if it is shown to be worse than the champion by more than the margin. All looks of all steps
    together have the error rate of the watch. A step ends with the declared number of compared days after `since`.

    Args:
        now: the entry of the current step.
        since: the day of that entry, which counts for no step.
        days: the performance of the challenger on requests, beside the champion's of that entry, after its first entry.
        rules: the declared steps.
        metric: the metric that decides.
    """
    share = now.share or 0.0
    watching = Watching(
        periods=rules.days * (1 + len(rules.shares)), min_periods=rules.days, margin=rules.margin, role="challenger",
        other="the champion",
    )  # fmt: skip
    found = compare_with_former(days, watching, champion=now.challenger, metric=metric, coverage=rules.coverage)
    before = [it for it in days if it.day <= since]
    compared = _compared(found)
    own = compared - _compared(
        compare_with_former(before, watching, champion=now.challenger, metric=metric, coverage=rules.coverage)
    )

    def result(step: Step, after: float, words: str) -> OnlineResult:
        return OnlineResult(step, after, f"{found.sentence} {words}", compared, found)

    if not rules.shares:
        return result("stays", 0.0, "It answers no request, because no canary is declared.")
    if found.is_worse:
        return result("withdrawn", 0.0, "It is withdrawn.")
    if own < rules.days or "confidence" not in found.figures:
        return result("stays", share, f"{counted(own, 'day')} of the {rules.days} of this step {_have(own)} figures.")
    wider = next((it for it in rules.shares if it > share), None)
    if wider is None:
        return result("passed", share, f"It has passed the last share, {share:.0%} of the keys.")
    return result("widens", wider, f"It answers {wider:.0%} of the keys from now on.")


def _compared(found: WatchResult) -> int:
    return int(found.figures["days"])


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
