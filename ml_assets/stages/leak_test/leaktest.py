"""The leak test: compares features in the lake with a rebuild in which later values are removed or replaced.

Not here: known times and differences (see `ml_assets.logic.point_in_time`), and running dbt (see
`ml_assets.warehouse.rebuild`). The check of the features stage and the command `ml-assets leaktest` share it.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
from pydantic import JsonValue

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.leaks import FoundLeak, KnownTime, LeakTestRecord
from ml_assets.contracts.words import counted
from ml_assets.lake.errors import WarehouseError
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.store import Lake
from ml_assets.logic.point_in_time.knowledge import known_times
from ml_assets.logic.point_in_time.leak_test import Leak
from ml_assets.logic.point_in_time.suspects import SHARES, chance_missed, power
from ml_assets.machine.temporary import temporary_folder
from ml_assets.models.leaks import newest_record, record_asset
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.checks.dbt_tests import CheckedProject
from ml_assets.stages.leak_test.as_known import DayCuts, Rebuilding, Sample, Sources, reach_of_period
from ml_assets.warehouse.nodes import is_by_day, table_name
from ml_assets.warehouse.project_contracts import read_manifest
from ml_assets.warehouse.rebuild import Rebuilds
from ml_assets.warehouse.warehouse import Quarantine

CHECK = "features_are_as_known_at_their_prediction_time"
A_DAY = 5
"""The most prediction times of one day, if there are enough days, because leaks differ between days."""
_WORKERS = 2


@dataclass(frozen=True)
class LeakReport:
    """The result of a leak test.

    Attributes:
        history: columns built from other source rows than the prediction's own; None if that was not measured.
        assumed: known times that no rebuild can refute.
        observed: known times that the sources record.
    """

    model: str
    samples: tuple[Sample, ...]
    leaks: tuple[Leak, ...]
    history: tuple[str, ...] | None = None
    assumed: tuple[KnownTime, ...] = ()
    observed: tuple[KnownTime, ...] = ()

    @property
    def rows(self) -> int:
        """The number of compared rows."""
        return sum(sample.rows.height for sample in self.samples)

    @property
    def sampled_days(self) -> int:
        """The number of days on which prediction times were tested."""
        return len({sample.period for sample in self.samples})

    @property
    def text(self) -> str:
        """The verdict, every leak, and what the test cannot find, for the terminal."""
        over = f"{counted(self.rows, 'row')} of {counted(len(self.samples), 'prediction time')}"
        verdict = ("features contain values that were not known at their prediction time, in "
                   f"{over}:") if self.leaks else (
            f"no leak in {over}"
        )  # fmt: skip
        times = {
            "Assumed known times, which no rebuild can refute:": self.assumed, "Observed known times:": self.observed
        }  # fmt: skip
        return "\n".join(
            [
                f"{self.model}: {verdict}",
                *(f"- {leak.sentence}" for leak in self.leaks),
                f"{power(len(self.samples), self.sampled_days)}.",
                *(
                    line
                    for title, found in times.items()
                    if found
                    for line in (title, *(f"- {time.sentence}" for time in found))
                ),
            ]
        )

    @property
    def note(self) -> dict[str, JsonValue]:
        """The figures of the verdict."""
        return {
            "samples": len(self.samples),
            "sampled_days": self.sampled_days,
            "rows": self.rows,
            "leaks": len(self.leaks),
        }

    @property
    def record(self) -> dict[str, object]:
        """All findings in JSON's types; times and days are text."""
        return {
            "model": self.model,
            "rows": self.rows,
            "samples": [{"day": s.period, "prediction_at": str(s.at), "rows": s.rows.height} for s in self.samples],
            "chance_missed": {f"{share:g}": chance_missed(len(self.samples), share) for share in SHARES},
            "leaks": [asdict(leak) | {"sentence": leak.sentence} for leak in self.leaks],
            "assumed_known_times": [time.model_dump() for time in self.assumed],
            "observed_known_times": [time.model_dump() for time in self.observed],
        }

    def to_store(
        self, earlier: LeakTestRecord | None, tested: Callable[[str], bool], columns: Sequence[str]
    ) -> LeakTestRecord:
        """Return the record for the lake: the findings, and earlier leaks of days that were not tested again.

        Args:
            earlier: the record of the previous test.
            tested: returns whether the test covered a day.
            columns: the current columns of the features.
        """
        left = [
            leak
            for leak in (earlier.leaks if earlier else ())
            if not tested(leak.day) and (leak.column is None or leak.column in columns)
        ]
        found = [
            FoundLeak(column=it.column, day=it.day, prediction_at=it.at, sentence=it.sentence) for it in self.leaks
        ]
        history = self.history if self.history is not None or earlier is None else earlier.history_columns
        return LeakTestRecord(
            model=self.model,
            samples=len(self.samples),
            rows=self.rows,
            leaks=(*found, *left),
            history_columns=history,
            known_times=(*self.assumed, *self.observed),
        )


