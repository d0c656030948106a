"""Features rebuilt from what was known at a moment, compared with the full build, and the search for what differs.

Which moments are looked at and what a leak leads to stays out; see `ml_assets.stages.common.leaktest`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import polars as pl

from ml_assets.contracts.changes import widened
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT, TableContract
from ml_assets.logic.knowledge import (
    EVERYTHING,
    PARTITION,
    Event,
    Known,
    Moment,
    moments_after,
    time_expressions,
)
from ml_assets.logic.leaks import Difference, Leak, differences
from ml_assets.stages.common.plan import DAY, ModelPlan, days_between
from resources.lake import Lake
from resources.manifest import ArtifactRef
from resources.rebuild import Reach, Rebuilds, reach_of
from resources.row_sql import with_columns
from resources.warehouse import Node, table_name

MAX_REBUILDS = 60  # for causes; one column takes a dozen, and columns of one cause share them


@dataclass(frozen=True)
class Sample:
    """A prediction time, and the rows of its day that had been asked for by then."""

    day: date
    at: datetime
    rows: pl.DataFrame = field(repr=False)


class Sources:
    """The source rows that builds reach, with their known times; a day is fetched once for samples side by side."""

    def __init__(self, lake: Lake, manifest: Mapping[str, Any]) -> None:
        self.lake = lake
        self.manifest = manifest
        self.contracts = contracts_from_dbt(manifest)
        self.nodes: dict[str, Node] = {**manifest["nodes"], **manifest["sources"]}
        self._lock = threading.Lock()
        self._frames: dict[ArtifactRef, pl.DataFrame] = {}

    def known(self, reach: Reach) -> dict[str, Known]:
        """Return the rows in reach beside their known times, by dbt's id of the source."""
        with self._lock:
            frames = {uid: self._read(uid, span) for uid, span in reach.sources.items()}
            near = {ref for read in frames.values() for ref in read}
            self._frames = {ref: frame for ref, frame in self._frames.items() if ref in near}
        return {uid: self._known(uid, [*read.values()]) for uid, read in frames.items()}

    def _read(self, uid: str, span: tuple[date, date] | None) -> dict[ArtifactRef, pl.DataFrame]:
        asset = table_name(self.nodes[uid])
        keys = [""] if span is None else [str(day) for day in days_between(*span)]
        refs = self.lake.newest(asset, keys, runs=self.lake.runs)
        if not refs:
            raise DataError(f"the lake holds nothing of {asset}{f' from {keys[0]} to {keys[-1]}' if span else ''}.")
        missing = [ref for ref in refs.values() if ref not in self._frames]
        read = self.lake.get_each(missing, pl.DataFrame, noted=False)
        self._frames |= {
            ref: frame.with_columns(pl.lit(ref.partition or "").alias(PARTITION))
            for ref, frame in zip(missing, read, strict=True)
        }
        return {refs[key]: self._frames[refs[key]] for key in sorted(refs)}

    def _known(self, uid: str, frames: Sequence[pl.DataFrame]) -> Known:
        node = self.nodes[uid]
        contract = self.contracts[f"{node['source_name']}/{node['name']}"]
        rows = pl.concat([_whole(frame, contract) for frame in frames])
        return Known.of(contract, with_columns(rows, time_expressions(contract), where=contract.name))


def _whole(frame: pl.DataFrame, contract: TableContract) -> pl.DataFrame:
    """Return rows with all columns of their contract, also where an older landing did not compute them yet."""
    expressions = {column.name: column.expression for column in contract.columns if column.expression}
    late = {name: sql for name, sql in expressions.items() if name not in frame.columns}
    rows = with_columns(frame, late, where=contract.name)
    moments = [name for name in (RECEIVED_AT, GONE_AT) if name in contract.names and name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, contract.column(name).dtype).alias(name) for name in moments)
    missing = [name for name in contract.names if name not in rows.columns]
    if missing:
        raise DataError(f"{contract.name} was landed without {', '.join(missing)}; land it again.")
    return widened(rows, contract.schema).select(*contract.names, PARTITION)


