"""Who is predicted and when, in a model of events, and how far back its features look."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from ml_assets.authoring.horizon import Horizon
from ml_assets.authoring.new_days import NewDays
from ml_assets.authoring.rendering import rendered
from ml_assets.authoring.zone_sql import local_sql, utc_sql
from ml_assets.contracts.words import counted

_WINDOWS: Final = (1, 7, 30, 90, 365)
_MOST_WINDOWS: Final = 3
_WINDOW_SHARE: Final = 6  # the longest window is at most this part of the days, because no row is earlier
_HORIZON_SHARE: Final = 8  # a window that is much shorter than the horizon says little about it
_FEWEST_PERIODS: Final = 10
Every = Literal["day", "week"]
_STARTS: Final[Mapping[Every, str]] = {"day": "midnight", "week": "monday"}
_DAYS: Final[Mapping[Every, int]] = {"day": 1, "week": 7}


@dataclass(frozen=True)
class EventPopulation:
    """Who is predicted, and when.

    Attributes:
        sql: a select over `events` that returns the entity and `predicted_at`.
        look_back_days: how many days before a prediction it reads.
        why: the choice, as a clause.
    """

    sql: str
    look_back_days: int
    why: str
    is_given: bool = False


def windows_of(days: int, horizon: Horizon) -> list[int]:
    """Return the windows of the features for a number of days with events: at most three, the longest last."""
    fitting = [it for it in _WINDOWS if horizon.days / _HORIZON_SHARE <= it <= days / _WINDOW_SHARE]
    return fitting[-_MOST_WINDOWS:] or [max(1, days // _WINDOW_SHARE)]


def default_population(entity: str, time: str, days: NewDays, horizon: Horizon) -> EventPopulation:
    """Return whoever had an event within the longest window, at the start of each week, or of each day if few are left.

    Rows begin when the longest window is full.
    """
    longest = windows_of(days.count, horizon)[-1]
    left = days.count - longest - 3 * horizon.days
    every: Every = "week" if horizon.days >= 7 and left >= 7 * _FEWEST_PERIODS else "day"
    start, zone = _STARTS[every], days.timezone
    values = {
        "every": every,
        "longest": longest,
        "entity": entity,
        "start": start,
        "at": utc_sql(start, zone),
        "moment": local_sql(time, zone),
        "step": counted(_DAYS[every], "day"),
        "begin": days.first + timedelta(days=longest),
    }
    why = f"whoever had an event in the {longest} days before the start of each {every}"
    sql = rendered("default_population.sql.jinja", values).rstrip()
    return EventPopulation(sql, Horizon(longest, "d").days_in(zone), why)
