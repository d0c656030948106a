"""Compare a day's measured drift with the declared limits, and state the result in a sentence with figures.

Not here: measuring drift (see `ml_assets.logic.monitoring.drift`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.monitoring import DriftSummary, ExceededLimit
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.logic.monitoring.distances import Vector

MOST_DAYS: Final = 92
"""Days that can be judged together, at most."""
_LISTED: Final = 2
"""Features above a limit of their own that the sentence names. The table has all of them."""
_HIGHEST: Final = 3
"""Features with the highest weighted excess PSI that the sentence names."""


def most_pooled_days(calendar: Calendar) -> int:
    """Return the days that can be judged together at most, in whole periods."""
    return max(MOST_DAYS, calendar.periods_in(MOST_DAYS) * calendar.shortest_hours // 24)


@dataclass(frozen=True)
class DriftLimits:
    """The limits above which a day counts as drifted.

    Attributes:
        weighted_excess_psi: Limit of the sum over all features of excess PSI times weight.
        score_excess_psi: Limit of the score's excess PSI.
        new_category_share: Limit of the rise of the share of a feature's rows with a category that the reference lacks,
            from the upper end of the usual range.
        null_share_change: Limit of the change of a feature's share of missing values, up or down from the usual range.
        min_rows: With fewer rows, nothing is judged.
        pool_days: Days that are judged together, at most, until they have `min_rows`.
        feature_excess_psi: Limit of one feature's excess PSI, times the ratio of its weight to the average weight. It
            finds one exceeded feature among many, which hardly changes the sum.
    """

    weighted_excess_psi: float
    score_excess_psi: float
    new_category_share: float
    null_share_change: float
    min_rows: int
    feature_excess_psi: float = 2.0
    pool_days: int = 1

    def has_enough(self, rows: int) -> bool:
        """Return whether this number of rows is enough to judge."""
        return rows >= max(self.min_rows, 1)


@dataclass(frozen=True)
class Pooled:
    """The periods whose rows are judged together, as the drift of the last of them, by their keys."""

    first: str
    last: str
    calendar: Calendar = DAILY

    @property
    def days(self) -> int:
        """The number of their days."""
        return (self.calendar.last_day(self.last) - self.calendar.first_day(self.first)).days + 1

    def __str__(self) -> str:
        """Return the periods as text for messages."""
        return self.last if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class _Rule:
    """One limit, the columns above it, and the wording of the finding.

    Attributes:
        figure: (columns,) what is compared with the limit.
        words: the finding, with a placeholder for each of `shown`.
        is_of_feature: whether the limit applies to a single feature.
    """

    name: str
    limit: float
    figure: Vector
    is_over: NDArray[np.bool_]
    words: str
    shown: Sequence[Vector]
    is_of_feature: bool = True


def apply_limits(table: pl.DataFrame, limits: DriftLimits) -> tuple[pl.DataFrame, tuple[ExceededLimit, ...]]:
    """Return the measured table with the verdict on each row, and which limits are exceeded.

    This uses numpy: for the forty rows of a day, starting polars' threads costs ten times the computation. Null becomes
    NaN, which is above no limit.
    """
    names, found = table["feature"].to_list(), []
    reasons: list[list[str]] = [[] for _ in names]
    for rule in _rules(table, limits):
        for place in np.flatnonzero(rule.is_over).tolist():
            sentence = rule.words.format(*(f"{round(float(figure[place]), 3)}" for figure in rule.shown))
            reasons[place].append(sentence)
            found.append(
                ExceededLimit(
                    rule=rule.name, feature=names[place], value=float(rule.figure[place]), limit=rule.limit,
                    sentence=sentence, is_of_feature=rule.is_of_feature,
                )
            )  # fmt: skip
    order = {name: place for place, name in enumerate(names)}
    weighted = table["excess_psi"].to_numpy() * table["weight"].to_numpy()
    judged = table.hstack(
        [
            pl.Series("weighted_excess_psi", weighted, nan_to_null=True),
            pl.Series("is_over", [bool(sentences) for sentences in reasons]),
            pl.Series("reason", ["; ".join(sentences) for sentences in reasons]),
        ]
    )
    return judged, tuple(sorted(found, key=lambda it: order[it.feature]))


def _rules(table: pl.DataFrame, limits: DriftLimits) -> Iterator[_Rule]:
    excess, weight, missing, low, high, usual, new, usual_new = (
        table[name].to_numpy()
        for name in (
            "excess_psi", "weight", "null_share", "null_low", "null_high", "null_share_reference", "new_category_share",
            "usual_new_category_share",
        )
    )  # fmt: skip
    weighted = excess * weight
    carried = np.nan_to_num(weighted, nan=0.0)
    total = math.fsum(carried)
    totals = np.full(len(carried), total)
    beside_average = weight / np.nanmean(weight)
    yield _Rule(
        "excess PSI of the score", limits.score_excess_psi, excess,
        (table["kind"] == "score").to_numpy() & (excess > limits.score_excess_psi),
        f"excess PSI {{}} is over {limits.score_excess_psi:g}", [excess],
    )  # fmt: skip
    yield _Rule(
        "weighted excess PSI of all features", limits.weighted_excess_psi, totals,
        (total > limits.weighted_excess_psi) & (carried > 0) & (carried.cumsum() - carried < total / 2),
        f"accounts for {{}} of the weighted excess PSI {{}}, over {limits.weighted_excess_psi:g}", [weighted, totals],
        is_of_feature=False,
    )  # fmt: skip
    yield _Rule(
        "excess PSI of a feature beside its weight", limits.feature_excess_psi, excess * beside_average,
        excess * beside_average > limits.feature_excess_psi,
        f"excess PSI {{}} times {{}}, its weight relative to the average, is over {limits.feature_excess_psi:g}",
        [excess, beside_average],
    )  # fmt: skip
    change = np.maximum(low - missing, missing - high)
    yield _Rule(
        "change of the share of missing values", limits.null_share_change, change, change > limits.null_share_change,
        f"share of missing values {{}} against {{}}: the change is over {limits.null_share_change:g}", [missing, usual],
    )  # fmt: skip
    rise = new - usual_new
    yield _Rule(
        "rise of the share of new categories", limits.new_category_share, rise, rise > limits.new_category_share,
        f"share of new categories {{}} against at most {{}} usually: the rise is over {limits.new_category_share:g}",
        [new, usual_new],
    )  # fmt: skip


def summarise(
    table: pl.DataFrame,
    exceeded: tuple[ExceededLimit, ...],
    limits: DriftLimits,
    *,
    model: str,
    model_version: str,
    pooled: Pooled,
) -> DriftSummary:
    """Return the summary of a judged table."""
    columns = table.rows(named=True)
    features = [column for column in columns if column["kind"] != "score"]
    rows = columns[0]["rows"]
    weighted = score = None
    if limits.has_enough(rows):
        weighted = math.fsum(feature["weighted_excess_psi"] for feature in features)
        score = next((column["excess_psi"] for column in columns if column["kind"] == "score"), None)
        sentence = "; ".join(_sentences(features, exceeded, limits, pooled, weighted=weighted, score=score))
    else:
        sentence = (
            f"drift of {pooled} is not judged: {rows:,} rows are too few, at least {limits.min_rows:,} are needed"
            f"{_advice(rows, pooled, limits)}"
        )
    return DriftSummary(
        model=model,
        model_version=model_version,
        day=pooled.calendar.first_day(pooled.last),
        first_day=pooled.calendar.first_day(pooled.first),
        rows=rows,
        weighted_excess_psi=weighted,
        score_excess_psi=score,
        is_over=bool(exceeded),
        drifted_features=tuple(column["feature"] for column in columns if column["is_over"]),
        exceeded=exceeded,
        sentence=f"{sentence}.",
        hour=pooled.calendar.hour_of(pooled.last),
    )


def _advice(rows: int, pooled: Pooled, limits: DriftLimits) -> str:
    """Return how many days like these would be enough together, or that no number of days is; empty without rows."""
    if not rows:
        return ""
    days, most = pooled.days, most_pooled_days(pooled.calendar)
    wanted = math.ceil(limits.min_rows * days / rows)
    if wanted <= most:
        return f"; with drift.pool_days: {min(wanted, MOST_DAYS)}, this many days are judged together"
    return (
        f"; {most} days, the most that are judged together, have about {rows * most // days:,} at this rate, so drift "
        "is never judged unless drift.min_rows is lower"
    )


def _sentences(
    features: Sequence[Mapping[str, Any]],
    exceeded: Sequence[ExceededLimit],
    limits: DriftLimits,
    pooled: Pooled,
    *,
    weighted: float,
    score: float | None,
) -> Iterator[str]:
    """Yield the parts of the summary, the totals first."""
    yield f"weighted excess PSI {weighted:.3f} of {pooled} is {_side(weighted, limits.weighted_excess_psi)}"
    if score is not None:
        yield f"the score's excess PSI {score:.3f} is {_side(score, limits.score_excess_psi)}"
    names = {feature["feature"] for feature in features}
    own: dict[str, list[str]] = {}
    for it in exceeded:
        if it.is_of_feature and it.feature in names:
            own.setdefault(it.feature, []).append(it.sentence)
    listed = [f"{name}: {'; '.join(sentences)}" for name, sentences in own.items()]
    yield from listed[:_LISTED]
    if len(listed) > _LISTED:
        yield f"and {len(listed) - _LISTED} more features over a limit of their own"
    highest = [
        f"{feature['feature']} (excess PSI {feature['excess_psi']:.3f}, weight {feature['weight']:.0%})"
        for feature in features
        if feature["weighted_excess_psi"] > 0
    ]
    if highest:
        yield f"highest: {', '.join(highest[:_HIGHEST])}"


def _side(value: float, limit: float) -> str:
    return f"over {limit:g}" if value > limit else f"not over {limit:g}"
