"""Decides what is written for a new table: days, windows, limits, SQL expressions. Everything that a template shows."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, cast
from zoneinfo import ZoneInfo

import polars as pl

from ml_assets.authoring.columns import ROW_KEY, NewColumn, new_columns
from ml_assets.authoring.event_table import EventTable
from ml_assets.authoring.horizon import Horizon
from ml_assets.authoring.new_days import NewDays, days_of, new_days
from ml_assets.authoring.source import FoundTable
from ml_assets.authoring.zone_sql import day_of_sql, local_sql, utc_sql
from ml_assets.contracts.days import DAY, clock_of_moment
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import BY_HOUR, HOUR, Grain, why_no_hours
from ml_assets.contracts.table import ALWAYS
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.candidates import LeakFinding
from ml_assets.logic.inspection.choices import Choice
from ml_assets.logic.inspection.roles import Roles
from ml_assets.logic.inspection.strength import Outcomes, explained_alone, figure
from ml_assets.logic.inspection.threshold import Threshold
from ml_assets.logic.inspection.times import are_months
from ml_assets.logic.monitoring.drift_verdict import MOST_DAYS

_TEST_SHARE, _VALIDATION_SHARE = 0.2, 0.15
_FEWEST_DAYS: Final = 5
_DRIFT_ROWS: Final = 300  # half more than drift needs, because days differ
_FEW_ROWS: Final = 20_000
_FEW_FEATURES: Final = 10
_TRIALS: Final = ((_FEW_ROWS, 24), (1_000_000, 12), (math.inf, 6))
_SMALL_ROWS, _SMALL_CLASS = 2_000, 200  # with fewer, the interval of one fifth of the rows is too wide
FOLDS: Final = 5
# Each trial is run on every fold, within every fold of each repeat. Ten repeats take twice as long and narrow the
# intervals by 4 %. With many cells (1,000 rows of 200 columns), 12 trials and 5 repeats took 19 minutes on busy cores.
_MANY_CELLS: Final = 50_000
_TRIALS_IN_FOLDS, _TRIALS_OF_MANY_CELLS = 12, 6
_REPEATS, _REPEATS_OF_MANY_CELLS = 5, 2
# With few rows, one validation window chooses parameters by chance: see benchmarks.tuning_windows.
_WINDOWS, _MOST_CELLS_OF_WINDOWS = 3, 1_000_000
SNAPSHOT: Final = "snapshot_at"


@dataclass(frozen=True)
class NewModel:
    """A new model on a new table, complete.

    Attributes:
        name: the model's name, which its files have too.
        file: the table, as the declaration names it.
        found: the rows that the model learns from, with the format of the file.
        events: the events from which the rows are computed, if the file has events.
    """

    name: str
    file: str
    found: FoundTable
    target: str
    roles: Roles
    columns: tuple[NewColumn, ...]
    days: NewDays
    events: EventTable | None = None

    def used(self, *uses: str) -> list[NewColumn]:
        """Return the columns with some uses."""
        return [it for it in self.columns if it.use in uses]

    @property
    def left_out(self) -> dict[str, str]:
        """The columns of the table that are not used, each with the reason."""
        return {**self.found.unread, **{it.source: it.why for it in self.used("left out")}}

    @property
    def task(self) -> str:
        """The task."""
        return self.roles.task.value

    @property
    def key(self) -> list[NewColumn]:
        """The columns that identify a row: those of the source, or the one that landing adds."""
        return self.used("key") or [NewColumn(ROW_KEY, ROW_KEY, pl.String(), "key", "")]

    @property
    def has_row_key(self) -> bool:
        """Whether landing adds the key."""
        return not self.used("key")

    @property
    def source_columns(self) -> list[NewColumn]:
        """The columns of the raw table."""
        return [*(self.key if self.has_row_key else ()), *self.columns]

    @property
    def origin(self) -> str:
        """The dbt model that is read: the staging model, or the one that the table is."""
        return self.found.dbt_model or f"stg_{self.name}"

    @property
    def personal(self) -> frozenset[str]:
        """The columns of the dbt models with personal values."""
        return frozenset(it.name for it in self.columns if it.source in self.found.personal)

    @property
    def label(self) -> NewColumn:
        """The target."""
        return next(it for it in self.columns if it.source == self.target)

    @property
    def time(self) -> NewColumn | None:
        """The column with the time of the event; None if the table is a snapshot."""
        at = self.roles.time
        return None if at is None else next(it for it in self.columns if it.source == at.value)

    @property
    def event(self) -> str:
        """The column with the time of the event in the dbt models."""
        return SNAPSHOT if self.time is None else self.time.name

    @property
    def event_sql(self) -> str:
        """SQL over a row of the source: the time of the event."""
        if self.time is None:
            return utc_sql(f"timestamp '{self.days.last}'", self.days.timezone)
        return self._source_moment(self.time)

    def moment_sql(self, column: NewColumn, sql: str, later: str = "") -> str:
        """Return SQL for the moment of a time, or for the first moment of a date in the time zone of the days.

        Args:
            column: the column of the table.
            sql: the column in the dbt model.
            later: SQL that adds an interval.
        """
        at = f"cast({sql} as timestamp){later}"
        return utc_sql(at, self.days.timezone) if column.dtype == pl.Date else at

    def _source_moment(self, column: NewColumn) -> str:
        return self.moment_sql(column, column.quoted)

    @property
    def local_event(self) -> str:
        """SQL over a row of the staging table: what clocks of the time zone of the days show at the event."""
        return local_sql(self.event, self.days.timezone)

    @property
    def day_sql(self) -> str:
        """SQL over a row of the source: its day."""
        if self.found.dbt_model is not None:
            return DAY
        if self.time is None:
            return f"date '{self.days.last}'"
        if self.time.dtype == pl.Date:
            return f"cast({self.time.quoted} as date)"
        return day_of_sql(self.time.quoted, self.days.timezone)

    @property
    def features(self) -> list[NewColumn]:
        """The columns that become features as they are."""
        uses = ("feature", "group") if self.time is not None and self.query is None else ("feature",)
        return [it for it in self.columns if (it.use in uses or it.is_repeated) and not it.is_time]

    @property
    def group(self) -> NewColumn | None:
        """The column of the group; None if there is none."""
        named = self.roles.group
        return None if named is None else next(it for it in self.columns if it.source == named.value)

    @property
    def query(self) -> NewColumn | None:
        """The column within whose values rows are ranked; None if the task is no ranking."""
        return None if self.roles.query is None else self.group

    @property
    def times(self) -> list[NewColumn]:
        """The dates and times of which the age becomes a feature."""
        return [it for it in self.used("feature") if it.is_time]

    @property
    def has_months(self) -> bool:
        """Whether every event is on the first day of a month."""
        return self.time is not None and are_months(self.found.rows[self.time.source])

    @property
    def has_hours(self) -> bool:
        """Whether events have a time of day."""
        if self.time is None or self.time.dtype == pl.Date:
            return False
        clock = clock_of_moment(pl.col(self.time.source), self.days.timezone)
        return bool((self.found.rows.select(clock).to_series() != datetime.min.time()).any())

    @property
    def row_known(self) -> str:
        """SQL over a row of the source: when the row could first be known."""
        known = self.roles.known
        if known is None:
            return ALWAYS
        return self._source_moment(next(it for it in self.columns if it.source == known.value))

    @property
    def predicted(self) -> str:
        """SQL over a row of the source: when the prediction is made."""
        at = self.event_sql
        return at if self.row_known in (at, ALWAYS) else f"greatest({at}, {self.row_known})"

    @property
    def label_known(self) -> str:
        """SQL over a row of the source: when the label is known."""
        if self.roles.label_known is None:
            return self.event_sql
        value = self.roles.label_known.value
        for it in self.columns:
            if it.source == value:
                return self._source_moment(it)
        later = f" + interval '{Horizon.of(value).words}'"
        if self.time is not None and self.predicted == self.event_sql:
            return self.moment_sql(self.time, self.time.quoted, later)  # days after a date are those of the calendar
        return f"{self.predicted}{later}"

    @property
    def is_label_open(self) -> bool:
        """Whether rows may have no label yet: the column that says when it was known has missing values."""
        value = self.roles.label_known.value if self.roles.label_known else ""
        return value in self.found.rows.columns and bool(self.found.rows[value].null_count())

    @property
    def _waited(self) -> pl.Series:
        """Days after the day of the event on which the label of each row is known; of the horizon, one number."""
        if self.roles.label_known is None or self.time is None:
            return pl.Series([0.0])
        value = self.roles.label_known.value
        if value in self.found.rows.columns:
            rows, zone = self.found.rows, self.days.timezone
            waited = days_of(rows[value], zone) - days_of(rows[self.time.source], zone)
            return waited.dt.total_days().cast(pl.Float64)
        return pl.Series([float(Horizon.of(value).days_in(self.days.timezone))])

    @property
    def maturity_days(self) -> int:
        """Days after the day of the event in which a label becomes known: for a column, those of 99 % of the rows."""
        return max(0, math.ceil(figure(self._waited.quantile(0.99))))

    @property
    def waiting_days(self) -> int:
        """Days at the end of each part whose labels are usually not known then; a single day is within rounding."""
        days = math.ceil(figure(self._waited.mean()))
        return days if days > 1 else 0

    @property
    def label_sql(self) -> str:
        """SQL over a row of the staging table: the target as a label."""
        name, positive = self.label.name, self.roles.positive
        if self.task == "binary":
            if self.label.dtype == pl.Boolean:
                return name if positive is None or positive.value.lower() == "true" else f"not {name}"
            assert positive is not None  # noqa: S101 - each binary task has one
            if threshold := Threshold.of(positive.value, self.found.rows[self.target]):
                return f"{name} {threshold}"
            value = positive.value if self.label.dtype.is_numeric() else "'" + positive.value.replace("'", "''") + "'"
            return f"{name} = {value}"
        if self.task == "ranking":
            return name if self.label.dtype == pl.Int64 else f"cast({name} as bigint)"
        return name if self.task == "multiclass" or self.label.dtype == pl.Float64 else f"cast({name} as double)"

    @property
    def label_type(self) -> str:
        """The type of the label."""
        return {"binary": "boolean", "regression": "double", "ranking": "bigint"}.get(self.task, self.label.sql_type)

    @property
    def metric(self) -> str:
        """The deciding metric."""
        return self.roles.metric.value

    @property
    def objective(self) -> dict[str, str]:
        """The field `objective` of the declaration: the loss of the deciding metric, if it is not the task's own.

        A target without negative values is learned on the scale of its logarithm, of which the median is the same one.
        """
        if self.metric != "mae":
            return {}
        is_positive = figure(self.found.rows[self.target].cast(pl.Float64).min()) >= 0
        return {"loss": "mae"} | ({"transform": "log1p"} if is_positive else {})

    @property
    def margin(self) -> float:
        """The margin of the gate: 0.005 of a share, or 1 % of the target's standard deviation."""
        if self.task != "regression":
            return 0.005
        return _rounded(figure(self.found.rows[self.target].cast(pl.Float64).std()) / 100)

    @property
    def slice_margin(self) -> float:
        """The margin of the gate within a slice, which has fewer rows."""
        return _rounded(3 * self.margin)

    @property
    def pool_days(self) -> int:
        """Days that are judged together, so that drift has the rows that it needs."""
        return min(MOST_DAYS, max(1, math.ceil(_DRIFT_ROWS * self.days.count / self.found.rows.height)))

    @property
    def labelled_days(self) -> int:
        """Days whose rows can be learned from or tested: train, validation and test each lose those that wait."""
        return self.days.count - 3 * self.waiting_days

    @property
    def _days_apart(self) -> float:
        """The mean number of days between days with rows."""
        assert self.time is not None  # noqa: S101 - asked of a table with a time
        return self.days.count / days_of(self.found.rows[self.time.source], self.days.timezone).n_unique()

    @property
    def validation_days(self) -> int:
        """Days of the validation window."""
        fewest = max(2, math.ceil(self._days_apart))
        return max(fewest, round(_VALIDATION_SHARE * self.labelled_days)) + self.waiting_days

    @property
    def test_days(self) -> int:
        """Days of the test window, of which the gate compares those with rows."""
        fewest = math.ceil(_FEWEST_DAYS * self._days_apart)
        return max(fewest, round(_TEST_SHARE * self.labelled_days)) + self.waiting_days

    @property
    def split(self) -> dict[str, object]:
        """The field `split` of the declaration."""
        if self.time is not None:
            windows: dict[str, object] = {"validation_days": self.validation_days, "test_days": self.test_days}
            # The queries of a ranking are left out with the day of their first row.
            return windows if self.group is None or self.query is not None else {"group": self.group.name, **windows}
        folds: dict[str, object] = {"folds": FOLDS, "repeats": self.repeats} if self.few else {}
        if self.group is None:
            return {"by": "random", **folds}
        return {"by": "group", "group": self.group.name, **folds}

    @property
    def few(self) -> str:
        """Why a table without a time is tested in folds, as a noun with its number; empty if not, as for a ranking."""
        rows, group = self.found.rows, self.roles.group
        if (
            self.time is not None
            or self.query is not None
            or (group is not None and rows[group.value].n_unique() < FOLDS)
        ):
            return ""
        labels = rows[self.target].drop_nulls()
        if labels.len() < _SMALL_ROWS:
            return f"{counted(labels.len(), 'row')}, fewer than {_SMALL_ROWS:,}"
        rarer = self.rows_of_rarer_class
        return f"{rarer:,.0f} rows of the rarer class, fewer than {_SMALL_CLASS}" if rarer < _SMALL_CLASS else ""

    @cached_property
    def rows_of_rarer_class(self) -> float:
        """The number of rows of the rarer of two classes; infinite for another task."""
        if self.task != "binary":
            return math.inf
        outcomes = self.roles.outcomes(self.found.rows[self.target].drop_nulls())
        return figure(outcomes.value_counts()["count"].min())

    @property
    def test_rows(self) -> pl.DataFrame:
        """The rows of the test window; of a snapshot, as many as its share, or all if they are tested in folds."""
        rows = self.roles.counted(self.found.rows)
        if self.few:
            return rows
        if self.time is None:
            return rows.gather_every(round(1 / _TEST_SHARE))
        at = days_of(rows[self.time.source], self.days.timezone)
        last = self.days.last - timedelta(days=self.maturity_days)
        return rows.filter(at.is_between(last - timedelta(days=self.test_days - self.waiting_days - 1), last))

    @property
    def min_rows(self) -> int:
        """Test rows that a promotion needs: half of those of the first training, at most the default."""
        return max(1, min(500, self.test_rows.height // 2))

    @property
    def is_small(self) -> bool:
        """Whether a second thread would only wait for the first."""
        return self.found.rows.height <= _FEW_ROWS

    @property
    def has_many_cells(self) -> bool:
        """Whether rows and features are so many that the folds of a repeated cross-validation would take long."""
        return self.found.rows.height * len(self.features) > _MANY_CELLS

    @property
    def windows(self) -> int:
        """The number of validation windows on which trials are judged: several if rows are few and columns not many."""
        has_few = self.is_small and self.found.rows.height * len(self.features) <= _MOST_CELLS_OF_WINDOWS
        return _WINDOWS if self.time is not None and has_few else 1

    @property
    def repeats(self) -> int:
        """How often the rows are dealt into folds."""
        return _REPEATS_OF_MANY_CELLS if self.has_many_cells else _REPEATS

    @property
    def trials(self) -> int:
        """The number of trials: fewer for a large table, and for one that is tested in folds."""
        if self.few:
            return _TRIALS_OF_MANY_CELLS if self.has_many_cells else _TRIALS_IN_FOLDS
        return next(trials for rows, trials in _TRIALS if self.found.rows.height <= rows)

    @property
    def tuning(self) -> dict[str, object]:
        """The field `tuning` of the declaration. On small tables, trials that the log loss rates give better models.

        See `benchmarks.tuning_metric` and `benchmarks.tuning_windows`. A tree without one of few features misses what
        they do together.
        """
        found: dict[str, object] = {"trials": self.trials, "max_rounds": 1000}
        found |= {"metric": "log_loss"} if self.task == "binary" else {}
        found |= {"windows": self.windows} if self.windows > 1 else {}
        return found | ({"fixed": {"feature_fraction": 1.0}} if len(self.features) < _FEW_FEATURES else {})

    def baseline(self) -> str | None:
        """Return the feature with few values that predicts best by the mean label of each.

        None if there is none, and for a ranking, in which values that a query shares order nothing.
        """
        if self.query is not None:
            return None
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
        return f"  # chosen because {' '.join(choice.why.split())}"


def new_model(
    name: str, found: FoundTable, target: str, roles: Roles, leaks: Sequence[LeakFinding], *, file: str, timezone: str,
    codes: Collection[str] = (),
) -> NewModel:  # fmt: skip
    """Return what is written for a new model. The whole numbers of `codes` are categories."""
    columns = new_columns(found.rows, target, roles, leaks, codes)
    today, grain = datetime.now(tz=ZoneInfo(timezone)).date(), cast("Grain", roles.grain.value)
    if grain == BY_HOUR:
        _check_hours(found, roles, timezone)
        columns = tuple(replace(it, name=f"source_{HOUR}") if it.name == HOUR else it for it in columns)
    if roles.time is None:
        snapshot = min(found.written or today, today - timedelta(days=1))
        return NewModel(name, file, found, target, roles, columns, NewDays(snapshot, snapshot, grain, timezone))
    days = new_days(found.rows[roles.time.value], today, grain, timezone)
    return NewModel(name, file, found, target, roles, columns, days)


def _check_hours(found: FoundTable, roles: Roles, timezone: str) -> None:
    """Refuse partitions by the hour where no row states its hour.

    Raises:
        DataError: the table is a dbt model or has no timestamps, or the time zone has no days of hours.
    """
    wanted = "--partition is 'hour', which needs a file with a column of timestamps that says when a row happened"
    if found.dbt_model is not None:
        raise DataError(f"{wanted}, but the table is a dbt model; expected another period, such as --partition day.")
    if roles.time is None or found.rows.schema[roles.time.value] == pl.Date:
        what = "the table has none" if roles.time is None else f"'{roles.time.value}' has dates"
        raise DataError(f"{wanted}, but {what}. Name such a column with --time, or give --partition day.")
    first = found.rows[roles.time.value].cast(pl.Datetime("us")).min()
    if isinstance(first, datetime) and (why := why_no_hours(timezone, first.date())) is not None:
        raise DataError(
            f"--partition is 'hour', but the time zone {timezone} {why}; expected "
            "--partition day, or a project in another time zone."
        )


def _rounded(number: float) -> float:
    return float(f"{number:.2g}")
