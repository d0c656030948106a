"""The leak test: features built from what was known at sampled prediction times, held against those in the lake.

What was known when and what counts as a difference stays out, see `ml_assets.logic`; so does running dbt, see
`resources.rebuild`. The check of the features stage and the command share it.
"""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from pydantic import JsonValue

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.table import RECEIVED_AT, TableContract
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
from ml_assets.stages.common import DAY, ModelPlan, days_between
from resources.lake import Lake
from resources.manifest import ArtifactRef
from resources.rebuild import Reach, Rebuilds, reach_of
from resources.row_sql import with_columns
from resources.warehouse import Node, table_name

CHECK = "features_are_as_known_at_their_prediction_time"
MAX_REBUILDS = 60  # for causes; one column takes a dozen, and columns of one cause share them
_WORKERS = 2
_LISTED = 10


@dataclass(frozen=True)
class Sample:
    """A prediction time, and the rows of its day that had been asked for by then."""

    day: date
    at: datetime
    rows: pl.DataFrame = field(repr=False)


@dataclass(frozen=True)
class LeakReport:
    """What the leak test found."""

    model: str
    samples: tuple[Sample, ...]
    leaks: tuple[Leak, ...]

    @property
    def rows(self) -> int:
        """How many rows were compared."""
        return sum(sample.rows.height for sample in self.samples)

    @property
    def text(self) -> str:
        """The verdict and every leak, as a person reads them."""
        over = f"{self.rows} rows of {len(self.samples)} prediction times"
        if not self.leaks:
            return f"{self.model}: no leak in {over}"
        listed = "\n".join(f"- {leak.sentence}" for leak in self.leaks)
        return f"{self.model}: features hold what was not known at their prediction time, in {over}:\n{listed}"

    @property
    def note(self) -> dict[str, JsonValue]:
        """The verdict as figures."""
        return {"samples": len(self.samples), "rows": self.rows, "leaks": len(self.leaks)}

    @property
    def record(self) -> dict[str, object]:
        """All that was found, for a program to read; times and days are text."""
        return {
            "model": self.model,
            "rows": self.rows,
            "samples": [{"day": str(s.day), "at": str(s.at), "rows": s.rows.height} for s in self.samples],
            "leaks": [asdict(leak) | {"sentence": leak.sentence} for leak in self.leaks],
        }

    def raise_if_leaking(self) -> None:
        """Raise where there is a leak.

        Raises:
            ContractError: lists every leak.
        """
        if self.leaks:
            raise ContractError(
                f"{self.text}\nBuild these columns from what is known by the prediction time, or mend the known_time "
                "of the sources."
            )


def leak_check_spec(plan: ModelPlan) -> list[dg.AssetCheckSpec]:
    """Return the check of a model's features; none where it declares no samples."""
    declared = plan.declaration.leak_test
    if not declared.samples:
        return []
    return [
        dg.AssetCheckSpec(
            CHECK,
            asset=plan.asset("features"),
            description="Rebuilt from what was known at sampled prediction times, the features are the same.",
            blocking=declared.is_blocking,
        )
    ]


def leak_check_result(plan: ModelPlan, report: LeakReport) -> dg.AssetCheckResult:
    """Return what the leak test found, as the check of a model's features."""
    blocks = plan.declaration.leak_test.is_blocking
    found = "\n".join(f"- {leak.sentence}" for leak in report.leaks[:_LISTED])
    return dg.AssetCheckResult(
        asset_key=plan.asset("features"),
        check_name=CHECK,
        passed=not report.leaks,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        metadata={
            "samples": len(report.samples),
            "rows": report.rows,
            "times": dg.MetadataValue.json([str(sample.at) for sample in report.samples]),
            **({"leaks": len(report.leaks), "finding": dg.MetadataValue.md(found)} if report.leaks else {}),
        },
    )


