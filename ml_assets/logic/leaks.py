"""Leaks: features that hold what was not known at their prediction time, how they show, and how surely.

Building tables again: see `resources.rebuild`. What was known when: see `ml_assets.logic.knowledge`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ml_assets.contracts.errors import ContractError

if TYPE_CHECKING:
    from datetime import date, datetime

    from ml_assets.contracts.artifacts import KnownTime, Task
    from ml_assets.logic.knowledge import Event

BINS: Final = 50
# A column is suspect if alone it explains this share of the target's variance...
MINIMUM_POWER: Final = 0.35
# ... and this many times what the median of the other columns does: where all are strong, the question is easy.
TIMES_THE_REST: Final = 3.0
# It all but repeats the target if it leaves less than this share of the variance unexplained...
UNEXPLAINED: Final = 0.01
# ... and this many times less than the strongest column that leaves more.
TIMES_THE_NEXT: Final = 10.0
# A rebuild clears a column if it would have missed a leak at this share of the prediction times this rarely at most.
CLEARED_SHARE: Final = 0.1
CLEARED_CHANCE: Final = 0.05

DISTANCES: Final = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6), timedelta(days=1))
SHARES: Final = (0.1, 0.05, 0.01)
_ROWS: Final = "__rows"
_OTHER: Final = "__other"


@dataclass(frozen=True)
class Difference:
    """How two builds of a table differ in a column, and the first row that shows it.

    Attributes:
        column: the column; None where a row stands in one build only.
        rows: how many rows differ.
        key: the first such row.
        one: its value in the first build; for a row, whether it is there.
        other: the same in the second.
    """

    column: str | None
    rows: int
    key: Mapping[str, object]
    one: object
    other: object


def differences(
    one: pl.DataFrame, other: pl.DataFrame, *, key: Sequence[str], columns: Sequence[str]
) -> tuple[Difference, ...]:
    """Compare two builds of a table exactly; missing equals missing, and NaN equals NaN.

    Args:
        one: the first build; which row is the first is decided by its order.
        other: the second build.
        key: what identifies a row in both.
        columns: what is compared.

    Returns:
        At most one difference for each column, in their order; before them at most one for rows that only the first
        build has and one for those that only the second has.

    Raises:
        ContractError: a column is missing in one, or of another type, or a key repeats.
    """
    _comparable(one, other, key=key, columns=columns)
    paired = one.with_row_index(_ROWS).join(
        other.select(*key, pl.lit(value=True).alias(_OTHER), *(pl.col(name).alias(_OTHER + name) for name in columns)),
        on=list(key), how="left", nulls_equal=True, maintain_order="left",
    )  # fmt: skip
    both = paired.filter(pl.col(_OTHER))
    found = []
    for here, there, frame in (
        (True, False, paired.filter(pl.col(_OTHER).is_null())),
        (False, True, other.join(one, on=list(key), how="anti", nulls_equal=True, maintain_order="left")),
    ):
        if frame.height:
            found.append(Difference(None, frame.height, frame.select(key).row(0, named=True), here, there))
    differs = {name: pl.col(name).ne_missing(pl.col(_OTHER + name)) for name in columns}
    counts = both.select(expression.sum().alias(name) for name, expression in differs.items()).to_dicts()
    for name, count in counts[0].items() if counts else ():
        if count:
            first = both.filter(differs[name]).row(0, named=True)
            row = {part: first[part] for part in key}
            found.append(Difference(name, int(count), row, first[name], first[_OTHER + name]))
    return tuple(found)


def _comparable(one: pl.DataFrame, other: pl.DataFrame, *, key: Sequence[str], columns: Sequence[str]) -> None:
    wrong = [
        f"column '{name}' is {one.schema.get(name, 'missing')} in one build and {other.schema.get(name, 'missing')} "
        "in the other"
        for name in dict.fromkeys([*key, *columns])
        if name not in one.schema or one.schema[name] != other.schema.get(name)
    ]
    if not wrong:
        wrong = [
            f"the key ({', '.join(key)}) repeats in a build"
            for frame in (one, other)
            if frame.select(pl.struct(key).is_duplicated().any()).item()
        ]
    if wrong:
        raise ContractError(f"two builds cannot be compared: {'; '.join(wrong)}. Materialize the table again.")


def chosen_times(times: pl.Series, later: pl.Series, count: int, random: np.random.Generator) -> list[datetime]:
    """Return prediction times to test, rather those shortly after which much became known.

    "Shortly" is 10 minutes for the first, then an hour, six hours and a day, in turn: a leak of minutes shows only
    where something became known within minutes. One in ten is chosen regardless.

    Args:
        times: the distinct prediction times, in order.
        later: when something became known, in order, as often as something did.
        count: how many to choose, at most.
        random: chooses them.
    """
    moments, known = times.to_numpy(), later.to_numpy()
    before = np.searchsorted(known, moments, side="right")
    left = np.ones(len(moments))
    chosen = []
    for number in range(min(count, len(moments))):
        span = DISTANCES[number % len(DISTANCES)]
        soon = np.searchsorted(known, moments + np.timedelta64(span), side="right") - before
        weights = left * (soon + max(1.0, soon.mean()) / 10)
        place = int(random.choice(len(moments), p=weights / weights.sum()))
        left[place] = 0
        chosen.append(times[place])
    return chosen


def chance_missed(cuts: int, share: float) -> float:
    """Return how likely a leak stays unseen that shows at a share of the prediction times."""
    return float((1 - share) ** cuts)


def power(cuts: int) -> str:
    """Return in a sentence what so many prediction times can miss."""
    shares = ", ".join(f"{share:.0%} with probability {chance_missed(cuts, share):.2g}" for share in SHARES)
    return f"{cuts} prediction times miss a leak that shows at a share of them: {shares}"


@dataclass(frozen=True)
class Leak:
    """A column that holds what was not known, one row that shows it, and what gave it away.

    Attributes:
        column: the column; None where the row itself is the leak.
        day: the row's day.
        at: the row's prediction time.
        key: the row.
        built: its value in the features; for a row, whether it is there.
        known: its value built from what was known at `at` alone; for a row likewise.
        rows: how many rows differ in all samples.
        samples: in how many samples they do.
        cause: the latest thing without which the features' value does not come about.
        unexplained: why there is no cause.
    """

    column: str | None
    day: date
    at: datetime
    key: Mapping[str, object]
    built: object
    known: object
    rows: int
    samples: int
    cause: Event | None = None
    unexplained: str = ""

    @property
    def sentence(self) -> str:
        """The leak as a person reads it."""
        row = ", ".join(f"{name}={value}" for name, value in self.key.items())
        if self.column is not None:
            what = f"column '{self.column}': row {row} holds {self.built}, but by {self.at} it was {self.known}"
        elif self.built:
            what = f"row {row} was asked at {self.at}, but nothing was known of it then"
        else:
            what = f"row {row} could be asked at {self.at}, but what became known later removed it"
        why = f"the cause is {self.cause.sentence}" if self.cause else self.unexplained
        return f"{what} (rows that differ: {self.rows}, samples: {self.samples}); {why}."


@dataclass(frozen=True)
class LonePredictor:
    """A column that predicts the target alone, far better than the others.

    Attributes:
        power: the share of the target's variance that it explains on rows it has not seen.
        rest: the median of the other columns' shares.
        is_copy: whether it all but repeats the target, as no other column does.
    """

    column: str
    power: float
    rest: float
    is_copy: bool = False

    @property
    def sentence(self) -> str:
        """The suspicion as a person reads it."""
        return (
            f"column '{self.column}' alone explains {self.power:.1%} of the target's variance; the median of the "
            f"others is {self.rest:.1%}. Make sure that it is known at the prediction time and no copy of the label."
        )


def lone_predictors(
    rows: pl.DataFrame, features: Sequence[str], target: str, task: Task, *, event_time: str | None = None
) -> tuple[LonePredictor, ...]:
    """Return the features that predict the target alone, far better than the rest; a copy of the label does.

    The target's mean in each group of a feature's values (numbers in up to 50 quantiles, missing ones by themselves) is
    learnt on the first half of the rows and held against the second.

    Args:
        rows: rows with features and target, in the order of time; those without a target are left out.
        features: the columns to look at.
        target: the column that is predicted.
        task: what kind of target it is; of several classes each is a target of its own.
        event_time: the column that says when it happens. A feature that this decides, such as the hour of the day, is
            known to anybody and not returned.
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
    for name, power in powers.items():
        others = [other for known, other in powers.items() if known != name]
        rest = median(others) if others else 0.0
        is_copy = 1 - power <= min(UNEXPLAINED, (1 - next_best) / TIMES_THE_NEXT)
        is_lone = is_copy or (power >= MINIMUM_POWER and power >= TIMES_THE_REST * rest)
        if is_lone and not (event_time and _is_of_calendar(labelled[name], labelled[event_time])):
            found.append(LonePredictor(name, power, rest, is_copy))
    return tuple(sorted(found, key=lambda suspect: -suspect.power))


