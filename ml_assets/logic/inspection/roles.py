"""What a table seems to be: task, key, times, grain, groups, split and metric, each with its evidence.

A given value is never questioned. An uncertain one is the choice that promises less: a group split rather than a random
one, a text rather than a number. Not here: leaks (see `ml_assets.logic.inspection.guards`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, cast

import polars as pl

from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.errors import DataError, near
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.choices import Choice, Given
from ml_assets.logic.inspection.keys import group_of, row_key_of
from ml_assets.logic.inspection.strength import figure
from ml_assets.logic.inspection.target import check_query, labels_of, metric_of, positive_of, task_of, texts_of
from ml_assets.logic.inspection.threshold import Threshold
from ml_assets.logic.inspection.times import check_times, inferred_grain, known_of, label_known_of, time_of

_PARTS_OF_A_DATE: Final = frozenset({"year", "month", "jahr", "monat"})


@dataclass(frozen=True)
class Roles:
    """What a table seems to be. A choice is absent where there is nothing of its kind, such as a time."""

    task: Choice
    positive: Choice | None
    key: Choice | None
    time: Choice | None
    known: Choice | None
    label_known: Choice | None
    grain: Choice
    group: Choice | None
    split: Choice
    metric: Choice
    weight: Choice | None = None

    def counted(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that count: those with a weight of 0 are left out of the training and of every figure."""
        return rows if self.weight is None else rows.filter(pl.col(self.weight.value) > 0)

    def outcomes(self, target: pl.Series) -> pl.Series:
        """Return a target's values, grades as numbers; for two classes, whether each is the positive one."""
        if self.positive is None:
            return target if self.query is None else target.cast(pl.Int64)
        threshold = Threshold.of(self.positive.value, target)
        is_positive = texts_of(target) == self.positive.value if threshold is None else threshold.holds(target)
        return is_positive.alias(target.name)

    @property
    def kind(self) -> Task:
        """The task whose measures of strength fit the target: grades of a ranking are measured as numbers."""
        return "regression" if self.query is not None else cast("Task", self.task.value)

    @property
    def query(self) -> str | None:
        """The column within whose values rows are ranked; None if the task is no ranking."""
        return self.group.value if self.task.value == "ranking" and self.group is not None else None

    @property
    def entity(self) -> str | None:
        """The column that says which rows are of the same thing: the group, or the key's part beside the time."""
        if self.group is not None:
            return self.group.value
        return self.key.columns[0] if self.key and len(self.key.columns) > 1 else None

    @property
    def choices(self) -> dict[str, Choice]:
        """The choices that there are, by what they decide."""
        return {field.name: it for field in fields(self) if (it := getattr(self, field.name)) is not None}


def infer_roles(rows: pl.DataFrame, target: str, given: Given, *, now: datetime, timezone: str = "UTC") -> Roles:
    """Return what a table seems to be.

    Args:
        rows: the table, in its types.
        target: the column to predict.
        given: what the user stated.
        now: the current time, in UTC without a zone; no row may be later.
        timezone: the time zone in which a date begins.

    Raises:
        DataError: the target or a given column does not exist, the target has one value or none, or a row cannot be
            assigned to a day.
    """
    _check(rows, target, given)
    weight = None if given.weight is None else _weight(rows, target, given.weight, given)
    rows = rows if given.weight is None else rows.drop(given.weight)
    labels, positive = labels_of(rows[target].drop_nulls(), given)
    task = task_of(labels, given.task)
    if given.positive is not None and task.value != "binary":
        raise DataError(
            f"--positive is '{given.positive}', but the task is {task.value}: {task.why}. Only two classes have a "
            "positive one; expected a comparison with a number, such as '>= 4', or a target of two values. Otherwise "
            "leave --positive out."
        )
    time = time_of(rows, target, given.time)
    if time is not None:
        check_times(rows[time.value], now)
    key = row_key_of(rows, target, given.key, None if time is None else time.value)
    group = group_of(rows, target, given.group, key, time)
    if task.value == "ranking":
        check_query(rows, given.group)
    grain = inferred_grain(rows, given.grain, time)
    return Roles(
        task=task,
        positive=(positive or positive_of(labels, given.positive)) if task.value == "binary" else None,
        key=key,
        time=time,
        known=known_of(rows, given.known, time, timezone),
        label_known=label_known_of(rows, given, time),
        grain=grain,
        group=group,
        split=_split(time, group, rows.columns),
        metric=metric_of(labels, task),
        weight=weight,
    )


