"""Checks a declaration against the contracts of its tables when the project loads.

Not here: declarations against each other (see `ml_assets.models.contradictions`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from ml_assets.contracts.artifacts.training import Feature, Task
from ml_assets.contracts.days import DAY
from ml_assets.contracts.dotted_name import check_arguments
from ml_assets.contracts.errors import ContractError, near
from ml_assets.contracts.frames import GRADES
from ml_assets.contracts.from_pandera import columns_from_pandera
from ml_assets.contracts.objective import HIGHEST_GRADE
from ml_assets.contracts.table import Column, TableContract
from ml_assets.contracts.words import quoted
from ml_assets.declaration.features import is_like, is_pattern
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.logic.monitoring import predictions, reference
from ml_assets.logic.tables import labels, training_set
from ml_assets.logic.tables.features import is_naive
from ml_assets.logic.training import importances
from ml_assets.logic.training.encoding import type_problem
from ml_assets.logic.training.own_estimator import estimator_problems

_OF_LABELS = frozenset({DAY, labels.EVENT_DAY, training_set.REASON})
_OF_PREDICTIONS = predictions.OWN_COLUMNS | {training_set.SPLIT}
_OF_FEATURES = frozenset(
    {training_set.SPLIT, reference.SCORE, importances.NOISE_NUMERIC, importances.NOISE_CATEGORICAL}
)


def model_problems(model: ModelDeclaration, features: TableContract, labels_table: TableContract) -> list[str]:
    """Return how a declaration contradicts the contracts of its tables, each with the field that causes it."""
    unknown = [*_unknown_columns(model, features, labels_table), *_function_problems(model)]
    return unknown or [
        *_key_problems(model, features, labels_table),
        *_time_problems(model, features, labels_table),
        *_target_problems(model, labels_table),
        *_weight_problems(model, features, labels_table),
        *_feature_problems(model, features),
        *_group_problems(model, features),
        *_for_each_problems(model, features),
        *_measured_problems(model, features),
        *_reserved_names(model, features),
        *_serving_problems(model, features),
    ]


def with_own_columns(model: ModelDeclaration, features: TableContract) -> TableContract:
    """Return the contract of the feature table with the columns of the declared feature function, if there is one.

    Raises:
        ContractError: the function or its contract cannot be used, or it redefines a column of the table.
    """
    own = model.features.function
    if own is None:
        return features
    place = model.place("features", "function")
    try:
        check_arguments(own.name, ("rows",))
        added = columns_from_pandera(own.contract)
    except ContractError as error:
        raise ContractError(f"{place}: {error}") from error
    twice = [it.name for it in added if it.name in features.names]
    if twice:
        raise ContractError(
            f"{place}: {own.contract} has {quoted(twice)}, which the table '{features.name}' has, too. Rename them in "
            "the function and its contract."
        )
    return replace(features, columns=(*features.columns, *added))


_Loc = tuple[str, ...]
_PATTERNS = (("features", "columns"), ("features", "exclude"))


def _function_problems(model: ModelDeclaration) -> Iterator[str]:
    """Yield what is wrong with a person's functions that the declaration names; their modules are imported."""
    for metric in model.evaluation.own_metrics:
        try:
            check_arguments(metric.function, ("labels", "scores"), ("labels", "scores", "weights"))
        except ContractError as error:
            yield f"{model.place('evaluation', 'own_metrics')}: {error}"
    if (estimator := model.training.estimator) is not None:
        place = model.place("training", "estimator")
        try:
            wrong = [*estimator_problems(estimator, model.task, model.trained_objective, model.tuning.fixed)]
        except ContractError as error:
            yield f"{place}: {error}"
        else:
            yield from (f"{place}: {problem}." for problem in wrong)
    for rule in model.gate.own_rules:
        try:
            check_arguments(rule, ("evaluation",))
        except ContractError as error:
            yield f"{model.place('gate', 'own_rules')}: {error}"


