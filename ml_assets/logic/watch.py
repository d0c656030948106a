"""The watch over a new champion: its first days beside the champion before it, on the same rows.

Taking it back stays out; see `sensors.watch`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Final

from ml_assets.contracts.artifacts import PerformanceSummary, Promotion
from ml_assets.logic.metrics import Metric
from ml_assets.logic.promotion import serving_since, standing
from ml_assets.logic.retraining import is_matured
from ml_assets.logic.student import student_quantile

LEVEL: Final = 0.98
"""One-sided, each time it is looked: with a look a day from the third to the seventh, a champion that is worse by just
the margin is taken back in 5 % of cases, and one as good as the one before in fewer."""


@dataclass(frozen=True)
class Comparison:
    """What the first days of a champion say.

    Attributes:
        is_worse: whether it is to be taken back.
        is_settled: whether all days of the watch are there, so that nothing more is to be decided.
        former: the version it was compared with.
        sentence: why, for an operator.
    """

    is_worse: bool
    is_settled: bool
    former: str | None
    sentence: str
    figures: dict[str, float] = field(default_factory=dict)


def held_against(entries: Sequence[Promotion]) -> str | None:
    """Return the version that who serves is held against: the one that served before it.

    None where there is none, and after a rollback. None too where who serves has served before: somebody let it in
    again who knew how it did, and the same figures are no reason to take it back once more.

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
    one-sided bound. The champion is worse where even that bound lies below the margin.

    Args:
        days: performance reports, in any order; only those of the champion that have the former's figures count, the
            earliest `watched` of them.
        champion: who serves.
        metric: the deciding metric.
        watched: days that are compared.
        minimum: with fewer of them nothing is decided.
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
    if len(pairs) < max(minimum, 2):
        said = (
            f"Not judged: {len(pairs)} days of champion {champion} are measured beside the one before; at least "
            f"{minimum} are needed."
        )
        return Comparison(False, is_settled, pairs[-1][1] if pairs else None, said, {"days": float(len(pairs))})
    former = pairs[-1][1]
    differences = [difference for _, _, difference in pairs]
    mean, error = fmean(differences), stdev(differences) / math.sqrt(len(differences))
    bound = mean + student_quantile(LEVEL, len(differences) - 1) * error
    is_worse = bound < -margin
    said = (
        f"Over {len(pairs)} days ({pairs[0][0]} to {pairs[-1][0]}) {metric.name} of champion {champion} differs by "
        f"{mean:+z.4f} a day from {former} on the same rows, at most {bound:+z.4f}: "
        f"{'worse' if is_worse else 'not surely worse'} by more than the margin of {margin:g}."
    )
    figures = {"days": float(len(pairs)), "difference": mean, "difference, at most": bound, "margin": margin}
    return Comparison(is_worse, is_settled, former, said, figures)