def leak_check_spec(plan: ModelPlan) -> list[dg.AssetCheckSpec]:
    """Return the check of a model's features; none if it declares no samples."""
    declared = plan.declaration.leak_test
    if not declared.samples:
        return []
    return [
        dg.AssetCheckSpec(
            CHECK,
            asset=plan.asset("features"),
            description="Features rebuilt from what was known at sampled prediction times are the same.",
            blocking=True,
        )
    ]


def leak_check_result(plan: ModelPlan, report: LeakReport) -> dg.AssetCheckResult:
    """Return the check result of a leak test."""
    leaks = [
        {"column": leak.column or "(row)", "prediction_at": str(leak.at), "finding": leak.sentence}
        for leak in report.leaks
    ]
    times = [
        {"table": time.table, "columns": ", ".join(time.columns) or "(row)", "known time": time.sql, "is": kind}
        for kind, found in (("assumed", report.assumed), ("observed", report.observed))
        for time in found
    ]
    return dg.AssetCheckResult(
        asset_key=plan.asset("features"),
        check_name=CHECK,
        passed=bool(report.samples) and not report.leaks,
        severity=dg.AssetCheckSeverity.ERROR if report.leaks else dg.AssetCheckSeverity.WARN,
        description=None if report.samples else "not judged: there is no prediction time to rebuild features for.",
        metadata={
            "samples": len(report.samples),
            "rows": report.rows,
            "power": power(len(report.samples), report.sampled_days),
            "times": dg.MetadataValue.json([str(sample.at) for sample in report.samples]),
            **({"known times": _table(times)} if times else {}),
            **({"leaks": len(leaks), "findings": _table(leaks)} if leaks else {}),
        },
    )