def _unknown_columns(model: ModelDeclaration, features: TableContract, labels_table: TableContract) -> Iterator[str]:
    wanted, outcomes, measured = model.features, model.labels, model.evaluation
    named: list[tuple[_Loc, Sequence[str | None], TableContract]] = [
        (("features", "key"), wanted.key, features),
        (("features", "event_time"), [wanted.event_time], features),
        (("features", "prediction_time"), [wanted.prediction_time], features),
        (("features", "columns"), wanted.columns or (), features),
        (("features", "exclude"), wanted.exclude, features),
        *((loc, [name], features) for loc, name in _together(model)),
        (("for_each", "column"), [None if model.for_each is None else model.for_each.column], features),
        (("evaluation", "slices"), measured.slices, features),
        (("evaluation", "baselines"), [column for group in measured.baselines for column in group], features),
        (("features", "key"), wanted.key, labels_table),
        (("labels", "target"), [outcomes.target], labels_table),
        (("labels", "known_time"), [outcomes.known_time], labels_table),
        (("labels", "weight"), [outcomes.weight], labels_table),
        (("labels", "reason"), [outcomes.reason], labels_table),
    ]
    for loc, columns, table in named:
        for column in columns:
            if column is not None and column not in table.names and not (loc in _PATTERNS and is_pattern(column)):
                hint = near(column, table.names)
                yield (
                    f"{model.place(*loc)}: column '{column}' is not in the contract of table '{table.name}'{hint}"
                    f"{see_contract(table)}."
                )


def _serving_problems(model: ModelDeclaration, features: TableContract) -> Iterator[str]:
    """Yield columns of `serving` that are no features; only what is no part of the key may be replaced."""
    inputs, key = {column.name for column in model.feature_columns(features)}, {*model.features.key}
    for field, names, known in (
        ("hash", model.serving.hash, inputs | key),
        ("overridable", model.serving.overridable, inputs - key),
    ):
        for name in names:
            if name not in known:
                of_key = "a column of the key" if name in key else "no feature"
                yield (
                    f"{model.place('serving', field)}: column '{name}' is {of_key} of model "
                    f"'{model.name}'{near(name, sorted(known))}. Correct or remove it."
                )


def see_contract(table: TableContract) -> str:
    """Return where the contract of a table is, as the end of a sentence; '' if that is not known."""
    return f"; see {table.where}" if table.where else ""


def _key_problems(model: ModelDeclaration, features: TableContract, labels_table: TableContract) -> Iterator[str]:
    key, place = model.features.key, model.place("features", "key")
    unique = [{*features.key}, *({*group} for group in features.unique_together)]
    unique += [{column.name} for column in features.columns if column.is_unique]
    if features.key and not any(group and group <= {*key} for group in unique):
        yield (
            f"{place}: rows are identified by {', '.join(key)}, but the key of table '{features.name}' is "
            f"{', '.join(features.key)}, so several rows may share it. Declare that key, or correct the "
            f"contract{see_contract(features)}."
        )
    for name in key:
        one, other = features.column(name).dtype, labels_table.column(name).dtype
        if one != other:
            yield (
                f"{place}: column '{name}' is {one} in table '{features.name}' and {other} in table "
                f"'{labels_table.name}', so no label matches its row. Cast one of them in its table."
            )


def _time_problems(model: ModelDeclaration, features: TableContract, labels_table: TableContract) -> Iterator[str]:
    for loc, name, table in (
        (("features", "event_time"), model.features.event_time, features),
        (("features", "prediction_time"), model.features.prediction_time, features),
        (("labels", "known_time"), model.labels.known_time, labels_table),
    ):
        dtype = table.column(name).dtype
        if not is_naive(dtype):
            yield (
                f"{model.place(*loc)}: column '{name}' of table '{table.name}' is {dtype}; expected a "
                f"timestamp{see_contract(table)}."
            )


def _target_problems(model: ModelDeclaration, labels_table: TableContract) -> Iterator[str]:
    target = labels_table.column(model.labels.target)
    if model.labels.positive is not None:
        yield from _value_problems([model.labels.positive], target, labels_table, model.place("labels", "positive"))
        return
    expected: Mapping[Task, str] = {
        "binary": "boolean, or whole numbers that are 0 or 1",
        "regression": "numbers",
        "multiclass": "text or whole numbers",
        "ranking": GRADES,
    }
    highest = {"binary": 1, "ranking": HIGHEST_GRADE}.get(model.task)
    is_beyond = highest is not None and (
        any(value not in range(highest + 1) for value in target.accepted_values or ())
        or (target.minimum is not None and target.minimum < 0)
        or (target.maximum is not None and target.maximum > highest)
    )
    if not training_set.suits(target.dtype, model.task) or is_beyond:
        may_be_declared = model.task == "binary" and (target.dtype == pl.String or target.dtype.is_integer())
        hint = ". Declare the positive class with labels.positive" if may_be_declared else ""
        yield (
            f"{model.place('labels', 'target')}: column '{target.name}' of table '{labels_table.name}' is "
            f"{target.dtype}{f' with values beyond 0 and {highest}' if is_beyond else ''}, but the task is "
            f"{model.task} ({model.place('task')}), which expects "
            f"{expected[model.task]}{hint}{see_contract(labels_table)}."
        )


