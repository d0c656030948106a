"""Renders the dbt models of a model of events, and runs the same SQL to see who is predicted, features and labels."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import polars as pl

from ml_assets.authoring.columns import ROW_KEY
from ml_assets.authoring.event_table import PREDICTED_AT, EventTable
from ml_assets.authoring.population import EventPopulation
from ml_assets.authoring.rendering import rendered
from ml_assets.authoring.selected import SelectedColumn
from ml_assets.authoring.zone_sql import day_of_sql
from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.sql import identifier
from ml_assets.contracts.words import counted
from ml_assets.warehouse.duckdb_session import connect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_EVERYTHING: Final = 3660
"""A look-back of ten years: that of a population that needs more than the features do."""
_SAMPLES: Final = 12


def event_models(events: EventTable, features: Sequence[SelectedColumn]) -> dict[str, str]:
    """Return the SQL of the dbt models by name, each after those that it reads."""
    name = events.name
    columns = [*events.population_columns, *features]
    staging = {} if events.found.dbt_model else {events.origin: "staging.sql.jinja"}
    templates = {
        **staging,
        f"{name}_population": "population.sql.jinja",
        f"{name}_features": "event_features.sql.jinja",
        f"{name}_outcomes": "event_outcomes.sql.jinja",
    }
    values = {"events": events, "source": events, "staged": events.staged, "featured": columns}
    return {model: rendered(template, values) for model, template in templates.items()}


def read_examples(events: EventTable) -> pl.DataFrame:
    """Return the predictions with features and labels, in the order of time; a label that is not known yet is missing.

    The SQL is that of the dbt models, over all days with events.

    Raises:
        DataError: nobody is predicted, or the population or the condition of the user cannot be used.
    """
    models, name = event_models(events, events.features), events.name
    with _engine(events) as engine:
        population = _table(engine, f"{name}_population", models[f"{name}_population"], events, "--population")
        _check_population(population, events)
        for what, flag in ((f"{name}_features", ""), (f"{name}_outcomes", "--event-where")):
            _table(engine, what, models[what], events, flag)
        key = f"{identifier(events.entity.name)}, {PREDICTED_AT}"
        rows: pl.DataFrame = engine.sql(
            f"select {name}_features.* exclude (day), {events.target} from {name}_features "  # noqa: S608 - own names
            f"left join {name}_outcomes using ({key}) order by {PREDICTED_AT}, {identifier(events.entity.name)}"
        ).pl()
        return rows


def with_look_back(events: EventTable) -> EventTable:
    """Return the events with the days that the population of the user reads before a prediction.

    The population is computed again at some prediction times from the events until then. They are as many as the
    features read, or else all of them.

    Raises:
        DataError: it cannot be used, or it depends on events after the prediction time.
    """
    found = ""
    with _engine(events) as engine:
        model = event_models(events, ())[f"{events.name}_population"]
        _check_columns(engine, events)
        every = _table(engine, "every_prediction", model, events, "--population")
        _check_population(every, events)
        times = every[PREDICTED_AT].unique().sort()
        for days in (events.feature_look_back_days, _EVERYTHING):
            different = (_difference(engine, events, every, at, days) for at in _spread(times))
            found = next(filter(None, different), "")
            if not found:
                return replace(events, population=replace(events.population, look_back_days=days))
    raise DataError(
        f"--population depends on events after its prediction time: {found}. Choose whom to predict only by events "
        f"until {PREDICTED_AT}."
    )


def given_population(sql: str) -> EventPopulation:
    """Return the population that the user states.

    Raises:
        DataError: the SQL is empty, or has what dbt would read as a template.
    """
    text = sql.strip().rstrip(";").rstrip()
    if not text or _is_template(text):
        raise DataError(
            f"--population is '{text}'; expected a select over 'events' that gives the entity and {PREDICTED_AT}, "
            "without templates of dbt."
        )
    return EventPopulation(text, _EVERYTHING, "--population says so", is_given=True)


def given_condition(sql: str | None) -> str:
    """Return the condition that the user states; '' if the user states none.

    Raises:
        DataError: the SQL has what dbt would read as a template.
    """
    text = (sql or "").strip()
    if _is_template(text):
        raise DataError(
            f"--event-where is '{text}'; expected SQL over an event without templates of dbt, such as: type = 'order'"
        )
    return text


def _is_template(sql: str) -> bool:
    return any(it in sql for it in ("{{", "{%", "{#"))


@contextmanager
def _engine(events: EventTable) -> "Iterator[DuckDBPyConnection]":
    """Yield a database with the events as their dbt model has them, and without access to files."""
    rows = events.found.rows
    if events.has_row_key and not events.found.dbt_model:
        rows = rows.with_row_index(ROW_KEY).with_columns(pl.col(ROW_KEY).cast(pl.String))
    with connect() as engine:
        engine.register("source_rows", rows.to_arrow())
        if events.found.dbt_model:
            day = events.day_of(events.row_known)
            staging = f"select *, {day} as {DAY} from source_rows"  # noqa: S608 - own names
        else:
            staging = _plain(rendered("staging.sql.jinja", {"source": events, "staged": events.staged}), events)
        engine.execute(f"create table {identifier(events.origin)} as {staging}")
        engine.execute("set enable_external_access = false")
        yield engine


def _plain(sql: str, events: EventTable) -> str:
    """Return the SQL of a dbt model as dbt would compile it for all days with events."""
    from jinja2 import Environment, StrictUndefined

    days = events.days
    macros = SimpleNamespace(
        first_day=lambda: f"date '{days.first}'",
        last_day=lambda: f"date '{days.last}'",
        look_back_first_day=lambda back: f"date '{days.first - timedelta(days=back)}'",
    )
    jinja = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 - SQL is not HTML
    return jinja.from_string(sql).render(ref=identifier, source=lambda *_: "source_rows", ml_assets=macros)


def _table(engine: "DuckDBPyConnection", name: str, sql: str, events: EventTable, flag: str) -> pl.DataFrame:
    """Build a dbt model and return its rows.

    Raises:
        DataError: the SQL of the user in it, if there is some, cannot be run.
    """
    import duckdb

    given = {"--population": events.population.is_given, "--event-where": bool(events.condition)}
    try:
        engine.execute(f"create table {identifier(name)} as {_plain(sql, events)}")
    except duckdb.Error as error:
        if not given.get(flag):
            raise
        names = ", ".join(events.origin_columns)
        raise DataError(
            f"{flag} cannot be run: {_first_line(error)} Expected SQL of DuckDB over the events, with the columns "
            f"{names}{f', that gives {events.entity.name} and {PREDICTED_AT}' if flag == '--population' else ''}."
        ) from error
    built: pl.DataFrame = engine.sql(f"from {identifier(name)}").pl()
    return built


def _first_line(error: Exception) -> str:
    line = str(error).strip().splitlines()[0].rstrip(".!")
    return f"{line}."


def _check_columns(engine: "DuckDBPyConnection", events: EventTable) -> None:
    """Raise an error if the population of the user lacks a column or has no value in it.

    Raises:
        DataError: it does, or cannot be run.
    """
    sql = f"with events as (from {identifier(events.origin)}), chosen as (\n{events.population.sql}\n) from chosen"
    rows = _table(engine, "given_population", sql, events, "--population")
    needed = (events.entity.name, PREDICTED_AT)
    if lacking := [it for it in needed if it not in rows.columns]:
        raise DataError(
            f"--population gives the columns {', '.join(rows.columns)}; expected {' and '.join(needed)}. Add "
            f"{' and '.join(lacking)}."
        )
    for name in needed:
        if missing := rows[name].null_count():
            raise DataError(
                f"--population has no {name} in {missing:,} of {counted(rows.height, 'row')}; expected a value in each."
            )


def _check_population(rows: pl.DataFrame, events: EventTable) -> None:
    """Raise an error if there are no predictions, or several for an entity and time.

    Raises:
        DataError: they are.
    """
    entity, days = events.entity, events.days
    if not rows.height:
        raise DataError(
            f"{'--population' if events.population.is_given else 'the population'} has no row from {days.first} to "
            f"{days.last}, the days with events; expected a row for each prediction ({events.population.why})."
        )
    if rows[entity.name].dtype != entity.dtype:
        raise DataError(
            f"--population gives {entity.name} as {rows[entity.name].dtype}; expected {entity.dtype}, as the events "
            "have it. Cast it."
        )
    keys = rows.select(entity.name, PREDICTED_AT)
    repeated = keys.filter(keys.is_duplicated())
    if repeated.height:
        shown = events.entity.source not in events.found.personal
        first = ", ".join(map(str, repeated.row(0, named=True).values())) if shown else "a personal value"
        raise DataError(
            f"--population has {repeated.height:,} rows that share {entity.name} and {PREDICTED_AT} with another, such "
            f"as {first}; expected each once. Use select distinct."
        )


def _spread(times: pl.Series) -> list[datetime]:
    """Return some of the prediction times, from the first to the last."""
    places = {round(n * (times.len() - 1) / (_SAMPLES - 1)) for n in range(_SAMPLES)}
    return [times[place] for place in sorted(places)]


def _difference(engine: "DuckDBPyConnection", events: EventTable, every: pl.DataFrame, at: datetime, days: int) -> str:
    """Return how the population at a time differs if only events of some days until then are known; '' if it does not.

    Raises:
        DataError: it cannot be computed from these events.
    """
    entity, moment = events.entity.name, f"timestamp '{at}'"
    first = f"{day_of_sql(moment, events.timezone)} - {days}"
    until = f"select * from {identifier(events.origin)} where {events.happened} <= {moment} and {DAY} >= {first}"  # noqa: S608 - own names
    sql = (
        f"with events as ({until}), chosen as (\n{events.population.sql}\n) "  # noqa: S608 - the user's own SQL
        f"select {entity} from chosen where cast({PREDICTED_AT} as timestamp) = {moment}"
    )
    engine.execute("drop table if exists population_then")
    then = _table(engine, "population_then", sql, events, "--population")[entity]
    now = every.filter(pl.col(PREDICTED_AT) == at)[entity]
    other = {*now.to_list()} ^ {*then.to_list()}
    if not other:
        return ""
    one = min(map(str, other)) if events.entity.source not in events.found.personal else "one"
    return f"at {at}, {counted(len(other), 'row')} differ, such as that of {one}, if later events are not known"
