"""What a table seems to be: task, key, times, grain, groups, split and metric, each with its evidence.

A given value is never questioned. An uncertain one is the choice that promises less: a group split rather than a random
one, a text rather than a number. Not here: leaks (see `ml_assets.logic.inspection.guards`).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Final, Literal, cast

import polars as pl

from ml_assets.contracts.artifacts import Task
from ml_assets.contracts.days import moments_of
from ml_assets.contracts.errors import DataError, near
from ml_assets.contracts.objective import HIGHEST_GRADE
from ml_assets.contracts.periods import Grain
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.strength import figure
from ml_assets.logic.inspection.threshold import Threshold

Confidence = Literal["given", "sure", "likely", "uncertain"]

_ID_NAME: Final = re.compile(r"(?i)(^|_)(id|key|uuid|guid|no|nr|number|code|index)($|_)|id$")
_OWNER_NAME: Final = re.compile(
    r"(?i)(^|_)(id|uuid|guid|patient|customer|client|user|person|subject|account|household|family|device|machine|"
    r"session|store|shop|site|hospital|school|company|vehicle|player|team)s?($|_)|id$"
)
_LATER_NAME: Final = re.compile(
    r"(?i)(end|close|updat|modif|deliver|return|resolv|settl|cancel|finish|complet|due|expir)"
)
_HISTORY_NAME: Final = re.compile(r"(?i)(since|birth|born|dob(_|$)|founded|joined|sign.?up|hired|seit|geburt)")
_KNOWN_NAME: Final = re.compile(
    r"(?i)(known|available|published|received|loaded|ingested|recorded|reported)_?(at|on|time|date)?$"
)
_CLASS_NAME: Final = re.compile(r"(?i)(class|type|label|category|kind|species|cover|grade|segment|status)")
_POSITIVE: Final = frozenset({
    "1", "true", "t", "yes", "y", "positive", "pos", "default", "bad", "churn", "churned", "fraud", "spam", "sick",
    "ill", "failed", "failure", "lost", "dead", "died", "malignant", "returned", "cancelled", "late",
    "ja", "oui", "si", "sí", "sì", "sim", "tak", "ano", "да", "是", "はい",
})  # fmt: skip
_NEGATIVE: Final = frozenset({
    "0", "-1", "false", "f", "no", "n", "negative", "neg", "none", "good", "ham", "normal", "healthy", "well", "ok",
    "passed", "alive", "benign", "nein", "nee", "nej", "non", "não", "nie", "ne", "нет", "否", "いいえ",
})  # fmt: skip
MOST_CLASSES: Final = 100
FEW_CLASSES: Final = 10
RARE: Final = 0.05
LONG_TAIL: Final = 10
_HOUR: Final = 3_600_000_000
_SEVERAL_YEARS: Final = 5 * 365
_FEW_MISSING: Final = 0.1
_MONTH: Final = "31d"
_NEARLY_ALL: Final = 0.9
_FEWEST_REPEATS: Final = 5
_MOST_OF_KEY: Final = 3
_MUCH_LONGER: Final = 2
_DAYS: Final[Mapping[Grain, float]] = {"day": 1, "week": 7, "month": 30.4, "year": 365}
ROWS_PER_PERIOD: Final = 50
ROWS_PER_MONTH: Final = 15
MOST_PERIODS: Final = 1_000


@dataclass(frozen=True)
class Choice:
    """One inferred or given property of a table.

    Attributes:
        why: the evidence, as a sentence without its subject.
        others: what it could be as well.
        columns: the columns of a key.
    """

    value: str
    why: str
    confidence: Confidence
    others: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Given:
    """What the user stated; None where nothing was."""

    task: Task | None = None
    positive: str | None = None
    key: tuple[str, ...] = ()
    time: str | None = None
    known: str | None = None
    label_known: str | None = None
    horizon: str | None = None
    grain: Grain | None = None
    group: str | None = None
    weight: str | None = None

    def with_answer(self, what: str, answer: str) -> "Given":
        """Return it with one more choice of the user; a label is known at a column, or some time after the event."""
        if what == "key":
            return replace(self, key=tuple(answer.split(",")))
        if what == "label_known" and answer[0].isdigit():
            return replace(self, horizon=answer)
        named = {"positive": replace(self, positive=answer), "time": replace(self, time=answer),
                 "known": replace(self, known=answer), "label_known": replace(self, label_known=answer),
                 "group": replace(self, group=answer)}  # fmt: skip
        return named[what]

    @property
    def columns(self) -> dict[str, str]:
        """The named columns, by the flag that names each."""
        named = {"--time": self.time, "--known": self.known, "--label-known": self.label_known, "--group": self.group,
                 "--weight": self.weight}  # fmt: skip
        return {f"--key {it}": it for it in self.key} | {flag: it for flag, it in named.items() if it is not None}


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
        is_positive = _texts(target) == self.positive.value if threshold is None else threshold.holds(target)
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
    labels, positive = _labels(rows[target].drop_nulls(), given)
    task = _task(labels, given.task)
    if given.positive is not None and task.value != "binary":
        raise DataError(
            f"--positive is '{given.positive}', but the task is {task.value}: {task.why}. Only two classes have a "
            "positive one; expected a comparison with a number, such as '>= 4', or a target of two values. Otherwise "
            "leave --positive out."
        )
    time = time_of(rows, target, given.time)
    if time is not None:
        _check_time(rows[time.value], now)
    key = row_key_of(rows, target, given.key, None if time is None else time.value)
    group = _group(rows, target, given.group, key, time)
    if task.value == "ranking":
        _check_query(rows, given.group)
    grain = _grain(rows, given.grain, time)
    return Roles(
        task=task,
        positive=(positive or _positive(labels, given.positive)) if task.value == "binary" else None,
        key=key,
        time=time,
        known=_known(rows, given.known, time, timezone),
        label_known=_label_known(rows, given, time),
        grain=grain,
        group=group,
        split=_split(time, group),
        metric=_metric(labels, task),
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
    found = rows[target].n_unique() - bool(rows[target].null_count())
    if found < 2:
        value = f"the same in all {rows.height:,} rows" if found else "empty in every row"
        raise DataError(f"target '{target}' is {value}; expected at least two values to learn the difference.")


def _shown(column: pl.Series) -> str:
    """Return the first values of a column, as text."""
    return ", ".join(repr(str(it)) for it in column.drop_nulls().unique(maintain_order=True).head(2)) or "none"


def _task(labels: pl.Series, given: Task | None) -> Choice:
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


def _check_query(rows: pl.DataFrame, query: str | None) -> None:
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


def _texts(labels: pl.Series) -> pl.Series:
    """Return the values as text; whole numbers without a decimal point."""
    is_whole = labels.dtype.is_float() and bool((labels.drop_nulls() == labels.drop_nulls().round()).all())
    return (labels.cast(pl.Int64) if is_whole else labels).cast(pl.String)


def _labels(target: pl.Series, given: Given) -> tuple[pl.Series, Choice | None]:
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


def _positive(labels: pl.Series, given: str | None) -> Choice:
    texts = _texts(labels)
    counts = {value.lower(): number for value, number in texts.value_counts().iter_rows()}
    names = {value.lower(): value for value in texts.unique()}
    if given is not None:
        if given.lower() not in names:
            raise DataError(
                f"--positive is '{given}'; expected one of the target's values {', '.join(names.values())}."
            )
        return Choice(names[given.lower()], "--positive says so", "given")
    known = [it for it in names if it in _POSITIVE] or [it for it in names if ({*names} - {it}) <= _NEGATIVE]
    rarer = min(counts, key=lambda it: (counts[it], it))
    other = tuple(names[it] for it in names if it != (known[0] if len(known) == 1 else rarer))
    if len(known) == 1:
        return Choice(names[known[0]], f"'{names[known[0]]}' usually means yes", "sure", other)
    share = counts[rarer] / labels.len()
    return Choice(names[rarer], f"it is the rarer value ({share:.1%} of the rows)", "uncertain", other)


def time_of(rows: pl.DataFrame, target: str, given: str | None) -> Choice | None:
    """Return the column of the prediction time: a complete time that varies, the earliest of several events."""
    if given is not None:
        return Choice(given, "--time says so", "given")
    all_times = [it for it in rows if it.dtype.is_temporal() and it.name != target and it.n_unique() > 2]
    times = [it for it in all_times if not it.null_count()]
    if not times:
        nearly = next((it for it in all_times if it.null_count() < _FEW_MISSING * rows.height), None)
        return None if nearly is None else Choice(nearly.name, "it is the only time", "likely")
    earlier = sorted(times, key=_earliness)
    first = next((it for it in earlier if not _is_history(it, times)), earlier[0])
    others = tuple(it.name for it in earlier if it.name != first.name)
    why = f"it has a time in every row, from {first.min()!s} to {first.max()!s}"
    if first.name != earlier[0].name:
        return Choice(first.name, f"{why}; '{earlier[0].name}' seems to be of the thing's history", "uncertain", others)
    if others:
        return Choice(first.name, f"{why}, and it is the earliest of {len(times)}", "likely", others)
    return Choice(first.name, why, "sure")


def _check_time(times: pl.Series, now: datetime) -> None:
    if times.null_count():
        raise DataError(
            f"time '{times.name}' is missing in {times.null_count():,} of {times.len():,} rows; expected one in every "
            "row, because a row without a time belongs to no day. Correct or remove these rows."
        )
    later = times.filter(times.cast(pl.Datetime("us")) > now + timedelta(days=1))
    if later.len():
        raise DataError(
            f"time '{times.name}' lies in the future in {later.len():,} rows, the latest is {later.max()!s}; expected "
            "times at which a prediction was made. Name another column with --time, or remove these rows."
        )


def _is_history(times: pl.Series, among: Sequence[pl.Series]) -> bool:
    """Return whether times are of the past of a thing, such as a date of birth, and not of its events.

    They are named so; or they reach much further back than another time in whose order the rows are.
    """
    if _HISTORY_NAME.search(times.name):
        return True
    if times.is_sorted():
        return False
    ordered = [it for it in among if it.is_sorted() and not any(_earliness(it)[:1])]
    return any(_span(times) > _MUCH_LONGER * _span(it) for it in ordered)


def _span(times: pl.Series) -> float:
    numbers = times.cast(pl.Datetime("us")).cast(pl.Int64)
    return figure(numbers.max()) - figure(numbers.min())


def _earliness(times: pl.Series) -> tuple[bool, object]:
    return bool(_LATER_NAME.search(times.name) or _KNOWN_NAME.search(times.name)), times.cast(pl.Datetime("us")).mean()


def row_key_of(rows: pl.DataFrame, target: str, given: Sequence[str], time: str | None) -> Choice | None:
    """Return the columns that identify a row; None if no one to three columns do."""
    if given:
        if lacking := [name for name in given if rows[name].null_count()]:
            raise DataError(
                f"--key {', '.join(given)} has no value of {lacking[0]} in "
                f"{counted(rows[lacking[0]].null_count(), 'row')}; expected one in each row. Fill it in, remove these "
                "rows, or name other columns."
            )
        twice = rows.height - rows.select(given).n_unique()
        if twice:
            raise DataError(
                f"--key {', '.join(given)} is the same in {twice:,} rows as in another; expected each once."
            )
        return _key_of(given, "--key or the contract of the table says so", "given")
    usable = [it for it in rows if it.name != target and not it.dtype.is_float() and it.null_count() == 0]
    unique = [it.name for it in usable if it.n_unique() == rows.height]
    named = [name for name in unique if _ID_NAME.search(_words(name))]
    if named:
        return _key_of(named[:1], f"each of its {rows.height:,} values occurs once", "sure", tuple(named[1:]))
    if unique:
        first = next((it for it in unique if it != time), unique[0])
        return _key_of([first], f"each of its {rows.height:,} values occurs once; it is not named as a key", "likely")
    if found := _together(rows, [it.name for it in usable], time):
        return _key_of(found, "no two rows have the same values in all of them", "likely")
    for column in usable:
        if _ID_NAME.search(_words(column.name)) and column.n_unique() > _NEARLY_ALL * rows.height:
            shared = column.filter(column.is_duplicated())
            raise DataError(
                f"'{column.name}' seems to identify a row, but {shared.len():,} rows share its value with another, "
                f"such as {shared.unique().sort().head(3).to_list()}. Remove duplicate rows, or name the columns that "
                "identify a row with --key A,B."
            )
    return None


def _key_of(columns: Sequence[str], why: str, confidence: Confidence, others: tuple[str, ...] = ()) -> Choice:
    return Choice(", ".join(columns), why, confidence, others, tuple(columns))


def _together(rows: pl.DataFrame, usable: Sequence[str], time: str | None) -> list[str]:
    """Return up to three columns that together identify a row; columns named as identifiers are preferred.

    Without such a name, a column counts only if it would often repeat by chance; beside exact times, any one differs.
    """
    found = [] if time is None else [time]
    while len(found) < _MOST_OF_KEY:
        rest = [it for it in usable if it not in found]
        if not rest:
            break
        distinct = {it: rows.select(*found, it).n_unique() for it in rest}
        named = {it: bool(_ID_NAME.search(_words(it)) or _OWNER_NAME.search(_words(it))) for it in rest}
        best = max(rest, key=lambda it: (distinct[it] == rows.height, named[it], distinct[it]))
        if distinct[best] == rows.height and not (named[best] or _repeats_by_chance(rows, found, best)):
            return []
        found.append(best)
        if distinct[best] == rows.height:
            return [*found[1:], found[0]] if time is not None else found
    return []


def _repeats_by_chance(rows: pl.DataFrame, found: Sequence[str], column: str) -> bool:
    """Return whether a column that is independent of the others would repeat within their values several times."""
    if not found:
        return True
    pairs = rows.group_by(found).len().select((pl.col("len") * (pl.col("len") - 1) / 2).sum()).item()
    alike = rows[column].value_counts()["count"] / rows.height
    return bool(pairs * (alike**2).sum() >= _FEWEST_REPEATS)


def _words(name: str) -> str:
    """Return the words of a column's name, separated by underscores."""
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name)).strip("_")