def _weight_problems(model: ModelDeclaration, features: TableContract, labels_table: TableContract) -> Iterator[str]:
    """Yield why a column cannot be the weight of a row."""
    outcomes, wanted = model.labels, model.features
    if outcomes.weight is None:
        return
    column, place = labels_table.column(outcomes.weight), model.place("labels", "weight")
    name = f"column '{column.name}' of table '{labels_table.name}'"
    if not column.dtype.is_numeric():
        yield f"{place}: {name} is {column.dtype}; expected numbers of 0 or more{see_contract(labels_table)}."
    if column.minimum is not None and column.minimum < 0:
        low = f"may be {column.minimum:g}"
        yield f"{place}: {name} {low} by its contract; expected a minimum of 0 or more{see_contract(labels_table)}."
    others: dict[str, Sequence[str | None]] = {
        "target": [outcomes.target],
        "known time": [outcomes.known_time],
        "reason": [outcomes.reason],
        "key": wanted.key,
        "group": [model.split.group],
        "feature": [it.name for it in model.feature_columns(features)],
    }
    for what, columns in others.items():
        if column.name in columns:
            fix = "exclude it with features.exclude, or rename one of them" if what == "feature" else "name another"
            yield f"{place}: column '{column.name}' is also a {what}; expected a column of its own: {fix}."


def _value_problems(
    values: Iterable[bool | int | str], column: Column, table: TableContract, place: str
) -> Iterator[str]:
    """Yield which declared values a column cannot have, by its type or its accepted values."""
    has = f"column '{column.name}' of table '{table.name}'"
    kinds = {bool: column.dtype == pl.Boolean, int: column.dtype.is_integer(), str: column.dtype == pl.String}
    if not any(kinds.values()):
        yield f"{place}: {has} is {column.dtype}; expected text, whole numbers or Booleans{see_contract(table)}."
        return
    for value in values:
        if not kinds[type(value)]:
            quote = ", such as 'NO' or '1', in quotes" if column.dtype == pl.String else ""
            expected = f"expected a value of it{quote}, got {value!r}"
            yield f"{place}: {has} is {column.dtype}; {expected}{see_contract(table)}."
        elif column.accepted_values and value not in column.accepted_values:
            hint = near(str(value), [str(it) for it in column.accepted_values])
            yield f"{place}: {has} never is {value!r}, by its accepted values{hint}{see_contract(table)}."


def _feature_problems(model: ModelDeclaration, table: TableContract) -> Iterator[str]:
    wanted = model.features
    chosen = model.feature_columns(table)
    place = model.place("features", "table" if wanted.columns is None else "columns")
    if not chosen:
        yield (
            f"{place}: table '{table.name}' has no feature for the model; give columns the role feature in its "
            f"contract, or list them under features.columns{see_contract(table)}."
        )
    for column in chosen:
        if problem := type_problem(Feature.of(column), column.dtype):
            yield f"{place}: {problem.removesuffix('.')}{see_contract(table)}."
        if column.role in ("label", "known_time"):
            known = f"has the role {column.role}, which no prediction knows"
            yield f"{place}: column '{column.name}' {known}; leave it out."
    for name in model.leak_test.acknowledged:
        if name not in {column.name for column in chosen}:
            hint = near(name, [column.name for column in chosen])
            place = model.place("leak_test", "acknowledged")
            yield f"{place}: column '{name}' is not a feature of the model{hint}; leave it out."
    yield from _pattern_problems(model, table)


def _pattern_problems(model: ModelDeclaration, table: TableContract) -> Iterator[str]:
    """Yield the patterns that match no column, and the names that exclude none."""
    wanted = model.features
    for name in filter(is_pattern, wanted.columns or ()):
        if not any(wanted.includes(name, column) for column in table.columns):
            place = model.place("features", "columns")
            yield (
                f"{place}: pattern '{name}' matches no column of table '{table.name}' that can be a feature: one with "
                f"the role feature or none, and neither a key nor a time{see_contract(table)}."
            )
    possible = [column.name for column in wanted.candidates(table)]
    for name in wanted.exclude:
        if not any(is_like(name, it) for it in possible):
            place = model.place("features", "exclude")
            what = "pattern" if is_pattern(name) else "column"
            yield f"{place}: {what} '{name}' is not a feature, so excluding it has no effect."


def _together(model: ModelDeclaration) -> list[tuple[_Loc, str]]:
    """Return the columns whose values stay together, with their fields: group of the split, and query of a ranking."""
    query = None if model.ranking is None else model.ranking.query
    named: tuple[tuple[_Loc, str | None], ...] = (
        (("split", "group"), model.split.group),
        (("ranking", "query"), query),
    )
    return [(loc, name) for loc, name in named if name is not None]