@dataclass(frozen=True)
class Rebuilding:
    """Rebuilds of one model's features as known at a moment, compared with the full build."""

    plan: ModelPlan
    sources: Sources
    rebuilds: Rebuilds
    pool: ThreadPoolExecutor
    workers: int

    @property
    def columns(self) -> list[str]:
        """What is compared: everything but the key and the day, by which rows are found."""
        return [name for name in self.plan.features_columns if name not in {*self.plan.key, DAY}]

    def compare(self, sample: Sample) -> tuple[Difference, ...]:
        """Return how the rows of a sample differ from those built from what was known at its time."""
        known = self.sources.known(self.reach(sample))
        return self.differences(sample, self.build(sample, known, Moment(sample.at)))

    def reach(self, sample: Sample) -> Reach:
        """Return what the sample's day is made of."""
        return reach_of(self.sources.manifest, self.plan.declaration.features.table, sample.day, sample.day)

    def build(self, sample: Sample, known: Mapping[str, Known], moment: Moment) -> pl.DataFrame:
        """Return the rows that could be asked for by a sample's time, built from what was known at a moment."""
        cut = {uid: table.by(moment, number) for number, (uid, table) in enumerate(known.items())}
        built = self.rebuilds.build(self.reach(sample), cut)
        return built.filter(pl.col(self.plan.declaration.features.prediction_time) <= sample.at)

    def differences(self, sample: Sample, built: pl.DataFrame) -> tuple[Difference, ...]:
        """Return how the full build's rows of a sample differ from others."""
        return differences(sample.rows, built, key=[*self.plan.key, DAY], columns=self.columns)

    def leaks(
        self, found: Sequence[tuple[Sample, tuple[Difference, ...]]], say: Callable[[str], None]
    ) -> tuple[Leak, ...]:
        """Return a leak for each column that differs in any sample, with its cause."""
        first: dict[tuple[str | None, object], tuple[Sample, Difference]] = {}
        rows: dict[tuple[str | None, object], list[int]] = {}
        for sample, differing in found:
            for difference in differing:
                what = (difference.column, difference.one if difference.column is None else None)
                first.setdefault(what, (sample, difference))
                rows.setdefault(what, []).append(difference.rows)
        searches: dict[datetime, _Search] = {}
        leaks = []
        for what, (sample, difference) in first.items():
            if sample.at not in searches:
                say(f"what gave {difference.column or 'rows'} away at {sample.at}?")
                searches[sample.at] = _Search(self, sample, self.sources.known(self.reach(sample)))
            spent = sum(len(search.built) for search in searches.values())
            cause, unexplained = searches[sample.at].cause(difference, MAX_REBUILDS - spent)
            leaks.append(
                Leak(
                    column=difference.column, at=sample.at, key=difference.key, built=difference.one,
                    known=difference.other, rows=sum(rows[what]), samples=len(rows[what]), cause=cause,
                    unexplained=unexplained,
                )
            )  # fmt: skip
        return tuple(leaks)


class _Search:
    """The search for what gave columns away at one sample: how much of what came later must be known for the value?"""

    def __init__(self, test: Rebuilding, sample: Sample, known: Mapping[str, Known]) -> None:
        self.test = test
        self.sample = sample
        self.known = known
        self.later = moments_after([*known.values()], sample.at)
        self.built: dict[int, pl.DataFrame] = {}

    def cause(self, difference: Difference, rebuilds: int) -> tuple[Event | None, str]:
        """Return the first event after the sample's time with which the full build's value comes about, or why not.

        Args:
            difference: the column and the row.
            rebuilds: how many rebuilds it may cost.
        """
        low, high = 0, self.later.height
        if self._build([high], rebuilds) and not self._holds(high, difference):
            row = _row(self.built[high], difference)
            value = "no row" if row.is_empty() else row[difference.column][0] if difference.column else "a row"
            return None, (
                f"even with all that the sources hold of its look-back it comes out as {value}: it depends on days "
                "outside the look-back that is declared or on the range it is built in, or the features were built "
                "from other rows or other code"
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
            return None, f"its cause was not searched for to the end, which would take over {MAX_REBUILDS} rebuilds"
        at, table, row = self.later.row(high - 1)
        return [*self.known.values()][table].event(row, at), ""

    def _build(self, counts: Sequence[int], rebuilds: int) -> bool:
        """Build from what was known after each number of events; tell whether that could be afforded."""
        missing = [count for count in counts if count not in self.built]
        if len(missing) > rebuilds:
            return False
        built = self.test.pool.map(lambda n: self.test.build(self.sample, self.known, self._moment(n)), missing)
        self.built |= dict(zip(missing, built, strict=True))
        return True

    def _moment(self, count: int) -> Moment:
        if count == self.later.height:
            return EVERYTHING
        at, table, row = self.later.row(count - 1)
        return Moment(at, table, row)

    def _holds(self, count: int, difference: Difference) -> bool:
        """Tell whether a build has what the full build has."""
        row = _row(self.built[count], difference)
        if difference.column is None or row.is_empty():
            return difference.column is None and difference.one != row.is_empty()
        expected = pl.lit(difference.one, row.schema[difference.column])
        return bool(row.select(pl.col(difference.column).eq_missing(expected)).item())


def _row(built: pl.DataFrame, difference: Difference) -> pl.DataFrame:
    """Return the row of a build, or none, in which two builds differed."""
    return built.filter(pl.col(name).eq_missing(pl.lit(value)) for name, value in difference.key.items())