def _known(rows: pl.DataFrame, given: str | None, time: Choice | None, timezone: str) -> Choice | None:
    """Return the time at which a row could be known; None without times."""
    if given is not None:
        return Choice(given, "--known says so", "given")
    if time is None:
        return None
    at = moments_of(rows[time.value], timezone)
    for it in rows:
        if it.name != time.value and it.dtype.is_temporal() and _KNOWN_NAME.search(it.name) and not it.null_count():
            late = moments_of(it, timezone) > at
            if not late.any():
                return Choice(it.name, "it is named so and never later than the prediction", "likely", (time.value,))
    return Choice(time.value, "no column says otherwise: a row is known at its own time", "uncertain")


def are_months(times: pl.Series) -> bool:
    """Return whether times are dates which all are the first of a month."""
    return times.dtype == pl.Date and bool((times.dt.day() == 1).all())


def _label_known(rows: pl.DataFrame, given: Given, time: Choice | None) -> Choice | None:
    """Return the column, or the time after the event, at which the label is known; None without times."""
    if time is None:
        return None
    if given.label_known is not None:
        return Choice(given.label_known, "--label-known says so", "given")
    if given.horizon is not None:
        return Choice(given.horizon, "--horizon says so", "given")
    if are_months(rows[time.value]):
        return Choice(_MONTH, "every date is the first of a month, which has to end", "likely")
    return Choice("1d", "no column says when; a day is waited", "uncertain")


