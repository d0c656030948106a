"""The watch compares a new champion with its predecessor, on the same rows, in its first days.

Not here: the automatic rollback (see `ml_assets.automation.watch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final, Literal

from ml_assets.contracts.artifacts.monitoring import PerformanceSummary
from ml_assets.contracts.words import counted
from ml_assets.logic.evaluation.jackknife import MINIMUM_CLUSTERS, confidence_words, spread_of_days, student_quantile
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.monitoring.retraining import is_matured

ERROR_RATE: Final = 0.05
"""Error rate of all tests of one champion together. A champion that is worse by exactly the margin is rolled back in at
most 5 % of cases, and one that is as good as its predecessor in fewer. Each test has an equal share (Bonferroni)."""


@dataclass(frozen=True)
class Watching:
    """How a champion is compared with its predecessor in its first periods.

    Attributes:
        periods: those that are compared; 0 if there is no comparison.
        min_periods: those that a decision needs.
        margin: how much worse the champion may be, from 0, in units of the metric.
        group: the column of groups whose rows may be in several periods; None if there is none.
        period: the name of a period.
        role: what the compared version is.
        other: what it is compared with.
    """

    periods: int
    min_periods: int
    margin: float
    group: str | None = None
    period: str = "day"
    role: Literal["champion", "challenger"] = "champion"
    other: str = "the champion before"


@dataclass(frozen=True)
class WatchResult:
    """How a new champion compares with its predecessor.

    Attributes:
        is_worse: whether it is to be rolled back.
        is_settled: whether the result is final, because all periods of the watch are measured or none can be judged.
    """

    is_worse: bool
    is_settled: bool
    former: str | None
    sentence: str
    figures: dict[str, float] = field(default_factory=dict)


def compare_with_former(
    days: Sequence[PerformanceSummary], watching: Watching, *, champion: str, metric: Metric, coverage: float = 0.0
) -> WatchResult:
    """Compare a champion with its predecessor on the days, or longer periods, on which both were measured.

    Rows of one day are alike (same weather, same queues), so the sample is the days: the mean of the daily differences
    with Student's one-sided bound, which allows for correlated neighbouring days as the gate does (`jackknife.spread`).
    Each day counts once, whatever the number or the weight of its rows. The champion is worse if the upper bound is
    below minus the margin. The test is repeated after each day, from the first day on which there are enough to the
    last: `periods - min_periods + 1` tests, each with the confidence 1 - `ERROR_RATE` / tests. Summaries of other
    champions, or without the predecessor's figures, are ignored; of the others, the earliest `periods` are used.
    `min_periods` is never below `jackknife.MINIMUM_CLUSTERS`. `coverage` is the share of a day's predictions that must
    have a label before the day is used.

    If rows of a group are in several days, the daily differences share what is particular to these groups, and the
    spread of the days does not contain it: the error rate would not be kept, so nothing is judged.
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
    ][: watching.periods]
    counted_in = f"{watching.period}s"
    count = {counted_in: float(len(pairs))}
    former = pairs[-1][1] if pairs else None
    if watching.group is not None:
        sentence = (
            f"Not judged: rows of one '{watching.group}' may be in several {counted_in}, so the {counted_in} are no "
            "independent sample of the difference of two champions. The metadata of the asset 'performance' has the "
            "metrics of both."
        )
        return WatchResult(False, True, former, sentence, count)
    is_settled = len(pairs) >= watching.periods
    enough = max(watching.min_periods, MINIMUM_CLUSTERS)
    if len(pairs) < enough:
        sentence = (
            f"Not judged: only {counted(len(pairs), watching.period)} {'has' if len(pairs) == 1 else 'have'} figures "
            f"of both {watching.role} {champion} and {watching.other}; at least {enough} are needed."
        )
        return WatchResult(False, is_settled, former, sentence, count)
    differences = [difference for _, _, difference in pairs]
    mean, found = fmean(differences), spread_of_days(differences)
    if found.error is None:
        return WatchResult(False, is_settled, former, f"Not judged: {found.reason}.", count)
    looks = max(watching.periods - enough, 0) + 1
    level = 1 - ERROR_RATE / looks
    bound = mean + student_quantile(level, len(differences) - 1) * found.error
    is_worse = bound < -watching.margin
    per_period = "daily" if watching.period == "day" else f"{watching.period}ly"
    sentence = (
        f"Over {counted(len(pairs), watching.period)} ({pairs[0][0]} to {pairs[-1][0]}), the mean {per_period} "
        f"difference in {metric.name} between {watching.role} {champion} and {former} on the same rows is "
        f"{mean:+z.4f}, at most {bound:+z.4f} {confidence_words(level)} (one of {counted(looks, 'look')}): "
        f"{'worse' if is_worse else 'not shown to be worse'} by more than the margin of {watching.margin:g}."
    )
    figures = {
        **count, "difference": mean, "difference, at most": bound, "margin": watching.margin, "confidence": level,
    }  # fmt: skip
    return WatchResult(is_worse, is_settled, former, sentence, figures)
