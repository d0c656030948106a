"""Decides what is written for a new model of events: its days, and what its rows of predictions are."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl

from ml_assets.authoring.columns import new_columns
from ml_assets.authoring.event_sql import given_condition, given_population, with_look_back
from ml_assets.authoring.event_table import PREDICTED_AT, EventTable, event_columns
from ml_assets.authoring.horizon import Horizon
from ml_assets.authoring.new_days import NewDays, days_of, event_days
from ml_assets.authoring.new_model import NewModel
from ml_assets.authoring.population import default_population
from ml_assets.authoring.source import FoundTable
from ml_assets.contracts.days import end_of
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import Calendar, Grain
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.candidates import LeakFinding
from ml_assets.logic.inspection.choices import Choice, Given
from ml_assets.logic.inspection.event_roles import EventRoles
from ml_assets.logic.inspection.roles import Roles, infer_roles


def event_table(
    name: str,
    file: str,
    found: FoundTable,
    roles: EventRoles,
    horizon: Horizon,
    *,
    timezone: str,
    population: str | None,
    condition: str | None,
) -> EventTable:
    """Return a table of events with what is asked of it.

    Args:
        name: the model's name.
        file: the table, as the declaration names it.
        found: the events.
        roles: their columns.
        horizon: how long after a prediction an event counts.
        timezone: that of the project.
        population: SQL of the user: who is predicted, and when.
        condition: SQL of the user over an event: whether it is one that is predicted.

    Raises:
        DataError: the horizon is longer than the events last, the population cannot be used, or numbers are too large.
    """
    columns, times = event_columns(found.rows, roles), found.rows[roles.time.value]
    days = event_days(times, timezone)
    if found.days is not None and (other := found.rows.filter(days_of(times, timezone) != found.days).height):
        raise DataError(
            f"{counted(other, 'row')} of dbt model '{found.dbt_model}' have a day that is not that of {times.name} "
            f"({timezone}); expected the same, because events are read by day. Correct the column 'day' of the model, "
            "or name another --time."
        )
    if horizon.days >= days.count:
        raise DataError(
            f"--horizon is {horizon.words}, but the events last {days.count:,} days, {days.first} to {days.last}; "
            "expected a shorter one, so that it is over for some predictions. Add events, or shorten it."
        )
    named = {it.source: it.name for it in columns}
    entity, time = named[roles.entity.value], named[roles.time.value]
    chosen = default_population(entity, time, days, horizon) if population is None else given_population(population)
    events = EventTable(name, file, found, roles, horizon, columns, days, chosen, given_condition(condition))
    return with_look_back(events) if chosen.is_given else events


def prediction_roles(events: EventTable, rows: pl.DataFrame, grain: Grain | None, *, now: datetime) -> Roles:
    """Return what the rows of predictions are.

    Raises:
        DataError: all labels are the same, or no prediction has a label.
    """
    _check_labels(events, rows)
    entity = events.entity.name
    given = Given(key=(entity, PREDICTED_AT), time=PREDICTED_AT, grain=grain,
                  horizon=f"{events.horizon.number}{events.horizon.unit}")  # fmt: skip
    roles = infer_roles(rows, events.target, given, now=now, timezone=events.timezone)
    when = Choice(PREDICTED_AT, "the population says when", "sure")
    key = Choice(f"{entity}, {PREDICTED_AT}", "each is predicted once at a time", "sure", (), (entity, PREDICTED_AT))
    group = Choice(entity, "the events are its events", "sure")
    return replace(roles, key=key, time=when, known=when, group=group)


def model_days(events: EventTable, rows: pl.DataFrame, grain: Grain, now: datetime) -> NewDays:
    """Return the days of the model: from the first prediction to the newest period of which all events are there.

    The last day with events counts as a whole day, unless a horizon ends on it after the last event.

    Args:
        events: the events.
        rows: the predictions.
        grain: the grain of the partitions.
        now: the current time, with a time zone.

    Raises:
        DataError: no period is over.
    """
    days, zone = events.days, events.timezone
    ends, newest = rows[PREDICTED_AT] + events.horizon.length, _newest(events)
    is_unsure = ((ends > newest) & (days_of(ends, zone) == days.last)).any()
    complete = days.last - timedelta(days=1) if is_unsure else days.last
    calendar = Calendar(grain, zone)
    last = calendar.last_day(calendar.newest_until(complete))
    first = days_of(rows[PREDICTED_AT], zone).min()
    assert isinstance(first, date)  # noqa: S101 - there are predictions
    if last < first:
        raise DataError(
            f"the first prediction is on {first}, and no {grain} after it is over by the last event, {newest}; "
            "expected at least a few. Add events, or choose another --partition or --population."
        )
    is_open = last >= calendar.last_day(calendar.newest_over(now))
    return NewDays(first, last, grain, zone, is_open=is_open)


def within(days: NewDays, rows: pl.DataFrame, events: EventTable) -> pl.DataFrame:
    """Return the predictions of some days, without labels whose horizon ends later.

    Raises:
        DataError: all labels are the same, or no prediction has a label.
    """
    at, zone = rows[PREDICTED_AT], events.timezone
    is_known = days_of(at + events.horizon.length, zone) <= days.last
    known = pl.when(is_known).then(events.target).alias(events.target)
    whole = rows.with_columns(known).filter(days_of(at, zone) <= days.last)
    _check_labels(events, whole)
    return whole


def _check_labels(events: EventTable, rows: pl.DataFrame) -> None:
    known = rows[events.target].drop_nulls()
    positives = int(known.sum())
    if known.len() and 0 < positives < known.len():
        return
    which = "no prediction has a label yet" if not known.len() else (
        f"{'every one' if positives else 'none'} of the {known.len():,} predictions with a label has an event "
        f"within {events.horizon.words}"
    )  # fmt: skip
    raise DataError(f"{which}; expected some with and some without. Change --horizon, --population or --event-where.")


def model_of_events(
    events: EventTable,
    rows: pl.DataFrame,
    days: NewDays,
    roles: Roles,
    leaks: Sequence[LeakFinding],
    *,
    codes: Collection[str] = (),
) -> NewModel:
    """Return what is written for a new model of events: its rows are predictions, computed from them."""
    columns = new_columns(rows, events.target, roles, leaks, codes, names={it: it for it in rows.columns})
    found = replace(events.found, rows=rows, personal=events.personal)
    events = replace(events, days=replace(events.days, grain=days.grain, is_open=days.is_open))
    return NewModel(events.name, events.file, found, events.target, roles, columns, days, events)


def _newest(events: EventTable) -> datetime:
    """Return the time of the newest event; a date lasts until its day ends."""
    newest = events.found.rows[events.time.source].max()
    if isinstance(newest, datetime):
        return newest
    assert isinstance(newest, date)  # noqa: S101 - a time
    return end_of(newest, events.timezone)
