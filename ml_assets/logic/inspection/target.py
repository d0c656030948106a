"""What a target says: the task, its positive class and the deciding metric."""

import re
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import HIGHEST_GRADE
from ml_assets.logic.inspection.choices import Choice, Given
from ml_assets.logic.inspection.strength import figure
from ml_assets.logic.inspection.threshold import Threshold

_CLASS_NAME: Final = re.compile(r"(?i)(class|type|label|category|kind|species|cover|grade|segment|status)")
_POSITIVE: Final = frozenset({
    "1", "true", "t", "yes", "y", "positive", "pos", "default", "bad", "churn", "churned", "fraud", "spam", "sick",
    "ill", "failed", "failure", "lost", "dead", "died", "malignant", "returned", "cancelled", "late",
    "won", "ja", "oui", "si", "sí", "sì", "sim", "tak", "ano", "да", "是", "はい",
})  # fmt: skip
_NEGATIVE: Final = frozenset({
    "0", "-1", "false", "f", "no", "n", "negative", "neg", "none", "good", "ham", "normal", "healthy", "well", "ok",
    "passed", "alive", "benign", "nein", "nee", "nej", "non", "não", "nie", "ne", "нет", "否", "いいえ",
})  # fmt: skip
MOST_CLASSES: Final = 100
FEW_CLASSES: Final = 10
RARE: Final = 0.05
LONG_TAIL: Final = 10


def labels_of(target: pl.Series, given: Given) -> tuple[pl.Series, Choice | None]:
    """Return the values of the target; where a comparison with a number is given, whether it holds, and the choice."""
    threshold = Threshold.of(given.positive, target)
    if threshold is None or given.task not in (None, "binary"):
        return target, None
    holds = threshold.holds(target)
    if holds.n_unique() < 2:
        raise DataError(
            f"--positive is '{given.positive}', which is so in {'every' if holds.any() else 'no'} row: the target is "
            f"from {target.min()!s} to {target.max()!s}; expected a number between them."
        )
    return holds, Choice(str(threshold), f"--positive says so; {figure(holds.mean()):.1%} of the rows", "given")


def task_of(labels: pl.Series, given: Task | None) -> Choice:
    """Return the task that fits the values of the target.

    Raises:
        DataError: the given task does not fit, or the target is text with too many values.
    """
    distinct, dtype = labels.n_unique(), labels.dtype
    if given is None and dtype == pl.String and distinct > MOST_CLASSES:
        raise DataError(
            f"target '{labels.name}' is text with {distinct:,} values; expected a number, or at most {MOST_CLASSES} "
            "classes. Name another target, or group its values first."
        )
    if given is not None:
        _check_task(labels, given)
        return Choice(given, "--task says so", "given")
    if distinct == 2:
        return Choice("binary", f"the target has two values: {', '.join(map(str, labels.unique().sort()))}", "sure")
    if dtype == pl.String:
        return Choice("multiclass", f"the target is text with {distinct} values", "sure")
    if distinct <= FEW_CLASSES and not dtype.is_float():
        why = f"the target has {distinct} whole numbers, {labels.min()!s} to {labels.max()!s}"
        if _CLASS_NAME.search(labels.name):
            return Choice("multiclass", f"{why}, and its name suggests classes", "likely", ("regression",))
        return Choice(
            "regression", f"{why}, and nothing says that their order has no meaning", "uncertain", ("multiclass",)
        )
    return Choice("regression", f"the target has {distinct:,} different numbers", "sure")


