"""The watch over a new champion: its first days compared with the champion before it, on the same rows.

Not here: rolling it back (see `ml_assets.automation.watch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from ml_assets.contracts.artifacts import PerformanceSummary, Promotion
from ml_assets.logic.evaluation.jackknife import MINIMUM_CLUSTERS, confidence_words, spread_of_days
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.evaluation.student import student_quantile
from ml_assets.logic.monitoring.retraining import is_matured
from ml_assets.logic.promotion.log import serving_since, standing

ERROR_RATE: Final = 0.05
"""Of all looks at one champion together: a champion that is worse by just the margin is rolled back in at most 5 % of
cases, and one as good as the one before in fewer. Each look has an equal part of it (Bonferroni)."""


@dataclass(frozen=True)
class Comparison:
    """What the first days of a champion show.

    Attributes:
        is_worse: whether it is to be rolled back.
        is_settled: whether all days of the watch are measured, so that nothing more will be decided.
        former: the version it was compared with.
        sentence: why, for an operator.
    """

    is_worse: bool
    is_settled: bool
    former: str | None
    sentence: str
    figures: dict[str, float] = field(default_factory=dict)


def held_against(entries: Sequence[Promotion]) -> str | None:
    """Return the version that the champion is compared with: the champion before it.

    None where there is none, and after a rollback. None too where the champion has served before: a person promoted it
    again who knew its figures, and the same figures are no reason to roll it back once more.

    Args:
        entries: the promotion log, oldest first.
    """
    since, stack = serving_since(entries), standing(entries)
    if since is None or since.action != "promote" or len(stack) < 2:
        return None
    earlier = {it.champion for it in entries if it.number < since.number}
    return None if since.champion in earlier else stack[-2]


def compare_with_former(
    days: Sequence[PerformanceSummary],
    *,
    champion: str,
    metric: Metric,
    watched: int,
    minimum: int,
    margin: float,
    coverage: float = 0.0,
) -> Comparison:
    """Compare a champion with the one before it by the days that both were measured on.

    Rows of a day share what the day brings, so days are the sample: the mean of the daily differences with Student's
    one-sided bound, which allows for neighbouring days that are alike as the gate does (`jackknife.spread`). The
    champion is worse where even the upper bound is below the negative of the margin. It is looked at after each day
    from the first that is enough to the last, which are `watched - minimum + 1` looks, so each has the confidence
    1 - `ERROR_RATE` / looks.

    Args:
        days: performance reports, in any order; only those of the champion that have the former's figures count, the
            earliest `watched` of them.
        champion: the current champion.
        metric: the deciding metric.
        watched: days that are compared.
        minimum: with fewer of them nothing is decided; never fewer than the gate needs (`jackknife.MINIMUM_CLUSTERS`).
        margin: how much worse it may be, in units of the metric, from 0.
        coverage: share of a day's predictions that must have their label before the day counts.
    """
    pairs = [
        (it.day, it.former.version, metric.gain(it.metrics[metric.name], it.former.metrics[metric.name]))
        for it in sorted(days, key=lambda it: it.day)
        if it.model_version == champion
        and it.former is not None
        and metric.name in it.former.metrics
        and is_matured(it, metric, coverage)
    ][:watched]
    is_settled = len(pairs) >= watched
    enough = max(minimum, MINIMUM_CLUSTERS)
    if len(pairs) < enough:
        sentence = (
            f"Not judged: cannot decide with {len(pairs)} days on which champion {champion} is measured beside the one "
            f"before; at least {enough} are needed."
        )
        return Comparison(False, is_settled, pairs[-1][1] if pairs else None, sentence, {"days": float(len(pairs))})
    former = pairs[-1][1]
    differences = [difference for _, _, difference in pairs]
    mean, found = fmean(differences), spread_of_days(differences)
    if found.error is None:
        return Comparison(False, is_settled, former, f"Not judged: {found.reason}.", {"days": float(len(pairs))})
    looks = max(watched - enough, 0) + 1
    level = 1 - ERROR_RATE / looks
    bound = mean + student_quantile(level, len(differences) - 1) * found.error
    is_worse = bound < -margin
    sentence = (
        f"Over {len(pairs)} days ({pairs[0][0]} to {pairs[-1][0]}) {metric.name} of champion {champion} differs by "
        f"{mean:+z.4f} a day from {former} on the same rows, at most {bound:+z.4f} {confidence_words(level)} "
        f"(one of {looks} look{'s' * (looks > 1)}): {'worse' if is_worse else 'not shown to be worse'} by more than "
        f"the margin of {margin:g}."
    )
    figures = {
        "days": float(len(pairs)), "difference": mean, "difference, at most": bound, "margin": margin,
        "confidence": level,
    }  # fmt: skip
    return Comparison(is_worse, is_settled, former, sentence, figures)
