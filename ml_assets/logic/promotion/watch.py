"""The watch compares a new champion with its predecessor, on the same rows, in its first days.

Not here: the automatic rollback (see `ml_assets.automation.watch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from ml_assets.contracts.artifacts import PerformanceSummary
from ml_assets.logic.evaluation.jackknife import MINIMUM_CLUSTERS, confidence_words, spread_of_days, student_quantile
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.monitoring.retraining import is_matured

ERROR_RATE: Final = 0.05
"""Error rate of all tests of one champion together. A champion that is worse by exactly the margin is rolled back in at
most 5 % of cases, and one that is as good as its predecessor in fewer. Each test has an equal share (Bonferroni)."""


@dataclass(frozen=True)
class WatchResult:
    """How a new champion compares with its predecessor.

    Attributes:
        is_worse: whether it is to be rolled back.
        is_settled: whether all days of the watch are measured, so that the result is final.
    """

    is_worse: bool
    is_settled: bool
    former: str | None
    sentence: str
    figures: dict[str, float] = field(default_factory=dict)


def compare_with_former(
    days: Sequence[PerformanceSummary],
    *,
    champion: str,
    metric: Metric,
    watched: int,
    minimum: int,
    margin: float,
    coverage: float = 0.0,
) -> WatchResult:
    """Compare a champion with its predecessor on the days on which both were measured.

    Rows of one day are alike (same weather, same queues), so the sample is the days: the mean of the daily differences
    with Student's one-sided bound, which allows for correlated neighbouring days as the gate does (`jackknife.spread`).
    The champion is worse if the upper bound is below minus the margin. The test is repeated after each day, from the
    first day on which there are enough to the last: `watched - minimum + 1` tests, each with the confidence 1 -
    `ERROR_RATE` / tests. Summaries of other champions, or without the predecessor's figures, are ignored; of the
    others, the earliest `watched` are used. `minimum` is never below `jackknife.MINIMUM_CLUSTERS`. The margin is from
    0, in units of the metric, and `coverage` is the share of a day's predictions that must have a label before the day
    is used.
    """
    pairs = [
        (
            it.day,
            it.previous_champion.version,
            metric.gain(it.metrics[metric.name], it.previous_champion.metrics[metric.name]),
        )
        for it in sorted(days, key=lambda it: it.day)
        if it.model_version == champion
        and it.previous_champion is not None
        and metric.name in it.previous_champion.metrics
        and is_matured(it, metric, coverage)
    ][:watched]
    is_settled = len(pairs) >= watched
    enough = max(minimum, MINIMUM_CLUSTERS)
    if len(pairs) < enough:
        sentence = (
            f"Not judged: only {len(pairs)} days have figures of both champion {champion} and the champion before; at "
            f"least {enough} are needed."
        )
        return WatchResult(False, is_settled, pairs[-1][1] if pairs else None, sentence, {"days": float(len(pairs))})
    former = pairs[-1][1]
    differences = [difference for _, _, difference in pairs]
    mean, found = fmean(differences), spread_of_days(differences)
    if found.error is None:
        return WatchResult(False, is_settled, former, f"Not judged: {found.reason}.", {"days": float(len(pairs))})
    looks = max(watched - enough, 0) + 1
    level = 1 - ERROR_RATE / looks
    bound = mean + student_quantile(level, len(differences) - 1) * found.error
    is_worse = bound < -margin
    sentence = (
        f"Over {len(pairs)} days ({pairs[0][0]} to {pairs[-1][0]}), the mean daily difference in {metric.name} between "
        f"champion {champion} and {former} on the same rows is {mean:+z.4f}, at most {bound:+z.4f} "
        f"{confidence_words(level)} (one of {looks} look{'s' * (looks > 1)}): "
        f"{'worse' if is_worse else 'not shown to be worse'} by more than the margin of {margin:g}."
    )
    figures = {
        "days": float(len(pairs)), "difference": mean, "difference, at most": bound, "margin": margin,
        "confidence": level,
    }  # fmt: skip
    return WatchResult(is_worse, is_settled, former, sentence, figures)