def _check_task(labels: pl.Series, task: Task) -> None:
    if task == "ranking":
        is_grade = labels.dtype == pl.Boolean or labels.dtype.is_integer()
        if not is_grade or not labels.cast(pl.Int64).is_between(0, HIGHEST_GRADE).all():
            raise DataError(
                f"--task is 'ranking', but target '{labels.name}' has values such as "
                f"{labels.unique().sort(descending=True).head(2).to_list()}; expected grades, which are whole numbers "
                f"from 0 to {HIGHEST_GRADE}, higher for a row that belongs further up. Name another target."
            )
    is_number = labels.dtype.is_numeric()
    if (task == "regression" and not is_number) or (task == "multiclass" and labels.dtype in (pl.Boolean, pl.Float64)):
        expected = "numbers" if task == "regression" else "text or whole numbers"
        raise DataError(
            f"--task is '{task}', but target '{labels.name}' has values such as {labels.head(2).to_list()}; expected "
            f"{expected}. Name another task, or another target."
        )


def check_query(rows: pl.DataFrame, query: str | None) -> None:
    """Raise an error if no rows can be ranked together.

    Raises:
        DataError: no query is stated, or each row is a query of its own.
    """
    if query is None:
        raise DataError(
            "--task is 'ranking', but no column says which rows are ranked together; expected --group COLUMN, such as "
            "the search or the race of a row."
        )
    if rows[query].n_unique() == rows.height:
        raise DataError(
            f"--group is '{query}', which is different in every row; expected several rows of each value, which are "
            "ranked together."
        )


def texts_of(labels: pl.Series) -> pl.Series:
    """Return the values as text; whole numbers without a decimal point."""
    is_whole = labels.dtype.is_float() and bool((labels.drop_nulls() == labels.drop_nulls().round()).all())
    return (labels.cast(pl.Int64) if is_whole else labels).cast(pl.String)


def positive_of(labels: pl.Series, given: str | None) -> Choice:
    """Return the positive one of two classes: a word that means yes, otherwise the rarer one.

    Raises:
        DataError: the given value is not one of the two.
    """
    texts = texts_of(labels)
    counts = {value.lower(): number for value, number in texts.value_counts().iter_rows()}
    names = {value.lower(): value for value in texts.unique()}
    if given is not None:
        if given.lower() not in names:
            raise DataError(
                f"--positive is '{given}'; expected one of the target's values {', '.join(names.values())}."
            )
        return Choice(names[given.lower()], "--positive says so", "given")
    others = {it: {*names} - {it} for it in names}
    # Of the codes 1 and 2, either may be the positive one.
    known = [it for it in names if it in _POSITIVE and (it != "1" or others[it] <= _NEGATIVE)] or [
        it for it in names if others[it] <= _NEGATIVE
    ]
    rarer = min(counts, key=lambda it: (counts[it], it))
    other = tuple(names[it] for it in names if it != (known[0] if len(known) == 1 else rarer))
    if len(known) == 1:
        return Choice(names[known[0]], f"'{names[known[0]]}' usually means yes", "sure", other)
    share = counts[rarer] / labels.len()
    return Choice(names[rarer], f"it is the rarer value ({share:.1%} of the rows)", "uncertain", other)


def metric_of(labels: pl.Series, task: Choice) -> Choice:
    """Return the metric that decides between models."""
    if task.value == "multiclass":
        return Choice("multi_log_loss", "the default of several classes", "sure", ("accuracy", "macro_f1"))
    if task.value == "ranking":
        return Choice("ndcg", "the default of a ranking", "sure", ("mean_average_precision", "mean_reciprocal_rank"))
    if task.value == "binary":
        rarer = figure(labels.value_counts()["count"].min()) / labels.len()
        if rarer < RARE:
            return Choice("average_precision", f"the rarer class has {rarer:.2%} of the rows", "likely", ("roc_auc",))
        return Choice("roc_auc", f"the rarer class has {rarer:.1%} of the rows", "sure", ("average_precision",))
    numbers = labels.cast(pl.Float64)
    low, middle, high, highest = (figure(numbers.quantile(it)) for it in (0.25, 0.5, 0.75, 0.99))
    tail = (highest - middle) / (high - low) if high > low else 0.0
    if tail > LONG_TAIL:
        return Choice("mae", f"its largest values are {tail:.0f} quartile ranges above the median", "likely", ("rmse",))
    return Choice("rmse", "its values have no long tail", "sure", ("mae",))
