"""Decides what is written for a new table: days, windows, limits, SQL expressions. Everything that a template shows."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl

from ml_assets.authoring.columns import NewColumn, new_columns
from ml_assets.authoring.source import FoundTable
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.guards import LeakFinding
from ml_assets.logic.inspection.roles import Choice, Roles
from ml_assets.logic.inspection.strength import Outcomes, explained_alone

_HORIZON: Final = re.compile(r"(\d+)\s*(h|d|w)")
_DAYS_OF: Final = {"h": 1 / 24, "d": 1, "w": 7}
_UNITS: Final = {"h": "hour", "d": "day", "w": "week"}
_TEST_SHARE, _VALIDATION_SHARE = 0.2, 0.15
_FEWEST_DAYS: Final = 5
_MOST_POOLED: Final = 92
_DRIFT_ROWS: Final = 200
_OPEN_DAYS: Final = 10
_MANY_ROWS: Final = 100_000


@dataclass(frozen=True)
class NewSplit:
    """The days of a new model and how they are split."""

    first: date
    last: date
    is_open: bool
    validation: int
    test: int

    @property
    def days(self) -> int:
        """The number of days."""
        return (self.last - self.first).days + 1


@dataclass(frozen=True)
class NewModel:
    """A new model on a new table, complete.

    Attributes:
        name: the model's name, which its files have too.
        file: the table, as the declaration names it.
        timezone: the time zone of the project's days.
    """

    name: str
    file: str
    found: FoundTable
    target: str
    roles: Roles
    columns: tuple[NewColumn, ...]
    window: NewSplit
    timezone: str = "UTC"

    def used(self, *uses: str) -> list[NewColumn]:
        """Return the columns with some uses."""
        return [it for it in self.columns if it.use in uses]

    @property
    def task(self) -> str:
        """The task."""
        return self.roles.task.value

    @property
    def key(self) -> list[NewColumn]:
        """The columns that identify a row."""
        return self.used("key")

    @property
    def label(self) -> NewColumn:
        """The target."""
        return next(it for it in self.columns if it.source == self.target)

    @property
    def time(self) -> NewColumn:
        """The column with the time of the event."""
        assert self.roles.time is not None  # noqa: S101 - checked before a plan is made
        return next(it for it in self.columns if it.source == self.roles.time.value)

    @property
    def features(self) -> list[NewColumn]:
        """The columns that become features as they are."""
        return [it for it in self.used("feature", "group") if not it.is_time]

    @property
    def times(self) -> list[NewColumn]:
        """The dates and times of which the age becomes a feature."""
        return [it for it in self.used("feature") if it.is_time]

    @property
    def has_hours(self) -> bool:
        """Whether events have a time of day."""
        return self.time.dtype != pl.Date and bool(
            (self.found.rows[self.time.source].dt.time() != datetime.min.time()).any()
        )

    @property
    def row_known(self) -> str:
        """SQL over a row of the source: when the row could first be known."""
        known = self.roles.known
        column = next(it for it in self.columns if known is not None and it.source == known.value)
        return f"cast({column.quoted} as timestamp)"

    @property
    def predicted(self) -> str:
        """SQL over a row of the source: when the prediction is made."""
        at = f"cast({self.time.quoted} as timestamp)"
        return at if self.row_known == at else f"greatest({at}, {self.row_known})"

    @property
    def label_known(self) -> str:
        """SQL over a row of the source: when the label is known."""
        assert self.roles.label_known is not None  # noqa: S101 - present if there is a time
        value = self.roles.label_known.value
        for it in self.columns:
            if it.source == value:
                return f"cast({it.quoted} as timestamp)"
        number, unit = _horizon(value)
        return f"{self.predicted} + interval '{counted(number, _UNITS[unit])}'"

    @property
    def maturity_days(self) -> int:
        """Days after the day of the event in which a label becomes known: for a column, those of 99 % of the rows."""
        value = self.roles.label_known.value if self.roles.label_known else "1d"
        if value in self.found.rows.columns:
            waited = self.found.rows.select(
                (
                    pl.col(value).cast(pl.Datetime("us")).dt.date()
                    - pl.col(self.time.source).cast(pl.Datetime("us")).dt.date()
                ).dt.total_days()
            ).to_series()
            return max(0, math.ceil(float(waited.quantile(0.99) or 0.0)))
        number, unit = _horizon(value)
        return math.ceil(number * _DAYS_OF[unit])

    @property
    def label_sql(self) -> str:
        """SQL over a row of the staging table: the target as a label."""
        name, positive = self.label.name, self.roles.positive
        if self.task == "binary":
            if self.label.dtype == pl.Boolean:
                return name if positive is None or positive.value.lower() == "true" else f"not {name}"
            assert positive is not None  # noqa: S101 - each binary task has one
            value = positive.value if self.label.dtype.is_numeric() else "'" + positive.value.replace("'", "''") + "'"
            return f"{name} = {value}"
        return name if self.task == "multiclass" or self.label.dtype == pl.Float64 else f"cast({name} as double)"

    @property
    def label_type(self) -> str:
        """The type of the label."""
        return {"binary": "boolean", "regression": "double"}.get(self.task, self.label.sql_type)

    @property
    def metric(self) -> str:
        """The deciding metric."""
        return self.roles.metric.value

    @property
    def margin(self) -> float:
        """The margin of the gate: 0.005 of a share, or 1 % of the target's standard deviation."""
        if self.task != "regression":
            return 0.005
        spread = float(self.found.rows[self.target].cast(pl.Float64).std() or 0.0)  # type: ignore[arg-type]
        return float(f"{spread / 100:.2g}")

    @property
    def pool_days(self) -> int:
        """Days that are judged together, so that drift has 200 rows."""
        return min(_MOST_POOLED, max(1, math.ceil(_DRIFT_ROWS * self.window.days / self.found.rows.height)))

    @property
    def test_rows(self) -> pl.DataFrame:
        """The rows of the test window."""
        at = pl.col(self.time.source).cast(pl.Date)
        start = self.window.last - timedelta(days=self.window.test + self.maturity_days - 1)
        return self.found.rows.filter(at.is_between(start, self.window.last - timedelta(days=self.maturity_days)))

    @property
    def min_rows(self) -> int:
        """Test rows that a promotion needs: half of those of the first training, at most the default."""
        return max(1, min(500, self.test_rows.height // 2))

    @property
    def trials(self) -> int:
        """The number of trials: fewer for a large table."""
        return 12 if self.found.rows.height <= _MANY_ROWS else 6

    def baseline(self) -> str | None:
        """Return the feature with few values that predicts best by the mean label of each; None if there is none."""
        rows = self.found.rows.filter(pl.col(self.target).is_not_null())
        few = {it.source: it.name for it in self.features if 2 <= rows[it.source].n_unique() <= 50}
        if not few:
            return None
        outcomes = Outcomes.of(self.roles.outcomes(rows[self.target]), self.roles.kind)
        return few[next(iter(explained_alone(rows, [*few], outcomes)))]

    def because(self, what: str) -> str:
        """Return the comment of an uncertain choice, or nothing."""
        choice: Choice | None = self.roles.choices.get(what)
        if choice is None or choice.confidence in ("given", "sure"):
            return ""
        return f"  # chosen because {choice.why}"


def new_model(
    name: str,
    found: FoundTable,
    target: str,
    roles: Roles,
    findings: Sequence[LeakFinding],
    *,
    file: str,
    timezone: str,
) -> NewModel:
    """Return what is written for a new model.

    Raises:
        DataError: the table has no time, or nothing identifies a row.
    """
    if roles.key is None:
        raise DataError(
            "no column, and no three columns together, are different in every row. Name the columns that identify a "
            "row with --key A,B, or remove duplicate rows."
        )
    if roles.time is None:
        raise DataError(
            "the table has no column in which every value is a time, and models of tables without time are not "
            "possible yet. If a column is the time in a format of its own, write it as ISO 8601 and name it: --time."
        )
    columns = new_columns(found.rows, target, roles, findings)
    window = _new_split(found.rows[roles.time.value], datetime.now(tz=ZoneInfo(timezone)).date())
    return NewModel(name, file, found, target, roles, columns, window, timezone)


def _new_split(times: pl.Series, today: date) -> NewSplit:
    days = times.cast(pl.Date)
    first, last = days.min(), days.max()
    assert isinstance(first, date)  # noqa: S101 - a column of times without nulls
    assert isinstance(last, date)  # noqa: S101
    count = (last - first).days + 1
    is_open = last + timedelta(days=_OPEN_DAYS) >= today
    test = max(_FEWEST_DAYS, round(_TEST_SHARE * count))
    return NewSplit(first, last, is_open, max(2, round(_VALIDATION_SHARE * count)), test)


def _horizon(text: str) -> tuple[int, str]:
    found = _HORIZON.fullmatch(text)
    if found is None:
        raise DataError(
            f"--horizon is '{text}'; expected a whole number of hours, days or weeks, such as 12h, 30d or 2w."
        )
    return int(found[1]), found[2]