@dataclass(frozen=True)
class LeakFindings:
    """What is known of leaks in the features behind a model.

    Attributes:
        is_tested: whether the model declares a leak test.
        cuts: prediction times that the runs which made the features have tested.
        rows: feature rows that were compared there.
        days: days of features behind the model.
        untested: those of them that no leak test covered.
        proven: leaks that a rebuild showed, in sentences; they are those of the newest test.
        suspects: features that predict the target almost alone, that no rebuild cleared, and no person acknowledged.
        known_times: what the source tables declare.
    """

    is_tested: bool
    cuts: int
    rows: int
    days: int
    untested: int
    proven: tuple[str, ...] = ()
    suspects: tuple[LonePredictor, ...] = ()
    known_times: tuple[KnownTime, ...] = ()

    @property
    def sentence(self) -> str:
        """The leak test's verdict in a sentence."""
        if self.proven:
            return f"Features hold what was not known at their prediction time: {' '.join(self.proven)}"
        if not self.is_tested:
            return "The features are not tested for leaks: the declaration turns the test off (leak_test.samples: 0)."
        if self.untested:
            return f"Not tested for leaks: {self.untested} of {self.days} days of features. Materialize them again."
        return f"No leak was found in {self.rows:,} rows; {power(self.cuts)}."


def suspects(
    lone: Sequence[LonePredictor], *, cuts: int, history: Sequence[str] | None, acknowledged: Sequence[str]
) -> tuple[LonePredictor, ...]:
    """Return which lone predictors a person should look at.

    A rebuild that found no difference clears a column which is made of other rows than the prediction's own, such as a
    lag of the target: what such a column holds depends on when those rows were known, and that was tested. It clears no
    column of the prediction's own row, which is known by declaration, and none that all but repeats the target.

    Args:
        lone: what `lone_predictors` found.
        cuts: prediction times at which no difference was found.
        history: columns made of other rows; None where that was not measured.
        acknowledged: columns that a person has looked at.
    """
    has_power = chance_missed(cuts, CLEARED_SHARE) <= CLEARED_CHANCE
    cleared = {it.column for it in lone if has_power and it.column in (history or ()) and not it.is_copy}
    return tuple(it for it in lone if it.column not in {*cleared, *acknowledged})


