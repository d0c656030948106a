"""Rebuilds features from what was known at a moment, compares them with the full build, and searches for causes.

Not here: the choice of moments and the consequences of a leak (see `ml_assets.stages.leak_test.leaktest`).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from ml_assets.contracts.changes import retyped
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT, TableContract
from ml_assets.lake.errors import WarehouseError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.landing.row_sql import with_columns
from ml_assets.logic.point_in_time.knowledge import (
    EVERYTHING,
    PARTITION,
    Event,
    Known,
    Moment,
    moments_after,
    time_expressions,
)
from ml_assets.logic.point_in_time.leak_test import Difference, Leak, chosen_times, differences
from ml_assets.models.own_features import with_own_features
from ml_assets.models.plan import ModelPlan
from ml_assets.warehouse.nodes import Node, Span, table_name
from ml_assets.warehouse.rebuild import Reach, Rebuilds, reach_of

MAX_REBUILDS = 60  # for causes; one column takes a dozen, and columns with the same cause share them
_TRIED = 3
"""Samples at which the cause of one leak is searched, because values can be equal by chance."""


@dataclass(frozen=True)
class Sample:
    """A prediction time, and the rows of its period with a prediction time up to it."""

    period: str
    at: datetime
    rows: pl.DataFrame = field(repr=False)


@dataclass(frozen=True)
class DayCuts:
    """The tested prediction times of one period.

    Attributes:
        rows: the full build of the period.
        times: the prediction times of its rows, in order.
        count: how many of them to choose.
        again: moments at which a leak was found before.
        seed: for the choice, and for the replacement of later values.
    """

    period: str
    rows: pl.DataFrame = field(repr=False)
    times: pl.Series = field(repr=False)
    count: int
    again: tuple[datetime, ...]
    seed: int


class Sources:
    """The source rows that builds read, with their known times. Samples of one day share one read."""

    def __init__(
        self, lake: Lake, manifest: Mapping[str, Any], runs: Sequence[str] = (), calendar: Calendar = DAILY
    ) -> None:
        self.lake = lake
        self.calendar = calendar
        self.runs = runs
        self.manifest = manifest
        self.contracts = contracts_from_dbt(manifest)
        self.nodes: dict[str, Node] = {**manifest["nodes"], **manifest["sources"]}
        self._lock = threading.Lock()
        self._frames: dict[ArtifactRef, pl.DataFrame] = {}

    def known(self, reach: Reach) -> dict[str, Known]:
        """Return the rows in reach with their known times, by dbt's id of the source."""
        with self._lock:
            frames = {uid: self._read(uid, span) for uid, span in reach.sources.items()}
            near = {ref for read in frames.values() for ref in read}
            self._frames = {ref: frame for ref, frame in self._frames.items() if ref in near}
        return {uid: self._known(uid, [*read.values()]) for uid, read in frames.items()}

    def _read(self, uid: str, span: Span | None) -> dict[ArtifactRef, pl.DataFrame]:
        asset = table_name(self.nodes[uid])
        keys = [""] if span is None else self.calendar.between(*span)
        refs = self.lake.newest(asset, keys, runs=self.runs)
        if not refs:
            raise DataError(f"the lake contains no data of {asset}{f' from {keys[0]} to {keys[-1]}' if span else ''}.")
        missing = [ref for ref in refs.values() if ref not in self._frames]
        read = self.lake.get_each(missing, pl.DataFrame)
        self._frames |= {
            ref: frame.with_columns(pl.lit(ref.partition or "").alias(PARTITION))
            for ref, frame in zip(missing, read, strict=True)
        }
        return {refs[key]: self._frames[refs[key]] for key in sorted(refs)}

    def _known(self, uid: str, frames: Sequence[pl.DataFrame]) -> Known:
        node = self.nodes[uid]
        contract = self.contracts[f"{node['source_name']}/{node['name']}"]
        rows = pl.concat([_whole(frame, contract) for frame in frames])
        return Known.of(
            contract, with_columns(rows, time_expressions(contract), where=contract.name, personal=contract.personal)
        )


def _whole(frame: pl.DataFrame, contract: TableContract) -> pl.DataFrame:
    """Return rows with all columns of their contract, even if an older landing did not compute them yet."""
    expressions = {column.name: column.expression for column in contract.columns if column.expression}
    late = {name: sql for name, sql in expressions.items() if name not in frame.columns}
    rows = with_columns(frame, late, where=contract.name, personal=contract.personal)
    moments = [name for name in (RECEIVED_AT, GONE_AT) if name in contract.names and name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, contract.column(name).dtype).alias(name) for name in moments)
    missing = [name for name in contract.names if name not in rows.columns]
    if missing:
        raise DataError(f"{contract.name} was landed without {', '.join(missing)}; land it again.")
    return retyped(rows, contract.schema).select(*contract.names, PARTITION)