def _group_problems(model: ModelDeclaration, table: TableContract) -> Iterator[str]:
    """Yield why the values of a column cannot be the groups of a split, or the queries of a ranking."""
    for loc, name in _together(model):
        column, place = table.column(name), model.place(*loc)
        if not (column.dtype.is_integer() or column.dtype in (pl.String, pl.Boolean, pl.Date, pl.Categorical, pl.Enum)):
            yield (
                f"{place}: column '{column.name}' of table '{table.name}' is {column.dtype}; expected text, whole "
                f"numbers, Booleans or dates, whose text identifies a group{see_contract(table)}."
            )
        if column.role in ("label", "known_time"):
            known = f"has the role {column.role}, which no prediction knows"
            yield f"{place}: column '{column.name}' {known}; choose another column."


def _for_each_problems(model: ModelDeclaration, table: TableContract) -> Iterator[str]:
    """Yield why the rows of a column's values cannot have models of their own."""
    each = model.for_each
    if each is None:
        return
    column = table.column(each.column)
    has = f"column '{column.name}' of table '{table.name}'"
    if column.name not in {*model.features.key, model.split.group, *(it.name for it in model.feature_columns(table))}:
        yield (
            f"{model.place('for_each', 'column')}: {has} is neither a feature of the model nor its group nor in its "
            f"key, so its features do not contain it. Make it a feature, or choose another column{see_contract(table)}."
        )
    yield from _value_problems(each.values, column, table, model.place("for_each", "values"))


def _measured_problems(model: ModelDeclaration, table: TableContract) -> Iterator[str]:
    wanted = model.features
    there = [*wanted.key, wanted.event_time, wanted.prediction_time, DAY]
    there += [name for _, name in _together(model)]
    there += [column.name for column in model.feature_columns(table)]
    baselines = [column for group in model.evaluation.baselines for column in group]
    for field, columns in (("slices", model.evaluation.slices), ("baselines", baselines)):
        for name in columns:
            if name not in there:
                yield (
                    f"{model.place('evaluation', field)}: column '{name}' of table '{table.name}' is neither a feature "
                    "of the model nor its key or time, so the training set does not contain it. Make it a feature, or "
                    "leave it out."
                )


def _reserved_names(model: ModelDeclaration, table: TableContract) -> Iterator[str]:
    wanted, outcomes = model.features, model.labels
    ours = {*wanted.key, wanted.event_time, wanted.prediction_time}
    taken: list[tuple[_Loc, str, frozenset[str]]]
    taken = [(("features", "key"), name, _OF_LABELS | _OF_PREDICTIONS) for name in wanted.key]
    taken.append((("features", "prediction_time"), wanted.prediction_time, _OF_LABELS | _OF_PREDICTIONS))
    taken.append((("features", "event_time"), wanted.event_time, _OF_LABELS | {training_set.SPLIT}))
    taken += [(loc, name, _OF_LABELS | _OF_PREDICTIONS) for loc, name in _together(model) if name not in {*ours, DAY}]
    if model.for_each is not None:
        ours_too = [(("features", "key"), name) for name in wanted.key]
        ours_too.append((("features", "prediction_time"), wanted.prediction_time))
        taken += [(loc, name, frozenset({predictions.MODEL_NAME})) for loc, name in ours_too]
        taken.append((("for_each", "column"), model.for_each.column, _OF_PREDICTIONS | {predictions.MODEL_NAME}))
    others = _OF_FEATURES | {outcomes.target, outcomes.known_time}
    names = [column.name for column in model.feature_columns(table)]
    taken += [(("features", "columns" if wanted.columns else "table"), name, others) for name in names]
    for field, name in (
        ("target", outcomes.target),
        ("known_time", outcomes.known_time),
        *([] if outcomes.weight is None else [("weight", outcomes.weight)]),
    ):
        taken.append((("labels", field), name, _OF_LABELS | {training_set.SPLIT} | ours))
    for loc, name, reserved in taken:
        # A model with several classes predicts one `score_<class>` per class.
        is_score = model.task == "multiclass" and reserved >= predictions.OWN_COLUMNS and name.startswith("score_")
        if name in reserved or is_score:
            yield (
                f"{model.place(*loc)}: column '{name}' has a name that labels, training sets, predictions or reports "
                f"use for a column of their own. Rename it in its table{see_contract(table)}."
            )
    if outcomes.target == outcomes.known_time:
        place = model.place("labels", "known_time")
        yield f"{place}: column '{outcomes.target}' is also the target; expected another column."
