"""A table of events as the source of a new model: its columns, who is predicted and when, and what the features are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from ml_assets.authoring.columns import ROW_KEY, NewColumn, Use, safe_names
from ml_assets.authoring.horizon import Horizon
from ml_assets.authoring.new_days import NewDays
from ml_assets.authoring.population import EventPopulation, windows_of
from ml_assets.authoring.selected import SelectedColumn, selected_moment
from ml_assets.authoring.source import FoundTable
from ml_assets.authoring.zone_sql import day_of_sql, utc_sql
from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.event_roles import EventRoles
from ml_assets.logic.inspection.keys import is_named_as_key
from ml_assets.logic.inspection.strength import figure

PREDICTED_AT: Final = "predicted_at"
_MOST_VALUES: Final = 100
_DIGITS: Final = 9
_LARGEST: Final = 1e30  # sums of numbers with a fraction are decimals, which have 38 digits
_FILLED: Final = ("not_null",)


@dataclass(frozen=True)
class EventTable:
    """A table of events, and what is asked of it: whether an entity has one within a horizon.

    It has the attributes that the templates of a source read.

    Attributes:
        name: the model's name.
        file: the table, as the declaration names it.
        condition: SQL over an event: whether it is one that is predicted; all are if it is empty.
    """

    name: str
    file: str
    found: FoundTable
    roles: EventRoles
    horizon: Horizon
    columns: tuple[NewColumn, ...]
    days: NewDays
    population: EventPopulation
    condition: str = ""

    @property
    def timezone(self) -> str:
        """The time zone of the project."""
        return self.days.timezone

    @property
    def has_row_key(self) -> bool:
        """Whether landing adds the key."""
        return self.roles.row_key is None

    @property
    def key(self) -> list[NewColumn]:
        """The columns that identify an event: those of the source, or the one that landing adds."""
        if self.roles.row_key is None:
            return [NewColumn(ROW_KEY, ROW_KEY, pl.String(), "key", "")]
        return [self._column(it) for it in self.roles.row_key.columns]

    @property
    def source_columns(self) -> list[NewColumn]:
        """The columns of the raw table."""
        return [*(self.key if self.has_row_key else ()), *self.columns]

    @property
    def entity(self) -> NewColumn:
        """The person or thing."""
        return self._column(self.roles.entity.value)

    @property
    def time(self) -> NewColumn:
        """The time of an event."""
        return self._column(self.roles.time.value)

    @property
    def origin(self) -> str:
        """The dbt model of the events: the staging model, or the one that the table is."""
        return self.found.dbt_model or f"stg_{self.name}"

    @property
    def row_known(self) -> str:
        """SQL over a row of the source: when it could first be known. A date is known when its day ends."""
        if self.time.dtype != pl.Date:
            return f"cast({self.time.quoted} as timestamp)"
        return utc_sql(f"cast({self.time.quoted} as timestamp) + interval '86399 seconds'", self.timezone)

    @property
    def moment(self) -> SelectedColumn:
        """The time of an event in the staging model, with the SQL over the source."""
        return selected_moment(self.time.name, self.row_known)

    @property
    def happened(self) -> str:
        """SQL over the dbt model of the events: when one happened."""
        return self.row_known if self.found.dbt_model else self.time.name

    @property
    def personal(self) -> frozenset[str]:
        """The columns of the dbt models with personal values, or computed from them."""
        names = {it.name for it in self.columns if it.source in self.found.personal}
        sums = {f"{it}_sum_{days}d" for it in names for days in self.windows}
        return frozenset(names | sums | {f"last_{it}" for it in names})

    @property
    def target(self) -> str:
        """The name of the label."""
        return f"event_within_{self.horizon.number}{self.horizon.unit}"

    @property
    def horizon_days(self) -> int:
        """The most days from the day of a prediction to that on which its label is known."""
        return self.horizon.days_in(self.timezone)

    @property
    def windows(self) -> list[int]:
        """The days before a prediction in which events are counted, the longest last."""
        return windows_of(self.days.count, self.horizon)

    @property
    def feature_look_back_days(self) -> int:
        """How many days before a prediction the features read."""
        return Horizon(self.windows[-1], "d").days_in(self.timezone)

    @property
    def _used(self) -> list[NewColumn]:
        return [it for it in self.columns if it.use == "feature" or it.is_repeated]

    @property
    def _summed(self) -> list[NewColumn]:
        return [it for it in self._used if it.dtype.is_numeric() or it.dtype == pl.Boolean]

    @property
    def _texts(self) -> list[NewColumn]:
        return [it for it in self._used if it.dtype == pl.String]

    def because(self, what: str) -> str:
        """Return the comment of an uncertain choice about the source, or nothing."""
        doubt = self.roles.time if what == "known" else None
        return f"  # chosen because {doubt.why}" if doubt is not None and doubt.confidence == "uncertain" else ""

    def day_of(self, moment: str) -> str:
        """Return SQL of the day of a moment."""
        return day_of_sql(moment, self.timezone)

    @property
    def day_sql(self) -> str:
        """SQL over a row of the source: its day."""
        if self.found.dbt_model is not None:
            return DAY
        return f"cast({self.time.quoted} as date)" if self.time.dtype == pl.Date else self.day_of(self.time.quoted)

    @property
    def staged(self) -> list[SelectedColumn]:
        """The columns of the staging model."""
        day = SelectedColumn(DAY, DAY if self.day_sql == DAY else f"{self.day_sql} as day", "date", rules=_FILLED)
        found = [day]
        for it in self.source_columns:
            sql = it.name if it.source == it.name else f"{it.quoted} as {it.name}"
            is_key = it in self.key
            rules = ("not_null", "unique") if is_key and len(self.key) == 1 else ("not_null",)
            plain = SelectedColumn(it.name, sql, it.sql_type, rules=rules if is_key or it == self.entity else ())
            found.append(self.moment if it == self.time else plain)
        return found

    @property
    def origin_columns(self) -> list[str]:
        """The names of the columns of the dbt model of the events."""
        if self.found.dbt_model is None:
            return [it.name for it in self.staged]
        return [*dict.fromkeys([DAY, *(it.source for it in self.columns)])]

    def read(self, columns: Sequence[NewColumn] = ()) -> list[str]:
        """Return SQL of the entity, the time and other columns, over the dbt model of the events."""
        names = {self.entity.name, self.time.name, *(it.name for it in columns)}
        staged = [it for it in self.staged if it.name in names]
        return [it.sql if self.found.dbt_model else it.name for it in staged]

    @property
    def read_by_features(self) -> list[str]:
        """SQL of the columns that the features read."""
        return self.read([*self._summed, *self._texts])

    @property
    def identity(self) -> list[SelectedColumn]:
        """The entity of a prediction."""
        entity = self.entity
        return [SelectedColumn(entity.name, f"population.{entity.name}", entity.sql_type, "entity", rules=_FILLED)]

    @property
    def population_columns(self) -> list[SelectedColumn]:
        """The columns of the population, which features and outcomes share."""
        day = SelectedColumn(DAY, "population.day", "date", "context", rules=_FILLED)
        at = SelectedColumn(PREDICTED_AT, "population.predicted_at", "timestamp", "prediction_time", rules=_FILLED)
        return [*self.identity, day, at]

    @property
    def features(self) -> list[SelectedColumn]:
        """What is computed of the events before a prediction."""
        at = f"events.{self.moment.name}"
        found = [
            SelectedColumn(
                "days_since_event",
                f"extract(epoch from population.predicted_at - max({at})) / 86400 as days_since_event",
                "double",
                "feature",
            )
        ]
        *shorter, _ = self.windows
        filters = {
            days: f" filter (where {at} >= population.predicted_at - interval '{days} days')" for days in shorter
        }
        for days in self.windows:
            name, within = f"events_{days}d", filters.get(days, "")
            found.append(SelectedColumn(name, f"count({at}){within} as {name}", "bigint", "feature"))
        for column in self._summed:
            for days in self.windows:
                name, within = f"{column.name}_sum_{days}d", filters.get(days, "")
                exact = self._exact(column)
                total = f"cast(coalesce(sum({exact}){within}, 0) as double) as {name}"
                found.append(SelectedColumn(name, total, "double", "feature"))
        for column in self._texts:
            last, one = f"last_{column.name}", f"events.{column.name}"
            sql = f"last({one} order by {at}, {one}) as {last}"
            found.append(SelectedColumn(last, sql, "varchar", "feature", is_categorical=True))
        return found

    @property
    def outcomes(self) -> list[SelectedColumn]:
        """The columns of the label table."""
        day = self.day_of("population.label_known_at")
        known = SelectedColumn("label_known_at", "population.label_known_at", "timestamp", "known_time", rules=_FILLED)
        return [
            *self.identity,
            SelectedColumn(DAY, f"{day} as day", "date", "context", rules=_FILLED),
            SelectedColumn(PREDICTED_AT, "population.predicted_at", "timestamp", "event_time", rules=_FILLED),
            known,
            SelectedColumn(self.target, f"count(events.{self.moment.name}) > 0 as {self.target}", "boolean", "label"),
        ]

    def _exact(self, column: NewColumn) -> str:
        """Return SQL of a value of which sums do not depend on the order of the events, as sums of doubles do."""
        name = f"events.{column.name}"
        if column.dtype == pl.Boolean:
            return f"cast({name} as bigint)"
        if not column.dtype.is_float():
            return name
        values = self.found.rows[column.source]
        largest = figure(values.filter(values.is_finite()).abs().max())
        places = min(2 * _DIGITS, max(0, _DIGITS - math.ceil(math.log10(largest)))) if largest > 0 else _DIGITS
        return f"cast(case when isfinite({name}) then {name} end as decimal(38, {places}))"

    def _column(self, source: str) -> NewColumn:
        return next(it for it in self.columns if it.source == source)


def event_columns(rows: pl.DataFrame, roles: EventRoles) -> tuple[NewColumn, ...]:
    """Return the columns of a table of events with their uses: the entity is its group.

    Raises:
        DataError: a column has numbers that are too large for sums.
    """
    names = safe_names(rows.columns)
    keys = roles.row_key.columns if roles.row_key else ()
    uses: dict[str, Use] = {**dict.fromkeys(keys, "key"), roles.entity.value: "group", roles.time.value: "time"}
    found = []
    for it in rows:
        is_used, is_part = _is_used(it), len(keys) > 1 and uses.get(it.name) == "key"
        if is_used and it.dtype.is_float() and (large := int((it.is_finite() & (it.abs() >= _LARGEST)).sum())):
            raise DataError(
                f"column '{it.name}' of the events has numbers of {_LARGEST:g} or more in {counted(large, 'row')}; "
                "expected smaller ones, because their sums are features. If they mark missing values, remove them."
            )
        use = uses.get(it.name) or ("feature" if is_used else "left out")
        found.append(NewColumn(it.name, names[it.name], it.dtype, use, "", is_repeated=is_part and is_used))
    return tuple(found)


def _is_used(column: pl.Series) -> bool:
    """Return whether a column of an event says something about it: a number that is no code, or one of few texts."""
    if column.drop_nulls().n_unique() < 2:
        return False
    if column.dtype == pl.String:
        return column.n_unique() <= _MOST_VALUES
    is_number = column.dtype.is_numeric() or column.dtype == pl.Boolean
    return is_number and not is_named_as_key(column.name)
