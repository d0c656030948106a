"""Checks the declarations of a project against each other when it loads.

Not here: a declaration against the contracts of its tables (see `ml_assets.models.agreement`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import polars as pl

from ml_assets.contracts.errors import near
from ml_assets.contracts.periods import BY_HOUR, HOUR
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from ml_assets.declaration.training_set import Split
from ml_assets.logic.evaluation.jackknife import MINIMUM_CLUSTERS
from ml_assets.models.agreement import see_contract

RAW, TABLES = "raw", "tables"
_Loc = tuple[str, ...]


def contradictions(declared: Declared, contracts: Mapping[str, TableContract]) -> list[str]:
    """Return how declarations contradict each other, each with the fields of both."""
    return [
        *_models_of_several(declared),
        *_models_of_none(declared, contracts),
        *_raw_problems(declared, contracts),
        *_days_outside(declared),
        *_without_hour(declared, contracts),
        *(problem for model in _one_for_each_file(declared) for problem in _windows_too_long(model)),
        *(problem for model in _one_for_each_file(declared) for problem in _too_few_test_days(model)),
        *(
            f"{model.place('name')}: a model cannot have the name '{model.name}', which is the "
            "prefix of all sources or tables. Rename it."
            for model in declared.models
            if model.name in (RAW, TABLES)
        ),
    ]


def _one_for_each_file(declared: Declared) -> list[ModelDeclaration]:
    """Return the first model of each file, because what is wrong with it is wrong with all of them."""
    return [models[0] for models in declared.families.values()]


def _models_of_several(declared: Declared) -> Iterator[str]:
    """Yield dbt models that several declarations are for."""
    seen: dict[str | None, TablesDeclaration] = {}
    for project in declared.tables:
        for name in project.models or (None,):
            if other := seen.get(name):
                which = "the dbt models that no other declaration names" if name is None else f"dbt model '{name}'"
                field = "days" if name is None else "models"
                yield f"{project.place(field)}: the declaration of {which} is also in {other.place(field)}. Remove one."
            seen[name] = project


def _models_of_none(declared: Declared, contracts: Mapping[str, TableContract]) -> Iterator[str]:
    """Yield dbt models that no declaration is for, and names of models that do not exist."""
    known = [name for name in contracts if not name.startswith(f"{RAW}/")]
    for project in declared.tables:
        for name in project.models or ():
            if name not in known:
                yield f"{project.place('models')}: there is no dbt model '{name}'{near(name, known)}."
    if declared.tables and (left := [name for name in known if declared.tables_with(name) is None]):
        yield (
            f"{declared.tables[-1].place('models')}: no declaration of dbt tables is for {', '.join(left)}. Add them "
            "to 'models', or declare ml_assets.DbtTables without 'models' for all that remain."
        )


def _raw_problems(declared: Declared, contracts: Mapping[str, TableContract]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for raw in declared.raw:
        for name, table in raw.tables.items():
            place = raw.place("tables", name)
            if name in seen:
                yield f"{place}: source '{name}' is also declared in {seen[name]}. Remove one declaration."
            seen[name] = place
            contract = contracts.get(f"{RAW}/{name}")
            if contract is not None and contract.is_by_day != table.is_by_day:
                here, there = ("by day", "whole") if table.is_by_day else ("whole", "by day")
                setting = "'partitioned: day' in its meta"
                yield (
                    f"{place}: source '{name}' is landed {here} ('partition_by' or 'files' decides it), but its "
                    f"contract is {there}: {'add' if table.is_by_day else 'remove'} {setting}{see_contract(contract)}."
                )


def _without_hour(declared: Declared, contracts: Mapping[str, TableContract]) -> Iterator[str]:
    """Yield the dbt models by day that do not state the hour of a row, if the declared days have grain `hour`."""
    if declared.calendar.grain != BY_HOUR:
        return
    for name, contract in contracts.items():
        if not name.startswith(f"{RAW}/") and contract.is_by_day and contract.schema.get(HOUR) != pl.Datetime("us"):
            yield (
                f"table '{name}' has no column '{HOUR}' of type timestamp, but the declared days have grain 'hour'; "
                f"expected the begin of each row's hour in UTC. Select it as you select 'day'{see_contract(contract)}."
            )


def _days_outside(declared: Declared) -> Iterator[str]:
    by_day = [raw for raw in declared.raw if any(table.is_by_day for table in raw.tables.values())]
    for model in _one_for_each_file(declared):
        of_model = (declared.tables_with(it) for it in (model.features.table, model.labels.table))
        for tables in {id(it): it for it in of_model if it is not None}.values():
            yield from _outside(f"model '{model.name}' has", model, "the tables have", [tables])
    for tables in declared.tables:
        if by_day and tables.models is None:  # those that name models may read some of the sources only
            yield from _outside("the tables have", tables, "the sources have", by_day)


def _outside(
    whose: str,
    inner: ModelDeclaration | TablesDeclaration,
    theirs: str,
    outer: Sequence[TablesDeclaration | RawDeclaration],
) -> Iterator[str]:
    days = inner.days
    first = min(it.days.first for it in outer)
    ends = [it.days.last for it in outer if it.days.last is not None]
    last = max(ends) if len(ends) == len(outer) else None
    if first <= days.first and (last is None or (days.last is not None and days.last <= last)):
        return
    places = ", ".join(it.place("days") for it in outer)
    yield (
        f"{inner.place('days')}: {whose} days {_span(days.first, days.last)}, but {theirs} {_span(first, last)} "
        f"({places}). Correct one of them."
    )


def _span(first: date, last: date | None) -> str:
    return f"from {first} on, without a last day" if last is None else f"{first} to {last}"


def _splits(model: ModelDeclaration) -> Iterator[tuple[_Loc, Split]]:
    """Yield the splits into windows of time."""
    if model.split.is_by_time:
        yield ("split",), model.split
    if model.retraining.split is not None:
        yield ("retraining", "split"), model.retraining.split


def _windows_too_long(model: ModelDeclaration) -> Iterator[str]:
    days = model.days
    if days.last is None:
        return
    count = (days.last - days.first).days + 1
    for loc, split in _splits(model):
        if (needed := (split.train_days or 1) + split.held_back) > count:
            yield (
                f"{model.place(*loc)}: the windows need {needed} days (train {split.train_days or 'at least 1'}, "
                f"validation {split.validation_days}, test {split.test_days}), but the model has the {count} days "
                f"{_span(days.first, days.last)} ({model.place('days')}). Shorten the windows, or widen the days."
            )
    if model.labels.maturity_days >= count:
        yield (
            f"{model.place('labels', 'maturity_days')}: labels need {model.labels.maturity_days} days to become "
            f"known, but the model has {count} days, {_span(days.first, days.last)} ({model.place('days')}). Correct "
            "one of them."
        )


def _too_few_test_days(model: ModelDeclaration) -> Iterator[str]:
    """Yield test windows that are so short that the gate can promote no model. It compares models day by day."""
    for loc, split in _splits(model):
        if split.test_days < MINIMUM_CLUSTERS:
            yield (
                f"{model.place(*loc, 'test_days')}: the test window has {split.test_days} day(s), so the gate "
                f"would never promote a model; expected at least {MINIMUM_CLUSTERS}. Lengthen test_days."
            )
