"""Assemble a training set: features joined to the labels known as of a day, split by time, purged, frozen.

Not here: splits that are not by time (see `ml_assets.logic.tables.split`), and encoding rows (see
`ml_assets.logic.training.encoding`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts.training import HashSplit, Split, Task, TrainingSet, TrainingSetSummary, Window
from ml_assets.contracts.days import DAY, end_of
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.frames import GRADES, ModelColumns, is_grade
from ml_assets.contracts.table import redacted
from ml_assets.contracts.words import counted
from ml_assets.logic.tables.folds import deal, too_few_units, validation_fold
from ml_assets.logic.tables.keys import newest_known, repeated_keys
from ml_assets.logic.tables.labels import EVENT_DAY, weight_problems
from ml_assets.logic.tables.split import Shares, parts, places
from ml_assets.logic.training.encoding import is_exact, type_problem

SPLIT: Final = "split"
REASON: Final = "reason"
NOT_KNOWN: Final = "no label known yet"
PURGED: Final = "label known after the next window began"
OUTSIDE: Final = "outside the windows"
WEIGHTLESS: Final = "weight 0"
STRADDLES: Final = "its query has rows in several parts"
INCOMPLETE: Final = "the label of another row of its query is not known"
_EVENT_DAY: Final = "__event_day"

_IS_LABELLED: Final = "__is_labelled"
_WHY_NONE: Final = "__why_none"
_EXCLUDED: Final = "__excluded"
_PLACE: Final = "__place"
_FIRST_OF_QUERY: Final = "__first_of_query"
_ORDER_IN_QUERY: Final = "__order_in_query"
_LARGEST_QUERY: Final = 10_000
"""LightGBM does not train on a query with more rows."""
_SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")


@dataclass(frozen=True)
class TrainingWindows:
    """The first days of the windows. Test ends on the as-of day; train begins at its first day, or is open."""

    train: date | None
    validation: date
    test: date
    last: date

    def days(self, split: Split) -> tuple[date | None, date]:
        """Return the first and the last day of a window, both included. The first day of train may be None."""
        if split == "train":
            return self.train, self.validation - timedelta(days=1)
        if split == "validation":
            return self.validation, self.test - timedelta(days=1)
        return self.test, self.last


def windows_as_of(as_of: date, *, train_days: int | None, validation_days: int, test_days: int) -> TrainingWindows:
    """Compute the windows back from the as-of day: test is last, validation before it, train before that.

    Raises:
        DataError: A window is shorter than one day.
    """
    lengths = {"train_days": train_days, "validation_days": validation_days, "test_days": test_days}
    short = {name: days for name, days in lengths.items() if days is not None and days < 1}
    if short:
        got = ", ".join(f"{name} = {days}" for name, days in short.items())
        raise DataError(f"{got}; expected at least 1 day each. Use longer split windows in the model's declaration.")
    test = as_of - timedelta(days=test_days - 1)
    validation = test - timedelta(days=validation_days)
    train = None if train_days is None else validation - timedelta(days=train_days)
    return TrainingWindows(train=train, validation=validation, test=test, last=as_of)


def assemble_training_set(
    features: pl.LazyFrame | pl.DataFrame,
    labels: pl.LazyFrame | pl.DataFrame,
    model: ModelColumns,
    windows: TrainingWindows | Shares,
) -> TrainingSet:
    """Join features to the labels known by the end of a day, split by windows or shares, and count excluded rows.

    In windows, a row is purged if its label became known at or after the first prediction of a later window, because a
    model for that prediction could not have been trained on it (López de Prado 2018, Advances in Financial Machine
    Learning, 7.4). Of a corrected label, the newest version known by the as-of day is used, with its own known time.
    Nothing that is known or predicted after the as-of day changes the result. `features` has one row per prediction;
    only the needed columns and days are read. `labels` has one row per version of an outcome, with a null target if it
    never gets a label, and optionally the `reason`.

    Returns:
        The rows: key, day, times, group if there is one, features, target, weight if there is one, `split`. Rows with
        a weight of 0 are excluded. They are sorted by event time and
        key. If they are split by shares, they are sorted by their place, so that folds of rows are drawn at random and
        rows of a group stay together. The rows of a query of a ranking follow each other, in an order that a hash of
        their key decides: LightGBM orders equal scores as the rows come, so an order that depends on the grade would
        give it away. A query is used as a whole or not at all (see `_whole_queries`).

    Raises:
        DataError: Columns are missing or have the wrong type, keys are null or repeated, a window is empty, or the
            target does not match the task or is constant in train. All problems of one stage are listed together.
    """
    key, target, known_time = model.key, model.target, model.known_time
    names = [feature.name for feature in model.features]
    columns = list(dict.fromkeys([*model.identified, *names]))
    lazy_features, lazy_labels = features.lazy(), labels.lazy()
    feature_schema, label_schema = lazy_features.collect_schema(), lazy_labels.collect_schema()
    _raise_all(
        model.name,
        [
            *_name_problems(names, model),
            *_feature_problems(feature_schema, columns, model),
            *_label_problems(label_schema, feature_schema, model),
        ],
    )

    inside, begin = pl.col(DAY) <= windows.last, windows.train if isinstance(windows, TrainingWindows) else None
    if begin is not None:
        inside &= pl.col(DAY) >= begin
    # A null known time is allowed only with a null target: such an outcome never gets a label.
    known = (pl.col(known_time) < end_of(windows.last, model.timezone)) | pl.col(known_time).is_null()
    why = pl.col(REASON).cast(pl.String) if REASON in label_schema else pl.lit(None, pl.String)
    event_day = pl.col(EVENT_DAY) if EVENT_DAY in label_schema else pl.lit(None, pl.Date)
    known_columns = [
        *key, pl.col(known_time), *map(pl.col, model.label_values), why.alias(_WHY_NONE),
        pl.lit(True).alias(_IS_LABELLED), event_day.alias(_EVENT_DAY),
    ]  # fmt: skip
    frame, outcomes, total = pl.collect_all(
        [
            lazy_features.filter(inside).select(columns),
            lazy_labels.filter(known).select(known_columns),
            lazy_features.select(pl.len()),
        ]
    )
    _raise_all(
        model.name,
        [
            *_key_problems(frame, "features", key, filled=model.identified, personal=model.personal),
            *_key_problems(outcomes, "labels", model.label_key, filled=key, personal=model.personal),
            *_target_problems(outcomes, model),
            *weight_problems(outcomes, model),
        ],
    )
    outcomes = newest_known(outcomes, key, known_time)
    in_windows = outcomes.filter(pl.col(_EVENT_DAY).is_between(begin or frame[DAY].min(), windows.last))
    without_features = in_windows.join(frame, on=list(key), how="anti").height
    outcomes = outcomes.drop(_EVENT_DAY)

    joined, split = frame.join(outcomes, on=list(key), how="left"), None
    order, query = [model.event_time, *key], model.query
    if query is not None:
        order = [_FIRST_OF_QUERY, query, _ORDER_IN_QUERY]
    if isinstance(windows, TrainingWindows):
        joined = joined.with_columns(_split_of(windows).alias(SPLIT)).pipe(_mark_excluded, model, purged=True)
    else:
        joined, split = _split_by_shares(joined, windows, model)
        order = [_PLACE, *order]
    if query is not None:
        joined = _whole_queries(joined, query).with_columns(
            pl.col(model.event_time).min().over(query).alias(_FIRST_OF_QUERY),
            places(joined, key).alias(_ORDER_IN_QUERY),
        )
    rows = (
        joined.filter(pl.col(_EXCLUDED).is_null())
        .sort(list(dict.fromkeys(order)))
        .select(list(dict.fromkeys([*model.identified, known_time, *names, *model.label_values, SPLIT])))
    )
    _raise_all(model.name, _window_problems(rows, joined, windows, model, split))
    return TrainingSet(
        rows=rows,
        summary=TrainingSetSummary(
            model=model.name,
            task=model.task,
            target=target,
            classes=_classes(rows, target) if model.task == "multiclass" else (),
            key=key,
            event_time=model.event_time,
            prediction_time=model.prediction_time,
            known_time=known_time,
            as_of=windows.last,
            features=model.features,
            windows=_describe_windows(rows, windows, model),
            excluded_rows=_count_excluded(joined, outside=int(total.item()) - frame.height),
            labels_without_features=without_features,
            split=split,
            objective=model.objective,
            positive=model.positive,
            weight=model.weight,
            group=model.group if split is None else None,
        ),
    )


def _raise_all(model: str, problems: Sequence[str]) -> None:
    if len(problems) == 1:
        raise DataError(f"training set of model '{model}': {problems[0]}")
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise DataError(f"training set of model '{model}' has {len(problems)} problems:\n{listed}")


def _name_problems(names: Sequence[str], model: ModelColumns) -> list[str]:
    if not names:
        return ["it has no feature; expected at least one. Mark features in the contract of its feature table."]
    forbidden = {
        model.target: "the target",
        model.known_time: "the label's known time",
        SPLIT: "the split of the training set",
        **({} if model.weight is None else {model.weight: "the weight of the row"}),
    }
    problems = [
        f"feature '{name}' is also {forbidden[name]}, which no prediction can know. Remove it from the features."
        for name in names
        if name in forbidden
    ]
    if model.query is not None and model.weight is not None:
        problems.append(f"a ranking has no weights of rows; remove the weight '{model.weight}' from the declaration.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    return problems + [f"feature '{name}' is declared more than once. Declare it once." for name in repeated]


def _feature_problems(schema: pl.Schema, columns: Sequence[str], model: ModelColumns) -> list[str]:
    problems = [
        f"column '{name}' of the features is missing. Rebuild the feature table, or correct the declaration."
        for name in columns
        if name not in schema
    ]
    if DAY in schema and schema[DAY] != pl.Date:
        problems.append(
            f"column '{DAY}' of the features is {schema[DAY]}; expected Date. Cast it in the feature table."
        )
    problems += [
        problem
        for name in dict.fromkeys([model.event_time, model.prediction_time])
        if (problem := _time_problem(schema, name, "features"))
    ]
    mistyped = (type_problem(feature, schema[feature.name]) for feature in model.features if feature.name in schema)
    return problems + [problem for problem in mistyped if problem]


def _label_problems(schema: pl.Schema, features: pl.Schema, model: ModelColumns) -> list[str]:
    key, target, task = model.key, model.target, model.task
    problems = [
        f"column '{name}' of the labels is missing. Rebuild the label table, or correct the declaration."
        for name in dict.fromkeys([*model.label_key, *model.label_values])
        if name not in schema
    ]
    if problem := _time_problem(schema, model.known_time, "labels"):
        problems.append(problem)
    problems += [
        f"key '{name}' is {features[name]} in the features and {schema[name]} in the labels. Cast one in its table."
        for name in key
        if name in schema and name in features and schema[name] != features[name]
    ]
    if target in schema and not suits(schema[target], task):
        expected = {
            "binary": "Boolean or 0/1 integers", "regression": "numbers", "multiclass": "text or integers",
            "ranking": GRADES,
        }[task]  # fmt: skip
        problems.append(
            f"target '{target}' is {schema[target]}; task '{task}' expects {expected}. "
            "Cast it in the label table, or declare another task."
        )
    return problems


def _time_problem(schema: pl.Schema, name: str, where: str) -> str | None:
    dtype = schema.get(name)
    if dtype is None or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None):
        return None
    return f"time '{name}' of the {where} is {dtype}; expected a Datetime in UTC without a zone. Cast it in its table."


def suits(dtype: pl.DataType, task: Task) -> bool:
    """Return whether a column of this type can be the target of a task."""
    if task in ("binary", "ranking"):
        return dtype == pl.Boolean or dtype.is_integer()
    if task == "regression":
        return dtype.is_numeric()
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)


def _key_problems(
    frame: pl.DataFrame, where: str, key: Sequence[str], *, filled: Sequence[str], personal: Collection[str]
) -> list[str]:
    nulls = frame.select(pl.col(dict.fromkeys(filled)).null_count()).row(0, named=True)
    problems = [
        f"column '{name}' of the {where} is null in {count} of {frame.height} rows; expected no null. Fix its table."
        for name, count in nulls.items()
        if count
    ]
    fix = "Remove the duplicates in its table, or declare a key with more columns."
    return problems + repeated_keys(frame, key, where=where, fix=fix, personal=personal)


def _target_problems(outcomes: pl.DataFrame, model: ModelColumns) -> list[str]:
    target, task = model.target, model.task
    value, labelled = pl.col(target), pl.col(target).is_not_null()
    wrong: pl.Expr = pl.lit(False)
    if task == "binary" and outcomes.schema[target] != pl.Boolean:
        wrong = ~value.is_in([0, 1])
    elif task == "ranking":
        wrong = ~is_grade(value)
    elif task == "regression" and outcomes.schema[target].is_float():
        wrong = ~value.is_finite()
    elif task == "regression":
        wrong = ~pl.lit(is_exact(outcomes[target]))
    lowest = None if model.objective is None else model.objective.lowest_label
    if lowest is not None:
        wrong |= value < lowest
    counts = outcomes.select(
        unknown=(labelled & pl.col(model.known_time).is_null()).sum(), wrong=(labelled & wrong).sum()
    ).row(0, named=True)
    problems = []
    if counts["unknown"]:
        problems.append(
            f"{counts['unknown']} labels have no '{model.known_time}'; a label whose known time is null may come from "
            "the future. Fill it in the label table, or make the label null."
        )
    if counts["wrong"]:
        expected = {"binary": "0 or 1", "ranking": f"one of the {GRADES}"}.get(
            task, "a finite number, or an integer up to 2^53"
        )
        if lowest is not None and model.objective is not None:
            expected = f"a finite number of {lowest:g} or more, as the objective {model.objective.words} needs,"
        found = outcomes.filter(labelled & wrong).get_column(target).unique().sort().head(3).to_list()
        sample = dict.fromkeys(str(redacted(target, it, model.personal)) for it in found)
        problems.append(
            f"target '{target}' of task '{task}' is not {expected} in {counted(counts['wrong'], 'row')}, for instance "
            f"{', '.join(sample)}. Fix the label table, or declare another {'task' if lowest is None else 'objective'}."
        )
    return problems


def _split_of(windows: TrainingWindows) -> pl.Expr:
    return (
        pl.when(pl.col(DAY) >= windows.test)
        .then(pl.lit("test"))
        .when(pl.col(DAY) >= windows.validation)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )


def _split_by_shares(joined: pl.DataFrame, shares: Shares, model: ModelColumns) -> tuple[pl.DataFrame, HashSplit]:
    """Return the rows with place, part and the reason why a row is excluded, and the rule of the split."""
    marked = _mark_excluded(joined, model, purged=False).with_columns(places(joined, shares.columns).alias(_PLACE))
    if shares.folds:
        return _split_into_folds(marked, shares, model)
    labelled, is_classification = marked.filter(pl.col(_EXCLUDED).is_null()), model.task in ("binary", "multiclass")
    rule = shares.rule(labelled, labelled[_PLACE], target=model.target, is_classification=is_classification)
    return marked.with_columns(parts(rule, marked[_PLACE], marked[model.target]).alias(SPLIT)), rule


def _split_into_folds(marked: pl.DataFrame, shares: Shares, model: ModelColumns) -> tuple[pl.DataFrame, HashSplit]:
    """Return the rows with one fold as validation part and all others as train part, and the rule."""
    target = None if model.task == "regression" else model.target
    rule = shares.rule(marked, marked[_PLACE], target=model.target, is_classification=target is not None)
    is_labelled = pl.col(_EXCLUDED).is_null()
    labelled, others = marked.filter(is_labelled), marked.filter(~is_labelled)
    fold = deal(labelled, rule, draw=rule.draw, target=target)
    chosen = validation_fold(fold, None if target is None else labelled[target])
    parted = labelled.with_columns(
        pl.when(fold == chosen).then(pl.lit("validation")).otherwise(pl.lit("train")).alias(SPLIT)
    )
    return pl.concat([parted, others.with_columns(pl.lit("train").alias(SPLIT))]), rule


def _mark_excluded(joined: pl.DataFrame, model: ModelColumns, *, purged: bool) -> pl.DataFrame:
    is_late = pl.lit(value=False)
    if purged:
        split, known, opens = pl.col(SPLIT), pl.col(model.known_time), pl.col(model.prediction_time)
        test_opens = opens.filter(split == "test").min()
        later_opens = opens.filter(split != "train").min()
        is_late = ((split == "train") & (known >= later_opens)) | ((split == "validation") & (known >= test_opens))
    return joined.with_columns(
        pl.when(pl.col(_IS_LABELLED).is_null())
        .then(pl.lit(NOT_KNOWN))
        .when(pl.col(model.target).is_null())
        .then(pl.lit("no label: ") + pl.col(_WHY_NONE).fill_null("it is null"))
        .when(is_late)
        .then(pl.lit(PURGED))
        .when(pl.lit(value=False) if model.weight is None else pl.col(model.weight) == 0)
        .then(pl.lit(WEIGHTLESS))
        .alias(_EXCLUDED)
    )


def _whole_queries(joined: pl.DataFrame, query: str) -> pl.DataFrame:
    """Exclude queries of which rows are in several parts, or of which a label is not known or was known too late.

    If only the rows with an early label were used, such as the clicked ones, their order would say little. A row that
    never gets a label has no place in the order, so the others are used.
    """
    excluded = pl.col(_EXCLUDED)
    is_split = pl.col(SPLIT).n_unique().over(query) > 1
    is_incomplete = excluded.is_in([NOT_KNOWN, PURGED]).any().over(query)
    return joined.with_columns(
        pl.when(excluded.is_not_null())
        .then(excluded)
        .when(is_split)
        .then(pl.lit(STRADDLES))
        .when(is_incomplete)
        .then(pl.lit(INCOMPLETE))
        .alias(_EXCLUDED)
    )


def _query_problems(rows: pl.DataFrame, query: str, model: ModelColumns) -> list[str]:
    """Return why the queries of a part cannot be learned from or measured."""
    differs = pl.col(model.target).n_unique() > 1
    queries = rows.group_by(query, SPLIT).agg(rows=pl.len(), differs=differs)
    largest = int(queries.select(pl.col("rows").max().fill_null(0)).item())
    problems = [
        f"no '{query}' of the {split} part has rows of different grades, so there is nothing to rank; expected several "
        f"rows with the same '{query}'. Declare another column as ranking.query, or add rows."
        for (split,), part in queries.partition_by(SPLIT, as_dict=True, maintain_order=True).items()
        if not part["differs"].any()
    ]
    if largest > _LARGEST_QUERY:
        problems.append(
            f"a '{query}' has {largest:,} rows; expected at most {_LARGEST_QUERY:,}, LightGBM's limit. Declare "
            "another column as ranking.query, or leave rows out of the feature table."
        )
    if model.group is not None:
        cut = rows.group_by(query).agg(groups=pl.col(model.group).n_unique()).filter(pl.col("groups") > 1).height
        if cut:
            problems.append(
                f"the rows of {cut:,} '{query}' have several '{model.group}'; expected one, because intervals leave "
                f"out whole groups. Declare another column as split.group, such as '{query}'."
            )
    return problems


def _window_problems(
    rows: pl.DataFrame,
    joined: pl.DataFrame,
    windows: TrainingWindows | Shares,
    model: ModelColumns,
    split_rule: HashSplit | None,
) -> list[str]:
    counts = dict(rows.group_by(SPLIT).len().iter_rows())
    problems = []
    for split in _splits(windows):
        if counts.get(split):
            continue
        left_out = joined.filter(pl.col(SPLIT) == split).group_by(_EXCLUDED).len().sort(_EXCLUDED)
        seen = ", ".join(f"{number} {why}" for why, number in left_out.iter_rows()) or "none at all"
        days = joined.select(first=pl.col(DAY).min(), last=pl.col(DAY).max()).row(0)
        covers = f"the features cover {days[0]} to {days[1]}" if days[0] else "there are no features up to its end"
        if isinstance(windows, TrainingWindows):
            first, last = windows.days(split)
            problems.append(
                f"the {split} window ({first or 'the beginning'} to {last}) has no rows with a label (rows left out: "
                f"{seen}); {covers}. Choose another as-of day, build the missing days, or change the split windows."
            )
        else:
            problems.append(
                f"the {split} part has no rows with a label (rows left out: {seen}); {_units(rows, windows)} with a "
                f"label up to {windows.last}, and {covers}. Add rows, or change the shares of the split."
            )
    if split_rule is not None and (
        few := too_few_units(rows, split_rule, target=model.target if model.task == "binary" else None)
    ):
        problems.append(f"{few}. Add rows, or declare fewer folds.")
    if model.query is not None:
        return problems or _query_problems(rows, model.query, model)
    values = rows.filter(pl.col(SPLIT) == "train").get_column(model.target)
    if values.n_unique() == 1:
        wanted = {"binary": "both classes", "multiclass": "at least two classes"}.get(model.task, "several values")
        value = redacted(model.target, values[0], model.personal)
        where, fix = "train part", "Add rows"
        if isinstance(windows, TrainingWindows):
            first, last = windows.days("train")
            where, fix = f"train window ({first or 'the beginning'} to {last})", "Use a longer train window"
        if model.positive is not None:
            fix = f"Check that {model.positive!r} is the positive class (labels.positive), {fix.lower()}"
        problems.append(
            f"target '{model.target}' is constant: it is {value} in all {values.len():,} rows of the {where}; expected "
            f"{wanted}. {fix}, or fix the label table."
        )
    return problems


def _splits(windows: TrainingWindows | Shares) -> tuple[Split, ...]:
    """Return the parts: without test if the rows are dealt into folds."""
    return _SPLITS[:2] if isinstance(windows, Shares) and windows.folds else _SPLITS


def _units(rows: pl.DataFrame, shares: Shares) -> str:
    """Return how many rows or groups there are, as text."""
    if shares.by == "random":
        return f"there are {counted(rows.height, 'row')}"
    groups = rows.select(shares.columns).unique().height
    return f"column '{', '.join(shares.columns)}' has {counted(groups, 'value')} in the rows"


def _classes(rows: pl.DataFrame, target: str) -> tuple[str, ...]:
    # Classes of all windows: a class that only test rows have must count against the model, not disappear.
    values = rows.get_column(target).unique()
    ordered = values.sort() if values.dtype.is_integer() else values.cast(pl.String).sort()
    return tuple(str(value) for value in ordered)


def _describe_windows(rows: pl.DataFrame, windows: TrainingWindows | Shares, model: ModelColumns) -> tuple[Window, ...]:
    value = pl.col(model.target).cast(pl.Float64)
    mean = value.mean()
    if model.task == "multiclass":
        mean = pl.lit(None, pl.Float64)
    elif model.weight is not None:
        mean = (value * pl.col(model.weight)).sum() / pl.col(model.weight).sum()
    figures = {
        row[SPLIT]: row
        for row in rows.group_by(SPLIT)
        .agg(rows=pl.len(), first=pl.col(DAY).min(), last=pl.col(DAY).max(), target_mean=mean)
        .to_dicts()
    }
    described = []
    for split in _splits(windows):
        figure = figures[split]
        first, last = windows.days(split) if isinstance(windows, TrainingWindows) else (None, figure["last"])
        described.append(
            Window(
                split=split,
                first_day=first or figure["first"],
                last_day=last,
                rows=figure["rows"],
                target_mean=figure["target_mean"],
            )
        )
    return tuple(described)


def _count_excluded(joined: pl.DataFrame, *, outside: int) -> dict[str, int]:
    counts = dict(joined.filter(pl.col(_EXCLUDED).is_not_null()).group_by(_EXCLUDED).len().sort(_EXCLUDED).iter_rows())
    by_nature = {why: number for why, number in counts.items() if why not in (NOT_KNOWN, PURGED)}
    return {NOT_KNOWN: counts.get(NOT_KNOWN, 0), **by_nature, PURGED: counts.get(PURGED, 0), OUTSIDE: outside}
