"""Which column is the time of the prediction, when a row and its label are known, and the length of a partition."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

import polars as pl

from ml_assets.contracts.days import moments_of
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import Grain
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.choices import Choice, Given
from ml_assets.logic.inspection.strength import figure

_LATER_NAME: Final = re.compile(
    r"(?i)(end|close|updat|modif|deliver|return|resolv|settl|cancel|finish|complet|due|expir)"
)
_HISTORY_NAME: Final = re.compile(r"(?i)(since|birth|born|dob(_|$)|founded|joined|sign.?up|hired|seit|geburt)")
_KNOWN_NAME: Final = re.compile(
    r"(?i)(known|available|published|received|loaded|ingested|recorded|reported)_?(at|on|time|date)?$"
)
_HOUR: Final = 3_600_000_000
_SEVERAL_YEARS: Final = 5 * 365
_FEW_MISSING: Final = 0.1
_MONTH: Final = "31d"
_MUCH_LONGER: Final = 2
_DAYS: Final[Mapping[Grain, float]] = {"day": 1, "week": 7, "month": 30.4, "year": 365}
ROWS_PER_PERIOD: Final = 50
ROWS_PER_MONTH: Final = 15
MOST_PERIODS: Final = 1_000


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


def check_times(times: pl.Series, now: datetime, unit: Literal["row", "event"] = "row") -> None:
    """Raise an error if a row or an event has no time, or one in the future.

    Raises:
        DataError: it has.
    """
    if times.null_count():
        raise DataError(
            f"time '{times.name}' is missing in {times.null_count():,} of {counted(times.len(), unit)}; expected one "
            f"in every {unit}, because without a time it belongs to no day. Correct or remove these {unit}s."
        )
    later = times.filter(times.cast(pl.Datetime("us")) > now + timedelta(days=1))
    if later.len():
        expected = "times at which a prediction was made" if unit == "row" else "events that have happened"
        raise DataError(
            f"time '{times.name}' lies in the future in {counted(later.len(), unit)}, the latest is {later.max()!s}; "
            f"expected {expected}. Name another column with --time, or remove these {unit}s."
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


def known_of(rows: pl.DataFrame, given: str | None, time: Choice | None, timezone: str) -> Choice | None:
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


def label_known_of(rows: pl.DataFrame, given: Given, time: Choice | None) -> Choice | None:
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


def inferred_grain(rows: pl.DataFrame, given: Grain | None, time: Choice | None) -> Choice:
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
