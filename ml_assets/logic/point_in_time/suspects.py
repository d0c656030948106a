"""Find suspects: features that predict the target almost alone. Summarize what is known of leaks behind a model.

Not here: leaks that a rebuild proves (see `ml_assets.logic.point_in_time.leak_test`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts import Task
from ml_assets.contracts.leaks import KnownTime
from ml_assets.contracts.words import counted

BINS: Final = 50
# A column is a suspect if it alone explains this share of the target's variance...
MINIMUM_POWER: Final = 0.35
# ... and this multiple of what the median of the other columns explains: if all are strong, the problem is easy.
TIMES_THE_REST: Final = 3.0
# A column is nearly a copy of the target if it leaves less than this share of the variance unexplained...
UNEXPLAINED: Final = 0.01
# ... and this many times less than the strongest column that leaves more.
TIMES_THE_NEXT: Final = 10.0
# A rebuild clears a column if the probability of missing a leak at this share of prediction times is this low.
CLEARED_SHARE: Final = 0.1
CLEARED_CHANCE: Final = 0.05
SHARES: Final = (0.1, 0.05, 0.01)
"""Shares of prediction times, or of days, for which the chance to miss a leak is reported."""


@dataclass(frozen=True)
class LonePredictor:
    """A column that predicts the target alone, far better than the other columns do.

    Attributes:
        power: the share of the target's variance that it explains on rows that were not used to fit it.
        rest: the median of the other columns' shares.
        is_copy: whether it is nearly a copy of the target, which no other column is.
    """

    column: str
    power: float
    rest: float
    is_copy: bool = False

    @property
    def sentence(self) -> str:
        """The suspicion as a sentence."""
        return (
            f"column '{self.column}' alone explains {self.power:.1%} of the target's variance; the median of the "
            f"others is {self.rest:.1%}. Make sure that it is known at the prediction time and is not a copy of the "
            "label."
        )


def lone_predictors(
    rows: pl.DataFrame, features: Sequence[str], target: str, task: Task, *, event_time: str | None = None
) -> tuple[LonePredictor, ...]:
    """Return the features that alone predict the target far better than the others, as a copy of the label does.

    The target's mean in each group of a feature's values (numbers in up to 50 quantiles, missing values separately) is
    computed on the first half of the rows and compared with the second half.

    Args:
        rows: rows with features and target, in the order of time; those without a target are ignored.
        features: the columns to check.
        target: the column that is predicted.
        task: the task; each class of several is a target of its own.
        event_time: the column of the event time. A feature that follows from it, such as the hour of the day, is known
            in advance and not returned.
    """
    labelled = rows.filter(pl.col(target).is_not_null())
    outcomes = _outcomes(labelled[target], task)
    half = labelled.height // 2
    spread = float(sum(outcome[half:].to_numpy().var() for outcome in outcomes)) if half else 0.0
    if not spread:
        return ()
    powers = {name: _power(labelled[name], outcomes, half, spread) for name in features}
    next_best = max((it for it in powers.values() if 1 - it > UNEXPLAINED), default=0.0)
    found = []
    for name, explained in powers.items():
        others = [other for known, other in powers.items() if known != name]
        rest = median(others) if others else 0.0
        is_copy = 1 - explained <= min(UNEXPLAINED, (1 - next_best) / TIMES_THE_NEXT)
        is_lone = is_copy or (explained >= MINIMUM_POWER and explained >= TIMES_THE_REST * rest)
        if is_lone and not (event_time and _is_of_calendar(labelled[name], labelled[event_time])):
            found.append(LonePredictor(name, explained, rest, is_copy))
    return tuple(sorted(found, key=lambda suspect: -suspect.power))


def chance_missed(cuts: int, share: float) -> float:
    """Return the probability of missing a leak that shows at a share of the prediction times."""
    return float((1 - share) ** cuts)


def power(cuts: int, days: int) -> str:
    """Return a sentence about what a number of prediction times can miss.

    A leak may show at any time, or on certain days only. In the second case, prediction times of one day count as one.
    """

    def missed(count: int) -> str:
        return ", ".join(f"{share:.0%} with probability {chance_missed(count, share):.2g}" for share in SHARES)

    return (
        f"{counted(cuts, 'prediction time')} on {counted(days, 'day')} {'misses' if cuts == 1 else 'miss'} a leak that "
        f"shows at a share of times: {missed(cuts)}; on a share of days only: {missed(days)}"
    )


@dataclass(frozen=True)
class LeakFindings:
    """What is known of leaks in the features behind a model.

    Attributes:
        is_tested: whether the model declares a leak test.
        cuts: prediction times that the runs of the features have tested.
        cut_days: number of their days, counted run by run.
        rows: feature rows that were compared.
        days: days of features behind the model.
        untested: days that no leak test covered.
        proven: leaks that a rebuild proved, in sentences, from the newest test.
        suspects: features that predict the target almost alone, that no rebuild cleared, and no person acknowledged.
        known_times: the declared known times of the source tables.
    """

    is_tested: bool
    cuts: int
    cut_days: int
    rows: int
    days: int
    untested: int
    proven: tuple[str, ...] = ()
    suspects: tuple[LonePredictor, ...] = ()
    known_times: tuple[KnownTime, ...] = ()

    @property
    def sentence(self) -> str:
        """The result of the leak test, in a sentence."""
        if self.proven:
            return f"Features contain what was not known at their prediction time: {' '.join(self.proven)}"
        if not self.is_tested:
            return "The features are not tested for leaks: the declaration turns the test off (leak_test.samples: 0)."
        if self.untested:
            return f"Not tested for leaks: {self.untested} of {self.days} days of features. Materialize them again."
        return f"No leak was found in {self.rows:,} rows; {power(self.cuts, self.cut_days)}."


def suspects(
    lone: Sequence[LonePredictor], *, cuts: int, history: Sequence[str] | None, acknowledged: Sequence[str]
) -> tuple[LonePredictor, ...]:
    """Return the lone predictors that a person should review.

    A rebuild that found no difference clears a column that is computed from other rows than the prediction's own, such
    as a lag of the target. Its values depend on when those rows were known, which was tested. It clears no column of
    the prediction's own row, which is known by declaration, and none that is nearly a copy of the target.

    Args:
        lone: the result of `lone_predictors`.
        cuts: prediction times at which no difference was found.
        history: columns that are computed from other rows; None if that was not measured.
        acknowledged: columns that a person has reviewed.
    """
    has_power = chance_missed(cuts, CLEARED_SHARE) <= CLEARED_CHANCE
    cleared = {it.column for it in lone if has_power and it.column in (history or ()) and not it.is_copy}
    return tuple(it for it in lone if it.column not in {*cleared, *acknowledged})


def _is_of_calendar(feature: pl.Series, at: pl.Series) -> bool:
    """Return whether a feature is a function of the minute of the day, the weekday, both, or a part of the date."""
    minute = at.dt.hour().cast(pl.Int32) * 60 + at.dt.minute()
    parts = (
        minute,
        at.dt.weekday(),
        at.dt.day(),
        at.dt.week(),
        at.dt.month(),
        at.dt.weekday().cast(pl.Int32) * 1440 + minute,
    )
    for part in parts:
        values = (
            pl.DataFrame({"part": part, "value": feature}).group_by("part").agg(pl.len(), pl.col("value").n_unique())
        )
        if values["value"].max() == 1 and 2 * values.height <= feature.len():
            return True
    return False


def _outcomes(target: pl.Series, task: Task) -> list[pl.Series]:
    if task == "multiclass":
        return [(target == value).cast(pl.Float64) for value in target.unique().sort()]
    values = target.cast(pl.Float64)
    if task == "binary":
        return [values]
    # A few extreme values would account for most of the variance.
    return [values.clip(values.quantile(0.01), values.quantile(0.99))]


def _power(feature: pl.Series, outcomes: Sequence[pl.Series], half: int, spread: float) -> float:
    groups = _grouped(feature, half)
    frame = pl.DataFrame({"group": groups, **{str(n): outcome for n, outcome in enumerate(outcomes)}})
    learnt, held = frame[:half], frame[half:]
    means = learnt.group_by("group").agg(pl.exclude("group").mean().name.prefix("mean "))
    guessed = held.join(means, on="group", how="left", nulls_equal=True)
    lost = guessed.select(
        ((pl.col(str(n)) - pl.col(f"mean {n}").fill_null(learnt[str(n)].mean())) ** 2).mean().alias(str(n))
        for n in range(len(outcomes))
    )
    return max(0.0, 1.0 - float(sum(lost.row(0))) / spread)


def _grouped(feature: pl.Series, half: int) -> pl.Series:
    """Return the group of each value: the value itself, or for many numbers their quantile in the first half."""
    if not feature.dtype.is_numeric():
        return feature
    values = feature.cast(pl.Float64).fill_nan(None)
    if values.n_unique() <= BINS:
        return values
    seen = values[:half].drop_nulls()
    edges = pl.Series([seen.quantile(n / BINS, "nearest") for n in range(1, BINS)], dtype=pl.Float64).drop_nulls()
    if edges.is_empty():
        return values
    place = edges.unique().sort().search_sorted(values, side="left")
    return pl.select(pl.when(values.is_not_null()).then(place)).to_series()
