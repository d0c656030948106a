"""Checks before anything expensive runs whether a table can be learned at all, and what its size makes impossible."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import polars as pl

from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.roles import Roles, effective_rows
from ml_assets.logic.inspection.strength import figure

FEWEST_ROWS: Final = 200
FEWEST_DAYS: Final = 20
FEWEST_POSITIVES: Final = 10
FEWEST_OF_CLASS: Final = 10
FEWEST_QUERIES: Final = 50
SEASONS: Final = 60
LIKELY: Final = 0.8
_SHOWN: Final = 3
_FIRST_ATTEMPT: Final = 0.025
_AUC: Final = 0.75
_CORRELATION: Final = 0.9
_BOTH_QUANTILES: Final = 1.645 + 0.842
"""Quantiles of the normal distribution for a one-sided level of 5 % and a power of 80 %."""


@dataclass(frozen=True)
class Preflight:
    """What a table's size allows.

    Attributes:
        lines: the figures, for a person.
        problems: why no model can be promoted; empty if one can.
    """

    lines: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Folds:
    """How a small table is tested in folds.

    Attributes:
        reason: why, as a noun with its number.
    """

    folds: int
    repeats: int
    reason: str

    @property
    def inflation(self) -> float:
        """The factor of the standard error on all rows (see `corrected_spread` in `logic.evaluation`).

        The variance of a figure on one fold is that on all rows times the number of folds.
        """
        return math.sqrt(self.folds * (1 / (self.folds * self.repeats) + 1 / (self.folds - 1)))


@dataclass(frozen=True)
class PooledRows:
    """The most days whose drift is judged together, and the rows that they need."""

    most_days: int
    min_rows: int


def preflight(
    rows: pl.DataFrame, test: pl.DataFrame, target: str, roles: Roles, *, days: int, margin: float,
    labelled_days: int | None = None, folds: Folds | None = None, drift: PooledRows | None = None,
) -> Preflight:  # fmt: skip
    """Return what a table's size allows.

    Args:
        rows: all rows.
        test: the rows of the test window.
        target: the column that is predicted.
        roles: the choices.
        days: the number of days from the first to the last row.
        margin: by how much a later model may be worse than the champion.
        labelled_days: those that are left where the parts wait for their labels; all if None.
        folds: how the rows are tested in folds; None for one test part.
        drift: the rows whose drift is judged together; None if all of them are.
    """
    lines = _lines(rows, test, target, roles, days=days, margin=margin, folds=folds)
    return Preflight(
        (*lines, *([] if drift is None else _unjudged_drift(drift, rows.height / days))),
        tuple(_day_problems(roles, days, days if labelled_days is None else labelled_days))
        or tuple(_problems(rows, test, target, roles)),
    )


def _lines(
    rows: pl.DataFrame, test: pl.DataFrame, target: str, roles: Roles, *, days: int, margin: float, folds: Folds | None
) -> Iterator[str]:
    span = f" over {days:,} days" if roles.time is not None else ""
    which = f"of which about {test.height:,} are test rows"
    if folds is not None:
        which = f"each tested in one of {folds.folds} folds, which are dealt {folds.repeats} times ({folds.reason})"
    yield f"\nbefore training: {rows.height:,} rows{span}, {which}"
    labelled = test.filter(pl.col(target).is_not_null())
    difference = smallest_difference(labelled[target], roles)
    if difference is not None and roles.weight is not None:
        # A standard error grows by the root of rows over effective rows.
        difference *= math.sqrt(labelled.height / effective_rows(labelled[roles.weight.value]))
    if difference is not None and folds is not None:
        difference *= folds.inflation
    if difference is not None:
        yield f"  two models that differ by less than about {difference:.2g} {roles.metric.value} cannot be told apart"
        promoted = _chance_of_an_equal(difference, margin)
        if promoted < LIKELY:
            yield (
                f"  a later model that is as good as the champion is promoted in about {promoted:.0%} of cases, "
                f"because it must be shown not to be worse by more than {margin:g} (gate.margin)"
            )
    if roles.task.value == "multiclass":
        yield from _rare_classes(rows[target].drop_nulls())
    if roles.time is not None and days < SEASONS:
        yield "  fewer than two months: nothing can be said about seasons, and drift by month is not possible"


def _unjudged_drift(drift: PooledRows, rows_per_day: float) -> Iterator[str]:
    rows = int(rows_per_day * drift.most_days)
    if rows < drift.min_rows:
        yield (
            f"  drift is never judged: {drift.most_days} days, the most that are judged together, have about {rows:,} "
            f"rows; at least {drift.min_rows:,} are needed (drift.min_rows)"
        )


def _rare_classes(labels: pl.Series) -> Iterator[str]:
    counts = labels.value_counts(name="rows").filter(pl.col("rows") < FEWEST_OF_CLASS).sort("rows", labels.name)
    if counts.height:
        shown = ", ".join(f"'{value}' ({counted(number, 'row')})" for value, number in counts.head(_SHOWN).iter_rows())
        more = f" and {counts.height - _SHOWN} more" if counts.height > _SHOWN else ""
        yield f"  too few rows to learn or to test a class: {shown}{more}"


def _chance_of_an_equal(difference: float, margin: float) -> float:
    """Return the chance that the first attempt of an equal model passes, from the smallest difference that shows."""
    normal = NormalDist()
    return normal.cdf(margin / (difference / _BOTH_QUANTILES) - normal.inv_cdf(1 - _FIRST_ATTEMPT))


def too_few_rows(target: pl.Series) -> str | None:
    """Return the sentence about a table that has too few rows with a target; None if it has enough."""
    known = target.len() - target.null_count()
    if known >= FEWEST_ROWS:
        return None
    return (
        f"the table has {known:,} rows with a target; expected at least {FEWEST_ROWS}, so that a test says anything. "
        "Add rows."
    )


def _day_problems(roles: Roles, days: int, labelled_days: int) -> Iterator[str]:
    if roles.time is None:
        return
    if days < FEWEST_DAYS:
        yield (
            f"the table has {days} days; expected at least {FEWEST_DAYS}, because a model is trained on earlier days "
            "and tested on later ones. Add days."
        )
    elif labelled_days < FEWEST_DAYS:
        yield (
            f"the rows cover {days:,} days, of which {max(0, labelled_days):,} are left, because the train, the "
            f"validation and the test rows each wait for their last labels; expected at least {FEWEST_DAYS}. Add days, "
            "or shorten the time after which a label is known."
        )


def _problems(rows: pl.DataFrame, test: pl.DataFrame, target: str, roles: Roles) -> Iterator[str]:
    labelled = rows[target].drop_nulls()
    if roles.task.value == "binary":
        counts = test[target].drop_nulls().value_counts()["count"].to_list()
        rarer = min(counts) if len(counts) > 1 else 0
        which = "the test rows have" if roles.time is None else "the test window, the last rows, has"
        if rarer < FEWEST_POSITIVES:
            yield (
                f"{which} {rarer} of the rarer class; expected at least "
                f"{FEWEST_POSITIVES}, so that two models can be compared. Add rows."
            )
    if roles.query is not None:
        graded = rows.filter(pl.col(target).is_not_null()).group_by(roles.query).agg(pl.col(target).n_unique() > 1)
        queries = int(graded[target].sum())
        if queries < FEWEST_QUERIES:
            yield (
                f"the rows of {counted(queries, 'value')} of '{roles.query}' have different grades; expected at least "
                f"{FEWEST_QUERIES}, so that there is something to rank in each part. Add rows, or name another --group."
            )
    if roles.task.value == "multiclass" and labelled.n_unique() > labelled.len() / FEWEST_OF_CLASS:
        yield (
            f"the target has {labelled.n_unique():,} classes in {labelled.len():,} rows; expected at least "
            f"{FEWEST_OF_CLASS} rows of each. Group rare classes."
        )


def smallest_difference(target: pl.Series, roles: Roles) -> float | None:
    """Return the smallest difference of two models that a test window shows; None if the metric has no formula here.

    One-sided test at 5 % with a power of 80 %, for models whose errors correlate by 0.9. Standard error of the ROC AUC
    at 0.75 by Hanley & McNeil (1982); of a root mean squared error by the normal distribution, sd / sqrt(2 n).
    """
    factor = _BOTH_QUANTILES * math.sqrt(2 * (1 - _CORRELATION))
    if roles.metric.value == "roc_auc":
        counts = target.value_counts()["count"].to_list()
        return factor * auc_error(min(counts), max(counts)) if len(counts) > 1 else None
    if roles.metric.value in ("rmse", "mae") and target.len() > 1:
        return factor * figure(target.cast(pl.Float64).std()) / math.sqrt(2 * target.len())
    return None


def auc_error(positives: int, negatives: int, auc: float = _AUC) -> float:
    """Return the standard error of a ROC AUC (Hanley & McNeil 1982)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return math.sqrt(variance / (positives * negatives))