def reach_of_period(manifest: Mapping[str, Any], plan: ModelPlan, period: str) -> Reach:
    """Return what the features of a period are built from."""
    return reach_of(manifest, plan.declaration.features.table, period, period, plan.calendar)


@dataclass(frozen=True)
class Rebuilding:
    """Rebuilds one model's features as known at a moment, and compares them with the full build."""

    plan: ModelPlan
    sources: Sources
    rebuilds: Rebuilds
    pool: ThreadPoolExecutor
    workers: int
    log: Callable[[str], None]

    @property
    def columns(self) -> list[str]:
        """The compared columns: all but the key and the day, which identify rows."""
        return [
            name for name in self.plan.features_columns if name not in {*self.plan.key, *self.plan.calendar.columns}
        ]

    def compare(self, cuts: DayCuts) -> list[tuple[Sample, tuple[Difference, ...]]]:
        """Return the differences between a day's samples and their rebuilds with another future.

        A rebuild uses what was known at the sample's time; what became known later is removed or replaced.
        """
        random = np.random.default_rng(cuts.seed)
        known = self.sources.known(self.reach(cuts.period))
        later = moments_after([*known.values()], cuts.times[0])["at"]
        found = []
        for at in dict.fromkeys([*cuts.again, *chosen_times(cuts.times, later, cuts.count, random)]):
            sample = Sample(cuts.period, at, cuts.rows.filter(pl.col(self._prediction_time) <= at))
            found.append((sample, self.differences(sample, self._in_another_future(sample, known, random))))
        return found

    def _in_another_future(
        self, sample: Sample, known: Mapping[str, Known], random: np.random.Generator
    ) -> pl.DataFrame:
        future = {uid: table.with_other_future(sample.at, random) for uid, table in known.items()}
        try:
            return self._rebuilt(sample, future)
        except (WarehouseError, DataError) as error:  # values of two rows may not fit together, such as February 31
            self.log(f"leak test: values after {sample.at} are only removed, not replaced: {error}")
            return self.build(sample, known, Moment(sample.at))

    def made_of_other_rows(self, cuts: DayCuts) -> tuple[str, ...]:
        """Return the columns that change in some row when a random half of all source rows is missing.

        Such a column is built from other rows than the prediction's own. For other columns a rebuild shows little: what
        their own row or reference data contains is known by declaration.
        """
        random = np.random.default_rng(cuts.seed)
        known = self.sources.known(self.reach(cuts.period))
        half = {uid: table.without_half(random) for uid, table in known.items()}
        sample = Sample(cuts.period, cuts.times[-1], cuts.rows)
        found = self.differences(sample, self._rebuilt(sample, half))
        return tuple(difference.column for difference in found if difference.column is not None)

    @property
    def _prediction_time(self) -> str:
        return self.plan.declaration.features.prediction_time

    def reach(self, period: str) -> Reach:
        """Return what a period is built from."""
        return reach_of_period(self.sources.manifest, self.plan, period)

    def build(self, sample: Sample, known: Mapping[str, Known], moment: Moment) -> pl.DataFrame:
        """Return the rows with a prediction time up to the sample's, built from what was known at a moment."""
        return self._rebuilt(sample, {uid: table.by(moment, n) for n, (uid, table) in enumerate(known.items())})

    def _rebuilt(self, sample: Sample, rows: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        built = self.plan.own_rows(self.rebuilds.build(self.reach(sample.period), rows))
        if (own := self.plan.declaration.features.function) is not None:
            built = with_own_features(self.plan, built, own)
        return built.filter(pl.col(self._prediction_time) <= sample.at)

    def differences(self, sample: Sample, built: pl.DataFrame) -> tuple[Difference, ...]:
        """Return the differences between a sample's rows of the full build and other rows."""
        # The latest rows come first: their prediction time is the sample's, and a difference shows the first row.
        rows = sample.rows.sort(self._prediction_time, descending=True, maintain_order=True)
        return differences(rows, built, key=[*self.plan.key, *self.plan.calendar.columns], columns=self.columns)

    def leaks(self, found: Sequence[tuple[Sample, tuple[Difference, ...]]]) -> tuple[Leak, ...]:
        """Return a leak for each column that differs in any sample, with its cause if one is found."""
        shown: dict[tuple[str | None, object], list[tuple[Sample, Difference]]] = {}
        for sample, differing in found:
            for it in differing:
                shown.setdefault((it.column, it.one if it.column is None else None), []).append((sample, it))
        searches: dict[tuple[str, datetime], _Search] = {}

        def search_at(sample: Sample) -> _Search:
            place = (sample.period, sample.at)
            if place not in searches:
                self.log(f"leak test: searching for the cause of the differences at {sample.at}")
                searches[place] = _Search(self, sample, self.sources.known(self.reach(sample.period)))
            return searches[place]

        leaks, contract = [], self.plan.features_contract
        for differing_rows in shown.values():
            tried = []
            for sample, it in differing_rows[:_TRIED]:
                left = MAX_REBUILDS - sum(len(search.built) for search in searches.values())
                cause, why = search_at(sample).cause(it, left)
                tried.append(
                    Leak(
                        column=it.column, day=sample.period, at=sample.at,
                        key={name: contract.shown(name, value) for name, value in it.key.items()},
                        built=contract.shown(it.column, it.one),
                        known=contract.shown(it.column, search_at(sample).known_value(it)),
                        rows=sum(each.rows for _, each in differing_rows), samples=len(differing_rows),
                        cause=cause, unexplained=why,
                    )
                )  # fmt: skip
                if cause is not None:
                    break
            leaks.append(next((leak for leak in tried if leak.cause is not None), tried[0]))
        return tuple(leaks)


class _Search:
    """Searches for the first later event with which one sample's value appears."""

    def __init__(self, test: Rebuilding, sample: Sample, known: Mapping[str, Known]) -> None:
        self.test = test
        self.sample = sample
        self.known = known
        self.later = moments_after([*known.values()], sample.at)
        self.built: dict[int, pl.DataFrame] = {}

    def cause(self, difference: Difference, rebuilds: int) -> tuple[Event | None, str]:
        """Return the first event after the sample's time with which the full build's value appears, or the reason.

        Args:
            difference: the column and the row.
            rebuilds: the most rebuilds to use.
        """
        low, high = 0, self.later.height
        if self._build([*dict.fromkeys([low, high])], rebuilds) and not self._holds(high, difference):
            return None, (
                "even with all source rows of its look-back, the value is "
                f"{self._value(high, difference)}: it depends on days outside the declared look-back or on the "
                "range of days in one build, or the "
                "features were built from other rows or other code"
            )
        if low in self.built and self._holds(low, difference):
            return None, (
                "it stays the same if later values are removed, and changes if they are replaced: a condition "
                "on a later value determines it"
            )
        while high in self.built and high - low > 1:
            tried = [n for n in sorted(self.built) if low < n < high]
            if not tried:
                step = (high - low) / (self.test.workers + 1)
                tried = sorted({low + max(1, round(step * n)) for n in range(1, self.test.workers + 1)} - {high})
                if not self._build(tried, rebuilds):
                    break
                rebuilds -= len(tried)
            high = next((n for n in tried if self._holds(n, difference)), high)
            low = max([n for n in tried if n < high], default=low)
        if high - low > 1 or high not in self.built:
            return None, f"the search for its cause stopped, because it would take over {MAX_REBUILDS} rebuilds"
        at, table, row = self.later.row(high - 1)
        return [*self.known.values()][table].event(row, at), ""

    def _build(self, counts: Sequence[int], rebuilds: int) -> bool:
        """Build from what was known after each number of events; return whether enough rebuilds were left."""
        missing = [count for count in counts if count not in self.built]
        if len(missing) > rebuilds:
            return False
        built = self.test.pool.map(lambda n: self.test.build(self.sample, self.known, self._moment(n)), missing)
        self.built |= dict(zip(missing, built, strict=True))
        return True

    def known_value(self, difference: Difference) -> object:
        """Return the row's value without later events or, if that is the same, in the other build."""
        if 0 not in self.built or self._holds(0, difference) or difference.column is None:
            return difference.other
        return self._value(0, difference)

    def _value(self, count: int, difference: Difference) -> object:
        row = _row(self.built[count], difference)
        return "no row" if row.is_empty() else row[difference.column][0] if difference.column else "a row"

    def _moment(self, count: int) -> Moment:
        if count == 0:
            return Moment(self.sample.at)
        if count == self.later.height:
            return EVERYTHING
        at, table, row = self.later.row(count - 1)
        return Moment(at, table, row)

    def _holds(self, count: int, difference: Difference) -> bool:
        """Return whether a build has the value of the full build."""
        row = _row(self.built[count], difference)
        if difference.column is None or row.is_empty():
            return difference.column is None and difference.one != row.is_empty()
        expected = pl.lit(difference.one, row.schema[difference.column])
        return bool(row.select(pl.col(difference.column).eq_missing(expected)).item())


def _row(built: pl.DataFrame, difference: Difference) -> pl.DataFrame:
    """Return the row of a build in which two builds differed, or no row."""
    return built.filter(pl.col(name).eq_missing(pl.lit(value)) for name, value in difference.key.items())