def _check(rows: pl.DataFrame, target: str, given: Given) -> None:
    for flag, name in {"--target": target, **given.columns}.items():
        if name not in rows.columns:
            raise DataError(
                f"{flag.partition(' ')[0]} is '{name}'; expected a column of the table{near(name, rows.columns)}: "
                f"{', '.join(rows.columns)}."
            )
    for flag, name in given.columns.items():
        if name == target:
            raise DataError(f"{flag.partition(' ')[0]} is '{name}', and so is --target; expected another column.")
        if flag in ("--time", "--known", "--label-known") and not rows[name].dtype.is_temporal():
            raise DataError(
                f"{flag} is '{name}', which has values such as {_shown(rows[name])}; expected a column in which every "
                "value is a date or a time."
            )
    if rows[target].dtype.is_temporal():
        raise DataError(
            f"target '{target}' is a date or a time; expected a number, a text or a Boolean. To predict how long "
            "something takes, write the duration as a number."
        )
    if rows[target].dtype.is_float() and not (is_number := rows[target].drop_nulls().is_finite()).all():
        raise DataError(
            f"target '{target}' is NaN or infinite in {counted(int((~is_number).sum()), 'row')}; expected numbers, or "
            "a missing value where the outcome is not known. Correct or remove these rows."
        )
    found = rows[target].n_unique() - bool(rows[target].null_count())
    if found < 2:
        value = f"the same in all {rows.height:,} rows" if found else "empty in every row"
        raise DataError(f"target '{target}' is {value}; expected at least two values to learn the difference.")


def _shown(column: pl.Series) -> str:
    """Return the first values of a column, as text."""
    return ", ".join(repr(str(it)) for it in column.drop_nulls().unique(maintain_order=True).head(2)) or "none"


def _weight(rows: pl.DataFrame, target: str, name: str, given: Given) -> Choice:
    """Return the column with the weight of each row, which is only used if the user names it."""
    if same := [flag.partition(" ")[0] for flag, it in given.columns.items() if it == name and flag != "--weight"]:
        raise DataError(f"--weight is '{name}', and so is {same[0]}; expected another column.")
    if not rows[name].dtype.is_numeric():
        raise DataError(
            f"--weight is '{name}', which has values such as {_shown(rows[name])}; expected numbers of 0 or more."
        )
    values = rows.filter(pl.col(target).is_not_null())[name].cast(pl.Float64)
    wrong = values.filter(~(values.is_finite() & (values >= 0)).fill_null(value=False))
    if wrong.len():
        raise DataError(
            f"--weight is '{name}', which is missing, negative or infinite in {counted(wrong.len(), 'row')} with a "
            f"target, such as {wrong.unique().sort().head(3).to_list()}; expected numbers of 0 or more. Correct or "
            "remove these rows; a row with weight 0 is left out."
        )
    above = values.filter(values > 0)
    if not above.len():
        raise DataError(f"--weight is '{name}', which is 0 in every row; expected a number above 0 in some.")
    zeros = f", 0 in {counted(values.len() - above.len(), 'row')} (left out)" if above.len() < values.len() else ""
    why = f"from {figure(above.min()):g} to {figure(above.max()):g}{zeros}; as exact as {effective_rows(above):,.0f}"
    return Choice(name, f"--weight says so; {why} rows of equal weight", "given")


def effective_rows(weights: pl.Series) -> float:
    """Return the number of equally weighted rows whose mean would be as exact (Kish 1965, Survey Sampling)."""
    values = weights.cast(pl.Float64)
    values = values / figure(values.max())  # squares of large weights would be infinite
    return figure(values.sum()) ** 2 / figure((values**2).sum())


def _split(time: Choice | None, group: Choice | None, columns: Sequence[str]) -> Choice:
    if time is not None:
        return Choice("time", "rows of later periods are kept for the test, as in use", "sure")
    if group is not None:
        return Choice(
            "group", f"rows of one '{group.value}' are all trained on or all tested", group.confidence, ("random",)
        )
    if len(parts := [it for it in columns if it.lower() in _PARTS_OF_A_DATE]) > 1:
        why = f"there is no time; if {', '.join(parts)} are parts of one, write them as a single column"
        return Choice("random", why, "uncertain")
    return Choice("random", "there is neither a time nor a group", "likely")
