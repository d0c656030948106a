"""Deal rows or groups into folds, for a repeated cross-validation of a small table; and validation windows of a search.

Not here: what is measured on the folds (see `ml_assets.logic.evaluation.cross_validation`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import HashSplit, Split, TrainingSet
from ml_assets.contracts.days import DAY
from ml_assets.logic.tables.split import places

_PLACE, _UNIT, _CLASS = "__place", "__unit", "__class"


@dataclass(frozen=True)
class HeldOut:
    """One fold: the rows that are tested, and the other rows, split into train and validation.

    Attributes:
        index: (rows,) the places of the tested rows in the training set.
    """

    index: NDArray[np.int64]
    others: TrainingSet


def held_out(training: TrainingSet) -> Iterator[HeldOut]:
    """Yield the folds of all repeats, those of the first repeat first.

    The other rows of each fold are dealt into train and validation with an order of their own, so that a choice on the
    validation rows differs as much between the folds as it would between tables.
    """
    rule, target = _rule(training), _class_of(training)
    draw = rule.repeats
    for repeat in range(1, rule.repeats + 1):
        fold = deal(training.rows, rule, draw=repeat, target=target)
        for number in range(rule.folds):
            draw += 1
            is_tested = (fold == number).to_numpy()
            rows = training.rows.filter(~is_tested)
            own = rule.model_copy(update={"draw": draw})
            summary = training.summary.model_copy(update={"split": own})
            others = replace(training, rows=rows, summary=summary)
            dealt = deal(rows, rule, draw=draw, target=target)
            chosen = validation_fold(dealt, None if target is None else rows[target])
            yield HeldOut(np.flatnonzero(is_tested), replace(others, rows=_parts(rows, dealt == chosen)))


def validation_folds(training: TrainingSet) -> Iterator[TrainingSet]:
    """Yield the training set with each fold as its validation part in turn; itself if it has no folds.

    Without a tested fold, there may be fewer groups than folds. A fold without rows is left out.
    """
    if training.summary.split is None or not training.summary.split.folds:
        yield training
        return
    rule = _rule(training)
    fold = deal(training.rows, rule, draw=rule.draw, target=_class_of(training))
    for number in fold.unique().sort():
        yield replace(training, rows=_parts(training.rows, fold == number))


def validation_windows(training: TrainingSet, number: int) -> Iterator[TrainingSet]:
    """Yield the training set with a number of consecutive validation windows in turn, the earliest first.

    The last one is the declared window. The others are as long and lie before it. As for the declared one, train rows
    are those of the days before, without rows whose label was known only after the window began, and without queries
    that have rows on both sides. A window with fewer train rows than validation rows is left out.
    """
    for earlier in range(number - 1, 0, -1):
        rows = _earlier_window(training, earlier)
        validated = rows.filter(pl.col("split") == "validation").height
        if 0 < validated <= rows.height - validated:
            yield replace(training, rows=rows)
    yield training


def _earlier_window(training: TrainingSet, earlier: int) -> pl.DataFrame:
    """Return the train rows up to the end of a window so many windows before the declared one, with their parts."""
    summary, is_validation = training.summary, pl.col("split") == "validation"
    query = None if summary.objective is None else summary.objective.query
    declared = next(it for it in summary.windows if it.split == "validation")
    length = declared.last_day - declared.first_day + timedelta(days=1)
    first = declared.first_day - length * earlier
    learned = training.part("train").filter(pl.col(DAY) < first + length)
    parted = _parts(learned, learned[DAY] >= first)
    opens = pl.col(summary.prediction_time).filter(is_validation).min()
    rows = parted.filter(is_validation | (pl.col(summary.known_time) < opens))
    return rows if query is None else rows.filter(pl.col("split").n_unique().over(query) == 1)


def validation_fold(fold: pl.Series, classes: pl.Series | None) -> int:
    """Return the fold that is the validation part: the first that has, and leaves, the most classes.

    If a class has hardly more rows than there are folds, a fold may lack it, and no metric could be measured there.
    """
    if classes is None:
        return 0
    inside: dict[int, pl.Series] = {number: fold == number for number in fold.unique().sort()}
    return max(inside, key=lambda it: min(classes.filter(part).n_unique() for part in (inside[it], ~inside[it])))


def deal(rows: pl.DataFrame, rule: HashSplit, *, draw: int, target: str | None) -> pl.Series:
    """Return the fold of each row, from 0.

    Rows, or whole groups, are sorted by their class (of a group: by its share of the rarest class of the rows), the
    rarest first, and then by a hash. Each run of as many as there are folds is dealt at random, one to each fold. So
    the folds have equal numbers of rows or groups, and nearly equal shares of the classes (stratified folds: Kohavi
    1995). If as many rows or groups as there are folds have the rarest class, each fold has it.

    Args:
        rows: Rows with the columns of the rule. Rows without a group are one group.
        rule: The split with its folds.
        draw: Number of the random order.
        target: Column of the class; None for a regression.
    """
    frame = places(rows, rule.columns, draw=draw).fill_null(0.0).alias(_PLACE).to_frame()
    stratum = pl.lit(0.0)
    if target is not None:
        frame = frame.with_columns(rows[target].cast(pl.String).alias(_CLASS))
        ranked = frame.group_by(_CLASS).len().sort("len", _CLASS)[_CLASS]
        order = pl.col(_CLASS).replace_strict(ranked, np.arange(len(ranked), dtype=np.float64)).first()
        stratum = order if rule.by == "random" else -(pl.col(_CLASS) == ranked[0]).mean()
    units = (
        frame.group_by(_PLACE)
        .agg(stratum.alias(_UNIT))
        .sort(_UNIT, _PLACE)
        .with_columns(block=pl.int_range(pl.len()) // rule.folds)
        .with_columns(fold=pl.col(_PLACE).rank("ordinal").over("block").cast(pl.Int64) - 1)
    )
    return frame.join(units, on=_PLACE, how="left", maintain_order="left")["fold"]


def too_few_units(rows: pl.DataFrame, rule: HashSplit, *, target: str | None) -> str:
    """Return why the rows cannot be dealt into folds, as a clause; empty if they can."""
    if not rule.folds or rows.is_empty():
        return ""
    if rule.by == "group" and (count := rows[rule.columns[0]].n_unique()) < rule.folds:
        return f"column '{rule.columns[0]}' has {count} groups; expected at least {rule.folds}, one for each fold"
    if target is None:
        return ""
    units = rows.select(pl.col(target).cast(pl.String).alias(_CLASS), *(rule.columns if rule.by == "group" else ()))
    counts = units.unique().group_by(_CLASS).len() if rule.by == "group" else units.group_by(_CLASS).len()
    rarest, count = counts.sort("len", _CLASS).row(0)
    unit = "rows" if rule.by == "random" else "groups"
    if count >= rule.folds:
        return ""
    return f"class '{rarest}' of '{target}' has {count} {unit}; expected at least {rule.folds}, one for each fold"


def _rule(training: TrainingSet) -> HashSplit:
    rule = training.summary.split
    if rule is None or not rule.folds:
        raise ValueError(f"the training set of '{training.summary.model}' has no folds")
    return rule


def _class_of(training: TrainingSet) -> str | None:
    return None if training.summary.task == "regression" else training.summary.target


def _parts(rows: pl.DataFrame, is_validation: pl.Series) -> pl.DataFrame:
    names: tuple[Split, Split] = ("validation", "train")
    part = pl.select(pl.when(is_validation).then(pl.lit(names[0])).otherwise(pl.lit(names[1])).alias("split"))
    return rows.with_columns(part["split"])