def _is_of_calendar(feature: pl.Series, at: pl.Series) -> bool:
    """Tell whether a feature is the same whenever the time of the day, the weekday or the date in the year is."""
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
    # A few extreme values would be most of the variance.
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
    """Return the group of each value: itself, or for numbers of many values their quantile in the first half."""
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


@dataclass(frozen=True)
class Change:
    """A column of rows that were published before and have another value now.

    Attributes:
        column: the column; None where the row is gone.
        row: the first such row's key.
        rows: how many there are.
    """

    column: str | None
    row: Mapping[str, object]
    before: object
    now: object
    rows: int

    @property
    def sentence(self) -> str:
        """The change as a person reads it."""
        key = ", ".join(f"{name}={value}" for name, value in self.row.items())
        more = f" ({self.rows} rows changed)" if self.rows > 1 else ""
        if self.column is None:
            return f"row {key} was published before and is gone now{more}."
        return (
            f"column '{self.column}' of row {key} was {self.before} when it was published and is {self.now} now{more}."
        )


def changed_after_known(now: pl.DataFrame, before: pl.DataFrame, key: Sequence[str]) -> tuple[Change, ...]:
    """Return which columns have other values now than when the rows were published; new rows are no change.

    What was known at a row's prediction time does not change, so neither may its features while their code stays.

    Args:
        now: the rows of some days about to be published.
        before: the rows of the same days as they stand; columns that only one of both has are left out.
        key: what identifies a row.
    """
    columns = [name for name in before.columns if now.schema.get(name) == before.schema[name] and name not in key]
    return tuple(
        Change(found.column, found.key, found.one, found.other, found.rows)
        for found in differences(before, now, key=key, columns=columns)
        if found.column is not None or found.one
    )
