"""A folder in which files arrive, the lake they are landed in, and a daemon as far as the sensor needs one.

What the sensor should ask for stays out; see `tests.automation.test_arrivals`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.automation.arrivals import arrivals_sensor
from ml_assets.automation.past_requests import DAYS, TABLE
from ml_assets.contracts.table import Column, TableContract
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.stages.raw import raw_tables

CONTRACT = TableContract("raw/orders", (Column("n", pl.Int64(), minimum=0),), where="_sources.yml")
FIRST = date(2024, 1, 1)
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
Days = tuple[str, str]


def days_of(tags: Mapping[str, str]) -> Days:
    one = tags.get("dagster/partition")
    return (one, one) if one else (tags[RANGE[0]], tags[RANGE[1]])


def skipped(found: dg.SensorResult) -> str:
    assert found.skip_reason is not None
    return str(found.skip_reason.skip_message)


@dataclass
class Landing:
    """Orders that arrive, and what becomes of them."""

    folder: Path
    lake: LakeResource
    instance: dg.DagsterInstance
    table: Mapping[str, Any] = field(default_factory=dict)
    name: str = "orders"
    cursor: str | None = None
    clock: float = 1_700_000_000.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        raw = {
            "days": {"first": FIRST},
            "tables": {self.name: {"files": f"{self.folder}/orders-{{day}}.csv", **self.table}},
        }
        declared = RawDeclaration.model_validate(raw)
        self.sensor_pattern = DayPattern.of(str(declared.tables[self.name].files))
        self.sensor = arrivals_sensor(Declared(raw=(declared,)))
        self.assets = raw_tables(declared, {f"raw/{self.name}": CONTRACT})

    def write(self, day: int | str, *numbers: object, at: float | None = None) -> Path:
        """Put a day's file there, written a long time ago by default."""
        name = FIRST + timedelta(days=day) if isinstance(day, int) else day
        path = self.folder / f"orders-{name}.csv"
        path.write_text("n\n" + "".join(f"{n}\n" for n in numbers))
        self.clock += at is None
        os.utime(path, (self.clock if at is None else at,) * 2)
        return path

    def look(self, cursor: str | None = None) -> dg.SensorResult:
        """Evaluate the sensor, and leave everything as it is."""
        with dg.build_sensor_context(self.instance, cursor=cursor, resources={"ml_assets_lake": self.lake}) as context:
            found = self.sensor(context)
        assert isinstance(found, dg.SensorResult)
        return found

    def tick(self, *, is_lost: bool = False) -> list[dg.DagsterRun]:
        """Evaluate the sensor and queue its requests, as the daemon does: each run key once."""
        found = self.look(None if is_lost else self.cursor)
        self.cursor = found.cursor
        queued = []
        for request in found.run_requests or ():
            if self.instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": str(request.run_key)})):
                continue
            partition = {"dagster/partition": request.partition_key} if request.partition_key else {}
            run = dg.DagsterRun(
                job_name="orders",
                status=dg.DagsterRunStatus.NOT_STARTED,
                asset_selection=frozenset(request.asset_selection or ()),
                tags={**request.tags, "dagster/run_key": str(request.run_key), **partition},
            )
            queued.append(self.instance.add_run(run))
        return queued

    @property
    def queued(self) -> list[dg.DagsterRun]:
        return [run for run in self.runs if run.status == dg.DagsterRunStatus.NOT_STARTED]

    @property
    def runs(self) -> list[dg.DagsterRun]:
        return [*self.instance.get_runs(dg.RunsFilter(tags={TABLE: f"raw/{self.name}"}))]

    def land(self, run: dg.DagsterRun) -> bool:
        """Run the requests for real."""
        tags = {name: value for name, value in run.tags.items() if name.startswith("dagster/") and "key" not in name}
        result = dg.materialize(
            self.assets,
            instance=self.instance,
            selection=[*(run.asset_selection or ())],
            resources={"ml_assets_lake": self.lake, "ml_assets_io_manager": LakeIOManager(lake=self.lake)},
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )
        self.end(run, has_failed=not result.success)
        return result.success

    def arrive(self, *days: int) -> None:
        """Land days, which arrive together."""
        for day in days:
            self.write(day, day)
        [run] = self.tick()
        assert self.land(run)

    def end(self, run: dg.DagsterRun, *, has_failed: bool) -> None:
        report = self.instance.report_run_failed if has_failed else self._succeed
        report(run)

    def _succeed(self, run: dg.DagsterRun) -> None:
        event = dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name)
        self.instance.report_dagster_event(event, run.run_id)

    def landed(self) -> dict[str, list[int]]:
        lake = self.lake.connect()
        refs = lake.newest(f"raw/{self.name}")
        return {day: lake.get(ref, pl.DataFrame)["n"].to_list() for day, ref in sorted(refs.items())}


def check_asked_once(run: dg.DagsterRun, before: list[dg.DagsterRun]) -> None:
    """Check that no day is requested again with the same files and the same landed version.

    What failed with other days is: one of those has changed since.
    """
    for piece in run.tags[DAYS].split():
        day = piece.partition("=")[0]
        earlier = [it.tags[DAYS].split() for it in before if day in it.tags[DAYS]]
        if any(piece in pieces for pieces in earlier):
            assert len(earlier[0]) > 1, f"{day} asked for twice"
            newest = next(it for it in before if day in it.tags[DAYS])
            assert newest.status == dg.DagsterRunStatus.FAILURE


def drain(shop: Landing) -> None:
    """Run until nothing changes: queued days are landed, and nothing more is requested."""
    for _ in range(6):
        for run in shop.queued:
            shop.land(run)
        if not shop.tick():
            return
    raise AssertionError("it asks for ever")


def failed_days(shop: Landing) -> set[str]:
    """Return the days whose last run failed; they are not requested until a file changes."""
    last: dict[str, bool] = {}
    for run in shop.runs:
        for piece in run.tags[DAYS].split():
            last.setdefault(piece.partition("=")[0], run.status == dg.DagsterRunStatus.FAILURE)
    return {day for day, has_failed in last.items() if has_failed}
