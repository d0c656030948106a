"""Columns that alone predict the target, with evidence beside their strength that they follow from it.

Strength alone proves nothing: the weight of a diamond explains most of its price. A column is only named if it is
nearly perfect, in all rows or in a part of them, if one of its values has a single outcome that the others do not
expect, or if it looks like an effect of the target.

An effect of the target, such as the target with noise, has nothing to do with the other columns once the target is
known. A separate cause has: of two orders with equal totals, the one with the higher price has the lower quantity
(explaining away; Pearl, "Probabilistic Reasoning in Intelligent Systems", 1988). If the cause explains a share `s` of
the target's variance and the others, independently, a share `x`, then they explain s x / ((1 - s) (1 - x)) of what the
target leaves open of the cause. If that is enough to be seen and is not there, the column follows from the target.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.strength import Outcomes, Vector, explained_together, figure, guess_by, guess_together

Mask = NDArray[np.bool_]

# A column is a copy if it leaves open this much: of the variance, or to a ROC AUC of 1 for classes...
COPY: Final = 0.01
# ... nearly perfect if it leaves open this much...
LEFT_OPEN: Final = 0.035
# ... and both only if that is this share of what all others together leave open.
OF_THE_OTHERS: Final = 1 / 3
# A column that is nearly perfect is cleared if the others explain this share of what the target leaves open of it.
CLEARLY_SEEN: Final = 0.05
# A column is tested for being an effect of the target if it explains this share of the target's variance...
MINIMUM_POWER: Final = 0.35
# ... and the others would explain this share of the rest of a separate cause; it is an effect if they explain less than
SEEN: Final = 0.1
UNSEEN: Final = 0.01
# ... and if with it all columns leave open this share of what the others do: redundant columns follow no such formula.
ADDS: Final = 0.75
# Of fewer rows, the share that they explain is not measured well enough.
FEWEST_ROWS: Final = 2_000
# Parts of the rows are looked at for columns of this power: a leak in half of the rows has more.
POWER_OF_A_PART: Final = 0.1
FEWEST_IN_PART: Final = 200
FEWEST_OF_EACH: Final = 20
STRETCHES: Final = 4
MOST_ROWS: Final = 10_000
# A value has a single outcome if this share of its rows has it, and at most this share of all rows...
SINGLE: Final = 0.99
USUAL: Final = 0.5
# ... and the others do not expect it if they expect this share of other outcomes.
UNEXPECTED: Final = 0.3
# With a smaller share of the rows of its outcome, it may be an honest rule or a fact, such as that minors are rejected.
OF_ITS_OUTCOME: Final = 0.4
FEWEST_OF_VALUE: Final = 100
MOST_VALUES: Final = 64
# Neighbouring rows are in one fold, so that a slow movement of everything is no skill.
MOST_NEIGHBOURS: Final = 50
FEWEST_UNITS: Final = 80


@dataclass(frozen=True)
class LonePredictor:
    """A column that alone predicts the target, with evidence that it follows from it.

    Attributes:
        power: the share of the target's variance that it explains on rows that were not used to fit it.
        rest: the share that all other columns explain together.
        is_copy: whether it is nearly perfect, in all rows or in a part of them.
        evidence: why it is named, as a sentence about it; empty in records of release 0.1.0.
    """

    column: str
    power: float
    rest: float
    is_copy: bool = False
    evidence: str = ""

    @property
    def sentence(self) -> str:
        """The suspicion as a sentence."""
        why = f" It {self.evidence}." if self.evidence else ""
        return (
            f"column '{self.column}' alone explains {self.power:.1%} of the target's variance, the others "
            f"{self.rest:.1%}.{why} Make sure that it is known at the prediction time and is not a copy of the label."
        )


def lone_predictors(
    rows: pl.DataFrame,
    features: Sequence[str],
    target: str,
    task: Task,
    *,
    event_time: str | None = None,
    entity: str | None = None,
    also: Sequence[str] = (),
) -> tuple[LonePredictor, ...]:
    """Return the features that alone predict the target and seem to follow from it, the strongest first.

    Args:
        rows: rows with features and target, in the order of time; those without a target are ignored. At most 10,000
            of them are used.
        features: the columns to check.
        target: the column that is predicted.
        task: the task; each class of several is a target of its own, and grades of a ranking are numbers.
        event_time: the column of the event time. A feature that follows from it, such as the hour of the day, is known
            in advance and not returned.
        entity: the column that says which rows are of the same thing; they are in one fold. Otherwise neighbours are.
        also: columns that are not checked, but are among the others.
    """
    labelled = rows.filter(pl.col(target).is_not_null())
    if labelled.height > MOST_ROWS:
        labelled = labelled[pl.int_range(MOST_ROWS, eager=True) * labelled.height // MOST_ROWS]
    if labelled[target].n_unique() < 2:
        return ()
    neighbours = pl.int_range(labelled.height, eager=True) // max(
        1, min(MOST_NEIGHBOURS, labelled.height // FEWEST_UNITS)
    )
    measured: Task = "regression" if task == "ranking" else task
    outcomes = Outcomes.of(labelled[target], measured, labelled[entity] if entity else neighbours)
    judged = _Judged(labelled, target, measured, outcomes)
    guesses = {name: guess_by(labelled[name], outcomes) for name in features}
    powers = {name: outcomes.explained(guess) for name, guess in guesses.items()}
    left, found = [*features], []
    for name in sorted(features, key=lambda it: -powers[it]):
        if powers[name] < POWER_OF_A_PART:
            break
        if event_time and _is_of_calendar(labelled[name], labelled[event_time]):
            continue
        others = [it for it in (*left, *also) if it != name and not labelled.schema[it].is_temporal()]
        lone = judged.lone(name, guesses[name], others)
        if lone is not None:
            left.remove(name)
            found.append(lone)
    return tuple(found)


@dataclass(frozen=True)
class _Judged:
    """The rows on which columns are judged."""

    rows: pl.DataFrame
    target: str
    task: Task
    outcomes: Outcomes

    def lone(self, name: str, guess: Vector, others: Sequence[str]) -> LonePredictor | None:
        """Return what speaks against a column, with the guess for each row that its value gives; None if nothing."""
        power = self.outcomes.explained(guess)
        near = [(words, part, left) for words, part in self._parts(name) if (left := part.left_open(name)) <= LEFT_OPEN]
        single = [*self._single_outcomes(name)]
        if not near and not single and power < MINIMUM_POWER:
            return None
        together = self.together(others)
        rest = 0.0 if together is None else self.outcomes.explained(together)
        seen = functools.cache(lambda: self._seen(guess, others))
        for words, part, left in near:
            by_others = part.left_open_by(together if part is self else part.together(others))
            if left <= OF_THE_OTHERS * by_others and (left <= COPY or seen() < CLEARLY_SEEN):
                reached = f"{'R²' if self.task == 'regression' else 'ROC AUC'} {1 - left:.3f}"
                evidence = f"predicts the target nearly perfectly{words}: {reached}"
                return LonePredictor(name, power, rest, is_copy=True, evidence=evidence)
        for words, has_it, n in single:
            expected = self._of_each(self.outcomes.values.mean(axis=0) if together is None else together[has_it])[:, n]
            if expected.mean() <= 1 - UNEXPECTED:
                label = self.rows[self.target].filter(pl.Series(has_it)).mode().sort()[0]
                evidence = (
                    f"goes with {label!r} in {counted(int(has_it.sum()), 'row')}{words}, and the others expect it in "
                    f"{expected.mean():.0%} of these"
                )
                return LonePredictor(name, power, rest, evidence=evidence)
        is_tested = power * rest >= SEEN * (1 - power) * (1 - rest) and self.rows.height >= FEWEST_ROWS
        if (
            power >= MINIMUM_POWER
            and is_tested
            and seen() < UNSEEN
            and self._left_by_all(name, others) <= ADDS * (1 - rest)
        ):
            evidence = (
                "looks like an effect of the target: once the target is known, the other columns explain "
                f"{max(0.0, seen()):.1%} of its rest"
            )
            return LonePredictor(name, power, rest, evidence=evidence)
        return None

    def _left_by_all(self, name: str, others: Sequence[str]) -> float:
        return 1 - explained_together(self.rows, [name, *others], self.outcomes)

    def left_open(self, name: str) -> float:
        """Return how far a column is from predicting the target perfectly: 1 - R², or of the worst class 1 - ROC AUC.

        A number is also measured by its order, which needs no fit.
        """
        column = self.rows[name]
        left = self.left_open_by(guess_by(column, self.outcomes))
        if not column.dtype.is_numeric() or column.has_nulls() or self.task == "multiclass":
            return left
        if self.task == "regression":
            rank = pl.DataFrame({"x": column, "y": self.rows[self.target]}).select(pl.corr("x", "y", method="spearman"))
            return min(left, 1 - figure(rank.fill_nan(0.0).item()) ** 2)
        area = _roc_auc(self.outcomes.values[:, 0], column.cast(pl.Float64).to_numpy())
        return min(left, area, 1 - area)

    def together(self, others: Sequence[str]) -> Vector | None:
        """Return the guess of several columns together; None if there are none."""
        return guess_together(self.rows, others, self.outcomes) if others else None

    def left_open_by(self, guess: Vector | None) -> float:
        """Return how far a guess is from predicting the target perfectly; 1 without a guess."""
        if guess is None:
            return 1.0
        if self.task == "regression":
            return 1 - self.outcomes.explained(guess)
        return max(1 - _roc_auc(values, guess[:, n]) for n, values in enumerate(self.outcomes.values.T))

    def _single_outcomes(self, name: str) -> Iterator[tuple[str, Mask, int]]:
        """Yield the values of a column with a single outcome: in words, their rows, and the number of the outcome."""
        if self.task == "regression":
            return
        values, column = self._of_each(self.outcomes.values), self.rows[name]
        parts = _parts_by_value(column)
        if not column.dtype.is_temporal() and column.n_unique() <= MOST_VALUES:
            parts |= {
                f" where it is {value!r}": (column == value).fill_null(value=False).to_numpy()
                for value in column.drop_nulls().unique()
            }
        for words, part in parts.items():
            if FEWEST_OF_VALUE <= part.sum() < len(part):
                is_single = (values[part].mean(axis=0) >= SINGLE) & (values.mean(axis=0) <= USUAL)
                is_much = values[part].sum(axis=0) >= OF_ITS_OUTCOME * values.sum(axis=0)
                for n in np.flatnonzero(is_single & is_much):
                    yield words, part, int(n)

    @staticmethod
    def _of_each(outcomes: Vector) -> Vector:
        """Return the outcomes with one column for each class, of two classes too."""
        two = np.atleast_2d(outcomes)
        return np.column_stack([1 - two, two]) if two.shape[1] == 1 else two

    def _parts(self, name: str) -> Iterator[tuple[str, "_Judged"]]:
        """Yield all rows and parts of them that can be judged, each with its words."""
        yield "", self
        place = np.arange(self.rows.height) * STRETCHES // self.rows.height
        parts = _parts_by_value(self.rows[name]) | {
            f" in quarter {n + 1} of the rows": place == n for n in range(STRETCHES)
        }
        for words, part in parts.items():
            values = self.outcomes.values[part]
            rarest = min(values.sum(axis=0).min(), (1 - values).sum(axis=0).min())
            if (
                not part.all()
                and len(values) >= FEWEST_IN_PART
                and (self.task == "regression" or rarest >= FEWEST_OF_EACH)
            ):
                yield words, _Judged(self.rows.filter(part), self.target, self.task, self.outcomes.where(part))

    def _seen(self, guess: Vector, others: Sequence[str]) -> float:
        """Return how much of what the target leaves open of a column's guess the others explain."""
        of_guess = Outcomes(guess, self.outcomes.fold)
        by_target = explained_together(self.rows, [self.target], of_guess)
        by_both = explained_together(self.rows, [self.target, *others], of_guess)
        return (by_both - by_target) / (1 - by_target) if by_target < 1 else 0.0


def _parts_by_value(column: pl.Series) -> dict[str, Mask]:
    """Return the rows where a column has a value, and those where it does not have its most frequent one."""
    usual = column.drop_nulls().mode().sort().head(1)
    return {
        " where it has a value": column.is_not_null().to_numpy(),
        f" where it is not {usual.item()!r}": column.ne_missing(usual).to_numpy(),
    }


def _roc_auc(outcome: Vector, guess: Vector) -> float:
    """Return the share of pairs of a positive and a negative that are in the right order; 0.5 without such pairs."""
    positives = outcome.sum()
    pairs = positives * (len(outcome) - positives)
    if not pairs:
        return 0.5
    rank = pl.Series(guess).rank("average").to_numpy()
    return float((rank[outcome == 1].sum() - positives * (positives + 1) / 2) / pairs)


def _is_of_calendar(feature: pl.Series, at: pl.Series) -> bool:
    """Return whether a feature is a function of the minute of the day, the weekday, both, or a part of the date."""
    at = at.cast(pl.Datetime("us"))
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