def _group(
    rows: pl.DataFrame, target: str, given: str | None, key: Choice | None, time: Choice | None
) -> Choice | None:
    """Return the column of the person or thing that several rows belong to."""
    if given is not None:
        if missing := rows[given].null_count():
            raise DataError(
                f"--group is '{given}', which is missing in {missing:,} of {rows.height:,} rows; expected a value in "
                "every row. Fill it in, remove these rows, or name another column."
            )
        return Choice(given, "--group says so", "given")
    own = key.columns if key and len(key.columns) == 1 else ()
    return owner_of(rows, {target, *own, *([time.value] if time else ())})


def is_named_as_key(name: str) -> bool:
    """Return whether a name is that of an identifier or a code."""
    return _ID_NAME.search(_words(name)) is not None


def owner_of(rows: pl.DataFrame, taken: Collection[str]) -> Choice | None:
    """Return the first column that is named as a person or thing that several rows belong to, of those not taken."""
    for it in rows:
        if it.name in taken or it.null_count() or not _OWNER_NAME.search(_words(it.name)):
            continue
        if it.dtype.is_float() or it.dtype.is_temporal():
            continue
        distinct = it.n_unique()
        if 20 <= distinct <= rows.height / 2:
            why = f"{distinct:,} values in {rows.height:,} rows, and its name is that of a person or thing"
            return Choice(it.name, why, "uncertain")
    return None


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
    return figure(values.sum()) ** 2 / figure((values**2).sum())


