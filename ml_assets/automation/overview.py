"""Reads the state of all models at once: champions, newest days, what a person must act on, what waits, what runs next.

Not here: why a sensor decides as it does (see `ml_assets.cli.explain`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from ml_assets.adapters.dagster import AssetCheckExecutionRecordStatus, schedule_execution_time_iterator
from ml_assets.alerts.alert import Alert
from ml_assets.automation.failures import OwnRuns, alerts_of_run
from ml_assets.automation.history import FAILED
from ml_assets.automation.retraining import DRIFT, LOOKS, PERFORMANCE
from ml_assets.automation.waits import Waits
from ml_assets.contracts.artifacts.monitoring import State
from ml_assets.contracts.decisions import Promotion
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.run_tags import range_of
from ml_assets.lake.store import Lake
from ml_assets.logic.promotion.log import waiting
from ml_assets.models.leaks import proven_leaks
from ml_assets.models.monitoring import MonitoringState, read_monitoring
from ml_assets.names import MODEL
from ml_assets.orchestration.planner import blocked

RECENT: Final = timedelta(days=1)
"""How long ago a run may have failed to be named."""
_MOST_RUNS: Final = 100
NEWEST: Final = ("features", "labels", "predictions", "drift", "performance")
"""The assets of a model of which the newest period is shown."""
_STATES: Final[dict[tuple[bool, bool], State]] = {
    (True, True): "over the limits", (True, False): "within the limits", (False, False): "not judged",
}  # fmt: skip


@dataclass(frozen=True)
class ModelStatus:
    """What is known about one model.

    Attributes:
        champion: its version; None if there is none. So are `since` and `as_of`.
        since: when it was promoted.
        as_of: the day as of which it was trained.
        drift: the verdict of the retraining rule on the newest days; None without a champion.
        performance: likewise.
        newest: the newest period of each of its assets in `NEWEST`; None if there is none.
        red: what a person must act on.
        blocked: what waits, and for what.
    """

    model: str
    champion: str | None
    since: datetime | None
    as_of: str | None
    drift: State | None
    performance: State | None
    newest: dict[str, str | None]
    red: tuple[str, ...]
    blocked: tuple[str, ...]


@dataclass(frozen=True)
class NextTick:
    """When a schedule ticks next."""

    at: datetime
    schedule: str


@dataclass(frozen=True)
class Overview:
    """The state of a project.

    Attributes:
        lake: the address of its lake.
        models: by name.
        tables: the newest period of each raw table by day; None if there is none.
        red: what a person must act on, besides what `models` says.
        upcoming: the next tick of each running schedule, the earliest first.
        has_daemon: whether Dagster's daemon runs sensors and schedules.
    """

    lake: str
    models: tuple[ModelStatus, ...]
    tables: dict[str, str | None]
    red: tuple[str, ...]
    upcoming: tuple[NextTick, ...]
    has_daemon: bool


def read_overview(
    repository: dg.RepositoryDefinition, declared: Declared, lake: Lake, instance: dg.DagsterInstance, *, now: datetime
) -> Overview:
    """Return the state of a project.

    Raises:
        CorruptArtifactError: an artifact is damaged.
        MissingArtifactError: a champion or its evaluation is missing.
    """
    return _Reader(repository, declared, lake, instance, now).read()


@dataclass(frozen=True)
class _Reader:
    repository: dg.RepositoryDefinition
    declared: Declared
    lake: Lake
    instance: dg.DagsterInstance
    now: datetime

    def read(self) -> Overview:
        red: dict[str, list[str]] = {}
        for owner, line in (*self._failed_checks(), *self._failed_runs()):
            red.setdefault(owner, []).append(line)
        models = tuple(self._of_model(it, red.pop(it.name, [])) for it in self.declared.models)
        tables = [f"raw/{name}" for raw in self.declared.raw for name, table in raw.tables.items() if table.is_by_day]
        daemons = self.instance.get_daemon_statuses()
        return Overview(
            lake=self.lake.url,
            models=models,
            tables={name: self._newest(name) for name in tables},
            red=tuple(line for lines in red.values() for line in lines),
            upcoming=tuple(sorted(self._upcoming(), key=lambda it: (it.at, it.schedule))),
            has_daemon=all(it in daemons and daemons[it].healthy for it in ("SENSOR", "SCHEDULER")),
        )

    def _of_model(self, model: ModelDeclaration, red: Sequence[str]) -> ModelStatus:
        state = read_monitoring(self.lake, model)
        verdicts = {} if state is None else _verdicts(state, model)
        pending = waiting(PromotionLog(self.lake, model.name).entries())
        return ModelStatus(
            model=model.name,
            champion=None if state is None else state.champion.version,
            since=None if state is None else state.since.decided_at,
            as_of=None if state is None else str(state.champion.as_of),
            drift=verdicts.get(DRIFT),
            performance=verdicts.get(PERFORMANCE),
            newest={stage: self._newest(f"{model.name}/{stage}") for stage in NEWEST},
            red=(
                *(f"a leak is proven: {it}" for it in proven_leaks(self.lake, model.name)),
                *([] if pending is None else [_approval(pending)]),
                *red,
            ),
            blocked=tuple(self._waits(model)),
        )

    def _waits(self, model: ModelDeclaration) -> list[str]:
        calendar = self.declared.calendar
        waits = Waits({}, calendar)
        over, count = calendar.newest_over(self.now), self.declared.automation.updates.days
        waits.add(blocked(self.repository.asset_graph, self.lake, model.name, over=over, count=count))
        return waits.lines()

    def _newest(self, asset: str) -> str | None:
        keys = self.declared.calendar.current(self.lake.names(self.lake.path("artifacts", asset)))
        return max(keys, default=None)

    def _failed_checks(self) -> Iterator[tuple[str, str]]:
        """Yield the first part of the asset's key, and a line, for each check whose newest verdict is an error."""
        keys = sorted(self.repository.asset_graph.asset_check_keys, key=str)
        latest = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        for key in keys:
            if (record := latest.get(key)) is None or record.status is not AssetCheckExecutionRecordStatus.FAILED:
                continue
            event = None if record.event is None else record.event.dagster_event
            check = None if event is None else event.asset_check_evaluation_data
            if check is not None and check.severity is dg.AssetCheckSeverity.ERROR:
                line = f"check {key.name} of {key.asset_key.to_user_string()} failed. {check.description or ''}"
                yield key.asset_key.path[0], line.strip()

    def _failed_runs(self) -> Iterator[tuple[str, str]]:
        """Yield the model or the first part of the asset's key, and a line, for each failed step of the last day.

        Not of a step whose asset has been materialized since, for all days of the run.
        """
        own = OwnRuns.of(self.repository)
        lately = dg.RunsFilter(statuses=[*FAILED], created_after=self.now - RECENT)
        for record in self.instance.get_run_records(lately, limit=_MOST_RUNS):
            run = record.dagster_run
            for alert in alerts_of_run(self.instance, record, own) if own.includes(self.instance, run) else ():
                if not self._is_repaired(alert, run):
                    owner = run.tags.get(MODEL, alert.subject.partition("/")[0])
                    yield owner, f"run {run.run_id[:8]} at {minute(alert.occurred_at)}: {alert.title}"

    def _is_repaired(self, alert: Alert, run: dg.DagsterRun) -> bool:
        graph, key, over = self.repository.asset_graph, dg.AssetKey(alert.subject.split("/")), range_of(run.tags)
        if not graph.has(key):
            return False
        days = self.declared.calendar.between(*over) if over and graph.get(key).is_partitioned else None
        later = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=days, after_timestamp=alert.occurred_at.timestamp()),
            limit=len(days or [key]) + _MOST_RUNS,
        )
        made = {it.partition_key for it in later.records}
        return made.issuperset(days or [None])

    def _upcoming(self) -> Iterator[NextTick]:
        is_set = {it.instigator_name: it.is_running for it in self.instance.all_instigator_state()}
        for schedule in self.repository.schedule_defs:
            if is_set.get(schedule.name, schedule.default_status is dg.DefaultScheduleStatus.RUNNING):
                ticks = schedule_execution_time_iterator(
                    self.now.timestamp(), schedule.cron_schedule, schedule.execution_timezone or "UTC"
                )
                yield NextTick(next(ticks).astimezone(UTC), schedule.name)


def _verdicts(state: MonitoringState, model: ModelDeclaration) -> dict[str, State]:
    findings = (finding for look in LOOKS for finding in look.find(state, model))
    return {it.cause: _STATES[it.is_judged, it.is_over] for it in findings}


def _approval(pending: Promotion) -> str:
    since = f"{pending.challenger} waits for approval since {minute(pending.decided_at)}"
    return f"{since}; approve it with: ml-assets promote {pending.model} {pending.challenger[:12]} --why REASON"


def minute(moment: datetime) -> str:
    """Return a time as text, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