def _table(rows: Sequence[Mapping[str, str]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table([dg.TableRecord({**row}) for row in rows])


def store_report(ledger: StepLedger, plan: ModelPlan, report: LeakReport, tested: Callable[[str], bool]) -> None:
    """Store the result of a leak test. While it contains a leak, nothing is trained or promoted."""
    earlier = newest_record(ledger.lake, plan.name, runs=ledger.runs)
    record = report.to_store(earlier, tested, plan.features_columns)
    ledger.lake.put(record_asset(plan.name), None, record, ledger.origin())


@dataclass(frozen=True)
class Sampling:
    """Which prediction times are tested.

    Attributes:
        count: their number; if absent the declared number, with at most 5 a day.
        seed: for the choice; the model's if absent.
        days: the days to choose from; all existing days if absent.
    """

    count: int | None = None
    seed: int | None = None
    days: tuple[date, date] | None = None


def leak_test(
    plan: ModelPlan,
    lake: Lake,
    project_dir: str | Path,
    chosen_from: Sampling | None = None,
    *,
    rows: pl.DataFrame | None = None,
    runs: Sequence[str] = (),
    log: Callable[[str], None] = lambda _: None,
) -> LeakReport:
    """Rebuild features without what became known after sampled prediction times, and compare them with the full build.

    Rows of the same day with an earlier prediction time are compared too, because later facts may not change them
    either. Moments at which the newest stored test found a leak are tested again. The lake is only read, and nothing is
    recorded as an input of a step.

    Args:
        plan: the model.
        lake: contains the source rows, and the features if they are not given.
        project_dir: the dbt project.
        chosen_from: which prediction times are tested; as declared if absent.
        rows: the full build; the features in the lake if absent.
        runs: runs whose artifacts are read before others.
        log: called with progress messages.

    Raises:
        DataError: there are no features, or source rows behind them are missing.
        ContractError: a source declares no known time, or the features have other columns.
        WarehouseError: dbt cannot rebuild them, which is no verdict about leaks.
    """
    project = Path(project_dir)
    manifest = read_manifest(project)
    earlier = newest_record(lake, plan.name, runs=runs)
    chosen = [*_FullBuild(plan, lake, rows, earlier, runs).choose(chosen_from or Sampling())]
    workers = max(1, min(_WORKERS, os.cpu_count() or 1, len(chosen)))
    sources = Sources(lake, manifest, runs, plan.calendar)
    aside = _set_aside(sources, [cuts.period for cuts in chosen])
    times = _known_times(sources, plan, chosen)
    with (
        temporary_folder("leaktest") as folder,
        Rebuilds(project, manifest, folder, workers=workers, quarantines=aside) as rebuilds,
        ThreadPoolExecutor(workers) as pool,
    ):
        test = Rebuilding(plan, sources, rebuilds, pool, workers, log)
        found = []
        for cuts, of_day in zip(chosen, pool.map(test.compare, chosen), strict=True):
            found += of_day
            columns = len({it.column for _, differing in of_day for it in differing})
            verdict = f"differences in {counted(columns, 'column')}" if columns else "no difference"
            log(f"leak test: {cuts.period}, {counted(len(of_day), 'prediction time')}, {verdict}")
        return LeakReport(
            plan.name, tuple(sample for sample, _ in found), test.leaks(found), _history(test, chosen),
            assumed=tuple(it for it in times if not it.is_observed),
            observed=tuple(it for it in times if it.is_observed),
        )  # fmt: skip


def _history(test: Rebuilding, chosen: Sequence[DayCuts]) -> tuple[str, ...] | None:
    """Return the columns built from other rows than the prediction's own; None if that cannot be measured."""
    if not chosen:
        return None
    try:
        return test.made_of_other_rows(chosen[-1])
    except WarehouseError as error:  # a model may reject half of its rows; then no column counts as cleared
        test.log(f"leak test: could not measure which columns are built from other rows: {error}")
        return None


def _known_times(sources: Sources, plan: ModelPlan, chosen: Sequence[DayCuts]) -> tuple[KnownTime, ...]:
    """Return the known times of all source tables of the features."""
    if not chosen:
        return ()
    reach = reach_of_period(sources.manifest, plan, chosen[0].period)
    nodes = [sources.nodes[uid] for uid in sorted(reach.sources)]
    return tuple(
        time
        for node in nodes
        for time in known_times(sources.contracts[f"{node['source_name']}/{node['name']}"])
    )  # fmt: skip


def _set_aside(sources: Sources, periods: Sequence[str]) -> dict[str, Quarantine]:
    """Return the rows that the tables in the lake quarantined, which a rebuild must also exclude.

    Their number does not matter here, so any share is accepted.
    """
    shares = {}
    for model in (uid for uid, node in sources.nodes.items() if periods and node["resource_type"] == "model"):
        node = sources.nodes[model]
        key = periods[0] if is_by_day(node) else ""
        for ref in sources.lake.newest(table_name(node), [key], runs=sources.runs).values():
            if sources.lake.manifest(ref).parameters.get("quarantine"):
                shares[node["name"]] = 1.0
    project = CheckedProject(sources.manifest, sources.contracts, shares)
    return project.quarantines(sources.lake, [*project.aside])


@dataclass(frozen=True)
class _FullBuild:
    """The features to test: the given rows, or those in the lake."""

    plan: ModelPlan
    lake: Lake
    rows: pl.DataFrame | None
    earlier: LeakTestRecord | None
    runs: Sequence[str]

    def choose(self, sampling: Sampling) -> Iterator[DayCuts]:
        """Yield the periods to test, in random order, until they have enough prediction times.

        Days at which a leak was found before come first.

        Raises:
            DataError: the lake contains no features of these days.
        """
        asset, calendar = self.plan.asset("features").to_user_string(), self.plan.calendar
        if self.rows is None:
            there = calendar.current(self.lake.partitions(asset))
        else:
            there = self.rows.select(calendar.key_of_row()).to_series().unique().to_list()
        declared, count, days = self.plan.declaration, sampling.count, sampling.days
        random = np.random.default_rng(declared.seed if sampling.seed is None else sampling.seed)
        inside = [it for it in sorted(there) if days is None or calendar.is_within(it, *days)]
        if not inside and self.rows is None:
            raise DataError(
                f"there are no features of '{self.plan.name}'{f' from {days[0]} to {days[1]}' if days else ''} to "
                f"test; materialize them first: ml-assets run {self.plan.name}."
            )
        if count is None:
            a_period = max(1, A_DAY * calendar.shortest_hours // 24)
            count = min(declared.leak_test.samples, a_period * len(inside))
        again: dict[str, list[datetime]] = {}
        for leak in self.earlier.leaks if self.earlier else ():
            again.setdefault(leak.day, []).append(leak.prediction_at)
        a_day = max(A_DAY, -(-count // max(1, len(inside))))
        order = [inside[place] for place in random.permutation(len(inside))]
        for period in sorted(order, key=lambda period: period not in again):
            if count <= 0 and period not in again:
                return
            if (cuts := self._cuts(period, min(a_day, max(0, count)), again.get(period, []), random)) is not None:
                count -= len(cuts.again) + min(cuts.count, cuts.times.len())
                yield cuts

    def _cuts(self, period: str, count: int, again: Sequence[datetime], random: np.random.Generator) -> DayCuts | None:
        """Return what to test of a period; None if it has no rows."""
        if self.rows is None:
            asset = self.plan.asset("features").to_user_string()
            ref = self.lake.newest(asset, [period], runs=self.runs)[period]
            built = self.lake.get(ref, pl.DataFrame)
        else:
            built = self.rows.filter(self.plan.calendar.key_of_row() == period)
        times = built[self.plan.declaration.features.prediction_time].unique().sort()
        seed = int(random.integers(2**32))
        rows = built.select(self.plan.features_columns)
        return DayCuts(period, rows, times, count, tuple(again), seed) if times.len() else None