def leak_test(
    plan: ModelPlan,
    lake: Lake,
    project_dir: str | Path,
    *,
    samples: int | None = None,
    seed: int | None = None,
    rows: pl.DataFrame | None = None,
    days: tuple[date, date] | None = None,
    run_id: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> LeakReport:
    """Rebuild features from what was known at sampled prediction times, and compare them with the full build.

    Rows of a sample's day that had been asked for before are compared too: what is known later may not change them
    either. The lake is only read, and none of it is noted as the input of a step.

    Args:
        plan: the model.
        lake: where the source rows are, and the features if they are not given.
        project_dir: the dbt project.
        samples: how many prediction times; as declared if absent.
        seed: chooses them; the model's if absent.
        rows: the full build; the features in the lake if absent.
        days: the days to choose from; all that there are if absent.
        run_id: the run whose own artifacts come first.
        say: is told of each sample.

    Raises:
        DataError: there are no features, or source rows that they were made from are missing.
        ContractError: a source does not say when its rows are known, or the features are of another make.
        WarehouseError: dbt cannot rebuild them; that says nothing about leaks.
    """
    project = Path(project_dir)
    manifest = _manifest(project)
    count = plan.declaration.leak_test.samples if samples is None else samples
    random = np.random.default_rng(plan.declaration.seed if seed is None else seed)
    full = _FullBuild(plan, lake, rows, run_id)
    chosen = sorted(full.choose(count, days, random), key=lambda sample: sample.at)
    workers = max(1, min(_WORKERS, os.cpu_count() or 1, len(chosen)))
    with (
        tempfile.TemporaryDirectory(prefix="leaktest-") as folder,
        Rebuilds(project, manifest, Path(folder), workers=workers) as rebuilds,
        ThreadPoolExecutor(workers) as pool,
    ):
        test = _Test(plan, _Sources(lake, manifest, run_id), rebuilds, pool, workers)
        found = [*_told(chosen, pool.map(test.compare, chosen), say)]
        return LeakReport(plan.name, tuple(chosen), test.leaks([*zip(chosen, found, strict=True)], say))


def _manifest(project_dir: Path) -> Mapping[str, Any]:
    path = project_dir / "target" / "manifest.json"
    if not path.exists():
        raise DataError(f"dbt's manifest {path} is missing; prepare it with: ml-assets parse.")
    manifest: Mapping[str, Any] = json.loads(path.read_bytes())
    return manifest


@dataclass(frozen=True)
class _FullBuild:
    """The features to test: rows that are given, else those in the lake."""

    plan: ModelPlan
    lake: Lake
    rows: pl.DataFrame | None
    run_id: str | None

    def choose(self, count: int, days: tuple[date, date] | None, random: np.random.Generator) -> Iterator[Sample]:
        """Yield samples: as many days as there are, each with one of its prediction times, before any has a second.

        Raises:
            DataError: the lake holds no features of these days.
        """
        asset = self.plan.asset("features").to_user_string()
        there = self.lake.partitions(asset) if self.rows is None else [str(day) for day in self.rows[DAY].unique()]
        inside = [day for day in sorted(there) if days is None or days[0] <= date.fromisoformat(day) <= days[1]]
        if not inside and self.rows is None:
            raise DataError(
                f"there are no features of '{self.plan.name}'{f' from {days[0]} to {days[1]}' if days else ''} to "
                f"test; materialize them first: ml-assets run {self.plan.name}."
            )
        waiting = [inside[place] for place in random.permutation(len(inside))]
        left: dict[str, list[Sample]] = {}
        while count and waiting:
            day = waiting.pop(0)
            if day not in left:
                left[day] = self._samples(day, random)
            if left[day]:
                count -= 1
                yield left[day].pop()
                waiting.append(day)

    def _samples(self, day: str, random: np.random.Generator) -> list[Sample]:
        """Return a sample for each prediction time of a day, in random order."""
        if self.rows is None:
            asset = self.plan.asset("features").to_user_string()
            ref = self.lake.newest(asset, [day], run_id=self.run_id)[day]
            built = self.lake.get(ref, pl.DataFrame, noted=False)
        else:
            built = self.rows.filter(pl.col(DAY) == date.fromisoformat(day))
        asked = self.plan.declaration.features.prediction_time
        # The last asked for stand first: theirs is the prediction time, and a difference shows the first row.
        rows = built.select(self.plan.features_columns).sort(asked, descending=True, maintain_order=True)
        times = rows[asked].unique().sort()
        return [
            Sample(date.fromisoformat(day), at, rows.filter(pl.col(asked) <= at))
            for at in (times[int(place)] for place in random.permutation(times.len()))
        ]


def _told(
    samples: Sequence[Sample], found: Iterator[tuple[Difference, ...]], say: Callable[[str], None]
) -> Iterator[tuple[Difference, ...]]:
    for number, (sample, differing) in enumerate(zip(samples, found, strict=True), 1):
        verdict = f"{len(differing)} columns differ" if differing else "no difference"
        say(f"sample {number} of {len(samples)}: {sample.at}, {sample.rows.height} rows, {verdict}")
        yield differing


class _Sources:
    """The source rows that builds reach, with their known times; a day is fetched once for samples side by side."""

    def __init__(self, lake: Lake, manifest: Mapping[str, Any], run_id: str | None) -> None:
        self.lake = lake
        self.manifest = manifest
        self.run_id = run_id
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
        refs = self.lake.newest(asset, keys, run_id=self.run_id)
        if not refs:
            raise DataError(f"the lake holds nothing of {asset}{f' from {keys[0]} to {keys[-1]}' if span else ''}.")
        missing = [ref for ref in refs.values() if ref not in self._frames]
        with self.lake.pool(len(missing)) as each:
            read = each(lambda ref: self.lake.get(ref, pl.DataFrame, noted=False), missing)
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
    if RECEIVED_AT in contract.names and RECEIVED_AT not in rows.columns:
        rows = rows.with_columns(pl.lit(None, contract.column(RECEIVED_AT).dtype).alias(RECEIVED_AT))
    missing = [name for name in contract.names if name not in rows.columns]
    if missing:
        raise DataError(f"{contract.name} was landed without {', '.join(missing)}; land it again.")
    return rows.select(*contract.names, PARTITION)


@dataclass(frozen=True)
class _Test:
    """Rebuilds of one model's features as known at a moment, compared with the full build."""

    plan: ModelPlan
    sources: _Sources
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

    def __init__(self, test: _Test, sample: Sample, known: Mapping[str, Known]) -> None:
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
