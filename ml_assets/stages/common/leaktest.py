"""The leak test: features built from what was known at sampled prediction times, held against those in the lake.

What was known when and what counts as a difference stays out, see `ml_assets.logic`; so does running dbt, see
`resources.rebuild`. The check of the features stage and the command share it.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from pydantic import JsonValue

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.leaks import Difference, Leak
from ml_assets.stages.common.as_known import Rebuilding, Sample, Sources
from ml_assets.stages.common.dbt_checks import Project
from ml_assets.stages.common.plan import DAY, ModelPlan
from resources.lake import Lake
from resources.rebuild import Rebuilds
from resources.warehouse import Quarantine, is_by_day, table_name

CHECK = "features_are_as_known_at_their_prediction_time"
_WORKERS = 2
_LISTED = 10


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
    full = _FullBuild(plan, lake, rows)
    chosen = sorted(full.choose(count, days, random), key=lambda sample: sample.at)
    workers = max(1, min(_WORKERS, os.cpu_count() or 1, len(chosen)))
    sources = Sources(lake, manifest)
    aside = _set_aside(sources, chosen)
    with (
        tempfile.TemporaryDirectory(prefix="leaktest-") as folder,
        Rebuilds(project, manifest, Path(folder), workers=workers, quarantines=aside) as rebuilds,
        ThreadPoolExecutor(workers) as pool,
    ):
        test = Rebuilding(plan, sources, rebuilds, pool, workers)
        found = [*_told(chosen, pool.map(test.compare, chosen), say)]
        return LeakReport(plan.name, tuple(chosen), test.leaks([*zip(chosen, found, strict=True)], say))


def _set_aside(sources: Sources, samples: Sequence[Sample]) -> dict[str, Quarantine]:
    """Return what the tables in the lake set aside when they were built: a rebuild must do without the same rows.

    How many that are is no question here, so any share goes.
    """
    shares = {}
    for model in (uid for uid, node in sources.nodes.items() if samples and node["resource_type"] == "model"):
        node = sources.nodes[model]
        day = str(samples[0].day) if is_by_day(node) else ""
        for ref in sources.lake.newest(table_name(node), [day], runs=sources.lake.runs).values():
            if sources.lake.manifest(ref).parameters.get("quarantine"):
                shares[node["name"]] = 1.0
    project = Project(sources.manifest, sources.contracts, shares)
    return project.quarantines(sources.lake, [*project.aside])


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
            ref = self.lake.newest(asset, [day], runs=self.lake.runs)[day]
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