def _grain(rows: pl.DataFrame, given: Grain | None, time: Choice | None) -> Choice:
    """Return the finest period that has enough rows, and of which there are not too many."""
    if given is not None:
        return Choice(given, "--partition or the project's other declarations say so", "given")
    if time is None:
        return Choice("day", "the table has no time: it is one snapshot", "sure")
    at = rows[time.value].cast(pl.Datetime("us"))
    days = max(figure(at.cast(pl.Int64).max()) - figure(at.cast(pl.Int64).min()), _HOUR) / (24 * _HOUR)
    grains: tuple[Grain, ...] = ("day", "week", "month")
    for grain in grains:
        periods = max(days / _DAYS[grain], 1)
        fewest = ROWS_PER_PERIOD if grain != "month" else ROWS_PER_MONTH
        if rows.height / periods >= fewest and periods <= MOST_PERIODS:
            return Choice(grain, f"{rows.height / periods:,.0f} rows in each of {periods:,.0f}", "likely")
    return Choice(
        "year" if days > _SEVERAL_YEARS else "month", f"{rows.height:,} rows over {days:,.0f} days are few", "uncertain"
    )


def _split(time: Choice | None, group: Choice | None) -> Choice:
    if time is not None:
        return Choice("time", "rows of later periods are kept for the test, as in use", "sure")
    if group is not None:
        return Choice(
            "group", f"rows of one '{group.value}' are all trained on or all tested", group.confidence, ("random",)
        )
    return Choice("random", "there is neither a time nor a group", "likely")


def _metric(labels: pl.Series, task: Choice) -> Choice:
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
