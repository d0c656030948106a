"""What a table of events seems to be: whose events, when each happened, and what identifies one."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ml_assets.contracts.errors import DataError, near
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.choices import Choice, Given
from ml_assets.logic.inspection.keys import owner_of, row_key_of
from ml_assets.logic.inspection.times import check_times, time_of


@dataclass(frozen=True)
class EventRoles:
    """The columns of a table of events.

    Attributes:
        entity: the person or thing that the events are of.
        time: when an event happened.
        row_key: what identifies an event; None if nothing does.
    """

    entity: Choice
    time: Choice
    row_key: Choice | None

    @property
    def choices(self) -> dict[str, Choice]:
        """The choices that there are, by what they decide."""
        found = {"entity": self.entity, "event_time": self.time, "row_key": self.row_key}
        return {what: it for what, it in found.items() if it is not None}


def infer_event_roles(rows: pl.DataFrame, given: Given, *, now: datetime, row_key: tuple[str, ...] = ()) -> EventRoles:
    """Return what the columns of a table of events are.

    Args:
        rows: the events, in their types.
        given: what the user stated: the entity is its key.
        now: the current time, in UTC without a zone; no event may be later.
        row_key: the key in the contract of the table, if it has one.

    Raises:
        DataError: a given column does not exist or cannot be used, or there is no time or no entity.
    """
    for flag, name in given.columns.items():
        if name not in rows.columns:
            raise DataError(
                f"{flag.partition(' ')[0]} is '{name}'; expected a column of the events{near(name, rows.columns)}: "
                f"{', '.join(rows.columns)}."
            )
    time = time_of(rows, "", given.time)
    if time is None:
        raise DataError(
            f"no column of the events has a time in every row: {', '.join(rows.columns)}; expected one that says when "
            "each event happened. Add it, or name it with --time COLUMN."
        )
    _check_times(rows[time.value], now)
    entity = _entity(rows, given, time.value)
    return EventRoles(entity, time, row_key_of(rows, "", row_key, time.value))


def _entity(rows: pl.DataFrame, given: Given, time: str) -> Choice:
    if not given.key:
        found = owner_of(rows, {time})
        if found is None:
            raise DataError(
                "no column of the events is named as a person or thing that has several of them, such as customer_id; "
                f"expected one. Name it with --key COLUMN, one of {', '.join(it for it in rows.columns if it != time)}."
            )
        return found
    name, *more = given.key
    column = rows[name]
    if more:
        raise DataError(
            f"--key is {', '.join(given.key)}; expected one column with --event, that of the person or thing whose "
            "events are predicted."
        )
    if name == time or column.dtype.is_float() or column.dtype.is_temporal():
        raise DataError(
            f"--key is '{name}', which has values such as {column.drop_nulls().head(2).to_list()}; expected the person "
            "or thing of an event, as text or a whole number."
        )
    if column.null_count():
        raise DataError(
            f"--key is '{name}', which is missing in {column.null_count():,} of {rows.height:,} events; expected a "
            "value in every row, because an event of nobody cannot be counted. Fill it in, or remove these rows."
        )
    if column.n_unique() == rows.height:
        raise DataError(
            f"--key is '{name}', which is different in every event; expected the person or thing that has several of "
            "them, such as customer_id."
        )
    return Choice(name, f"--key says so; {column.n_unique():,} values in {counted(rows.height, 'event')}", "given")


def _check_times(times: pl.Series, now: datetime) -> None:
    if not times.dtype.is_temporal():
        raise DataError(
            f"--time is '{times.name}', which has values such as {times.drop_nulls().head(2).to_list()}; expected a "
            "column in which every value is a date or a time."
        )
    check_times(times, now, "event")
