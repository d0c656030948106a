"""A small world for the sensors of the loop: facts in a real lake, and runs that a test starts and ends.

Expectations stay out; they stand in `tests.automation.test_retraining` and `tests.automation.test_watch`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal
from unittest import mock

import dagster as dg
import polars as pl

from ml_assets.adapters.dagster import RUN_KEY_TAG
from ml_assets.alerts.alert import KINDS
from ml_assets.alerts.resource import Alerts
from ml_assets.automation.retraining import drift_sensor, performance_sensor, retraining_floor
from ml_assets.automation.watch import watch_sensor
from ml_assets.contracts.artifacts.evaluation import DailyLoss, EvaluationSummary, Interval
from ml_assets.contracts.artifacts.monitoring import (
    DriftSummaries,
    DriftSummary,
    PerformanceSummaries,
    PerformanceSummary,
    PreviousChampionPerformance,
)
from ml_assets.contracts.artifacts.training import Model, ModelSpec
from ml_assets.contracts.decisions import Promotion, Retraining
from ml_assets.declaration.reading import Declared
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.store import Lake
from ml_assets.logic.promotion.log import serving_since
from ml_assets.names import MANAGED
from ml_assets.orchestration.groups import MONITORING, TRAINING
from tests.builders import flights_declared, put
from tests.event_logs import ephemeral_instance

MODEL: Final = "m"
METRIC: Final = "roc_auc within day"  # what the example declares
FIRST: Final = date(2013, 3, 1)
BEGIN: Final = datetime(2026, 11, 23, 6, tzinfo=UTC)
Name = Literal["drift", "performance", "watch"]
BY: Final = "dagster/sensor_name"
UNFINISHED: Final = (dg.DagsterRunStatus.STARTED,)


@dataclass(frozen=True)
class Summed:
    """A report of which only the summary is read."""

    summary: Any


@dataclass(frozen=True)
class Drifted:
    """As the lake stores it."""

    summaries: DriftSummaries


@dataclass(frozen=True)
class Measured:
    """As the lake stores it."""

    summaries: PerformanceSummaries


@dataclass(frozen=True)
class Evaluated(Summed):
    """As the lake keeps it."""

    summary: EvaluationSummary


def spec(as_of: date, **fields: Any) -> ModelSpec:
    """Return the record of a model."""
    given: dict[str, Any] = {
        "model": MODEL, "task": "binary", "target": "is_late", "features": (), "vocabularies": {},
        "parameters": {"num_leaves": 31, "learning_rate": 0.1}, "rounds": 10, "as_of": as_of,
        "first_training_day": date(2013, 1, 1), "last_training_day": as_of, "last_tuning_day": as_of,
        "training_rows": 10_000,
        "lightgbm_version": "4",
    }  # fmt: skip
    return ModelSpec.model_validate({**given, **fields})


def declared(retraining: Mapping[str, Any] | None = None, watch: Mapping[str, Any] | None = None) -> Declared:
    """Return a project of one model whose loop is as it is given."""
    given = {"label_growth": None, "floor_days": None, **(retraining or {})}
    whole = flights_declared(retraining=given, watch=watch or {})
    return Declared(models=(whole.models[0].model_copy(update={"name": MODEL}),))


class World:
    """A lake, an instance and the sensors; days and minutes pass between calls alone."""

    def __init__(self, root: Path, instance: dg.DagsterInstance, project: Declared, name: str = MODEL) -> None:
        self.resource = LakeResource(url=str(root))
        self.resources = {
            "ml_assets_lake": self.resource,
            "ml_assets_alerts": Alerts(lake=self.resource, kinds={"log": [*KINDS]}),
        }
        self.lake: Lake = self.resource.connect()
        self.instance = instance
        self.model = project.model(name)
        self.name = name
        self.now = BEGIN
        self.day = FIRST
        self.cursors: dict[str, str | None] = {}
        self.reason = ""
        clock: Callable[[], datetime] = lambda: self.now  # noqa: E731 - read at each call
        self.sensors = {
            "drift": drift_sensor(project, clock=clock),
            "performance": performance_sensor(project, clock=clock),
            "watch": watch_sensor(project),
        }
        self.floor = retraining_floor(project, clock=clock)
        stages = (*TRAINING, *MONITORING)
        assets = [_asset(model.name, stage) for model in project.models for stage in stages]
        self.repository = dg.Definitions(assets).get_repository_def()
        self.serve(self.train(FIRST - timedelta(days=1)))

    # ------------------------------------------------------------ facts

    def train(self, as_of: date, **fields: Any) -> str:
        """Keep a model and return its version."""
        model = Model("tree", spec(as_of, model=self.name, **fields), pl.DataFrame({"n": [1]}))
        return put(self.lake, model, asset=f"{self.name}/model").version

    def log(self) -> PromotionLog:
        """Return the promotion log."""
        return PromotionLog(self.lake, self.name)

    def serve(
        self, version: str, action: Literal["promote", "reject", "rollback", "request_approval"] = "promote"
    ) -> None:
        """Add an entry to the log: a promotion or a rejection."""
        entries = self.log().entries()
        serving = entries[-1].champion if entries else None
        judged = put(self.lake, Evaluated(evaluation(version, self.name)), asset=f"{self.name}/evaluation").version
        entry = Promotion(
            number=len(entries) + 1, model=self.name, action=action, challenger=version, reasons=("it is so",),
            champion=version if action in {"promote", "rollback"} else serving, evaluation_version=judged,
            decided_at=self.now, decided_by="gate",
        )  # fmt: skip
        self.log().append(entry, number=entry.number)
        self._told("champion")

    @property
    def champion(self) -> str:
        """The current champion."""
        since = serving_since(self.log().entries())
        assert since is not None
        return str(since.champion)

    def live(
        self, *, is_over: bool = False, auc: float = 0.8, former: tuple[str, float] | None = None, rows: int = 900
    ) -> date:
        """Let a day come with its reports, and return it; of fewer than 200 rows neither report is judged."""
        day, self.day = self.day, self.day + timedelta(days=1)
        drift = DriftSummary(
            model=self.name, model_version=self.champion, day=day, first_day=day, rows=rows, score_excess_psi=0.0,
            weighted_excess_psi=None if rows < 200 else 0.3 if is_over else 0.01, is_over=is_over, drifted_features=(),
            sentence="PSI.",
        )  # fmt: skip
        put(
            self.lake,
            Drifted(DriftSummaries(day=day, versions=(drift,))),
            asset=f"{self.name}/drift",
            partition=str(day),
        )
        self.measure(day, auc=auc, former=former, labelled=900 if rows >= 200 else 0)
        self._told("drift", str(day))
        return day

    def measure(
        self, day: date, *, auc: float, former: tuple[str, float] | None = None, labelled: int = 900, key: str = ""
    ) -> None:
        """Keep what the labels of a day show, as the report of the period `key` if it is not by day."""
        beside = None if former is None else PreviousChampionPerformance(version=former[0], metrics={METRIC: former[1]})
        performance = PerformanceSummary(
            model=self.name, model_version=self.champion, day=day, predictions=900, labelled=labelled,
            measured={METRIC: Interval(value=auc, low=None, high=None)}, expected={METRIC: 0.8},
            expected_labelled={METRIC: 0.8}, previous_champion=beside,
        )  # fmt: skip
        put(
            self.lake,
            Measured(PerformanceSummaries(day=day, versions=(performance,))),
            asset=f"{self.name}/performance",
            partition=key or str(day),
        )
        self._told("performance", key or str(day))

    def _told(self, stage: str, day: str | None = None) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization([self.name, stage], partition=day))

    # ------------------------------------------------------------ sensors and runs

    def look(self, name: Name = "drift", *, is_lost: bool = False, dies: bool = False) -> list[dg.RunRequest]:
        """Evaluate a sensor; requested runs are not launched. One that crashes loses its cursor too."""
        cursor = None if is_lost else self.cursors.get(name)
        with dg.build_sensor_context(
            instance=self.instance, repository_def=self.repository, cursor=cursor, resources=self.resources
        ) as context:
            found = self.sensors[name].evaluate_tick(context)
        if not dies:
            self.cursors[name] = found.cursor
        self.reason = found.skip_message or ""
        return [*(found.run_requests or ())]

    def look_at_the_floor(self) -> list[dg.RunRequest]:
        """Evaluate the weekly schedule."""
        with (
            # A schedule's context takes instances that other processes can open alone.
            mock.patch.object(dg.ScheduleEvaluationContext, "instance", self.instance),
            dg.build_schedule_context(
                repository_def=self.repository, resources=self.resources, scheduled_execution_time=self.now
            ) as context,
        ):
            found = self.floor.evaluate_tick(context)
        self.reason = found.skip_message or ""
        return [*(found.run_requests or ())]

    def launch(self, requests: Sequence[dg.RunRequest], by: str = "drift") -> None:
        """Start runs, as the daemon does: none whose key already has a run of the same sensor."""
        for request in requests:
            if (by, request.run_key) in {(run.tags[BY], run.tags[RUN_KEY_TAG]) for run in self.instance.get_runs()}:
                continue
            self.instance.add_run(
                dg.DagsterRun(
                    "__ASSET_JOB", status=dg.DagsterRunStatus.STARTED,
                    asset_selection=frozenset(request.asset_selection or ()),
                    tags={**request.tags, BY: by, RUN_KEY_TAG: str(request.run_key)},
                )
            )  # fmt: skip

    def under_way(self) -> list[dg.DagsterRun]:
        """Return the runs that have not ended."""
        return [run for run in self.instance.get_runs() if run.status in UNFINISHED]

    def end(self, *, well: bool = True) -> None:
        """End every run that is under way."""
        event = dg.DagsterEventType.PIPELINE_SUCCESS if well else dg.DagsterEventType.PIPELINE_FAILURE
        for run in self.under_way():
            self.instance.report_dagster_event(
                dg.DagsterEvent(event_type_value=event.value, job_name=run.job_name), run_id=run.run_id
            )

    def records(self) -> list[Retraining]:
        """Return what the retraining log holds."""
        return RetrainingLog(self.lake, self.name).newest(100)


def evaluation(version: str, model: str = MODEL) -> EvaluationSummary:
    """Return a report on a model whose days differ by 0.02."""
    return EvaluationSummary(
        last_seen_day=date(2013, 9, 30),
        model=model, model_version=version, training_set_version="0" * 32, task="binary", metric=METRIC, rows=900,
        metrics={METRIC: Interval(value=0.8, low=0.7, high=0.9)}, baselines=(), against_baselines=(),
        daily_loss=DailyLoss(mean=0.0, standard_deviation=0.02, days=30, rows_per_day=100),
    )  # fmt: skip


def _asset(model: str, stage: str) -> dg.AssetsDefinition:
    @dg.asset(key=[model, stage], tags=dict([MANAGED]))
    def made() -> None:
        """Nothing is made."""

    return made


def beside(it: World, project: Declared, name: str) -> World:
    """Return another model's world in the same lake and instance; the sensors of both look at the whole project."""
    return World(Path(it.lake.url), it.instance, project, name)


@contextmanager
def world(root: Path, project: Declared | None = None) -> Iterator[World]:
    """Give a world whose instance is forgotten afterwards."""
    with ephemeral_instance() as instance:
        yield World(root, instance, project or declared())
