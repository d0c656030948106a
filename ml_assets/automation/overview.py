"""Reads the state of all models at once: champions, newest days, what a person must act on, what waits, what runs next.

Not here: why a sensor decides as it does (see `ml_assets.cli.explain`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
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
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.run_tags import range_of
from ml_assets.lake.store import Lake
from ml_assets.logic.promotion.log import waiting
from ml_assets.models.leaks import proven_leaks
from ml_assets.models.monitoring import MonitoringState, read_monitoring
from ml_assets.names import MODEL, PREFIX
from ml_assets.orchestration.planner import blocked

RECENT: Final = timedelta(days=1)
"""How long ago a run may have failed to be named."""
_MOST_EVENTS: Final = 1000
NEWEST: Final = ("features", "labels", "predictions", "drift", "performance")
"""The assets of a model of which the newest period is shown."""
_VERDICTS: Final = (AssetCheckExecutionRecordStatus.FAILED, AssetCheckExecutionRecordStatus.SUCCEEDED)
_STATES: Final[dict[tuple[bool, bool], State]] = {
    (True, True): "over the limits", (True, False): "within the limits", (False, False): "not judged",
}  # fmt: skip


@dataclass(frozen=True)
class ModelStatus:
    """What is known about one model.

    Attributes:
        newest: the newest period of each of its assets in `NEWEST`; None for an asset without any.
        red: what a person must act on.
        blocked: what waits, and for what.
        champion: its version. Without a champion this and the following are None.
        since: when it was promoted.
        as_of: the day as of which it was trained.
        drift: the verdict of the retraining rule on the newest days.
        performance: likewise.
    """

    model: str
    newest: dict[str, str | None]
    red: tuple[str, ...]
    blocked: tuple[str, ...] = ()
    champion: str | None = None
    since: datetime | None = None
    as_of: str | None = None
    drift: State | None = None
    performance: State | None = None


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
        tables: the newest period of each raw table by day; None for a table without any.
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

    A damaged or missing artifact of a model is reported among what a person must act on.

    Raises:
        LakeError: the lake cannot be read.
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

    @cached_property
    def _own(self) -> OwnRuns:
        return OwnRuns.of(self.repository)

    def _of_model(self, model: ModelDeclaration, red: Sequence[str]) -> ModelStatus:
        newest = {stage: self._newest(f"{model.name}/{stage}") for stage in NEWEST}
        status = ModelStatus(model.name, newest, tuple(red))
        try:
            return self._with_facts(status, model)
        except (CorruptArtifactError, MissingArtifactError) as error:
            return replace(status, red=(str(error), *red))

    def _with_facts(self, status: ModelStatus, model: ModelDeclaration) -> ModelStatus:
        leaks = [f"a leak is proven: {it}" for it in proven_leaks(self.lake, model.name)]
        pending = waiting(PromotionLog(self.lake, model.name).entries())
        approve = [_approval(pending)] if pending is not None else []
        status = replace(status, red=(*leaks, *approve, *status.red), blocked=tuple(self._waits(model)))
        if (state := read_monitoring(self.lake, model)) is None:
            return status
        verdicts = _verdicts(state, model)
        return replace(
            status,
            champion=state.champion.version,
            since=state.since.decided_at,
            as_of=str(state.champion.as_of),
            drift=verdicts.get(DRIFT),
            performance=verdicts.get(PERFORMANCE),
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
        keys = sorted(
            (it for it in self.repository.asset_graph.asset_check_keys if it.asset_key in self._own.assets), key=str
        )
        storage = self.instance.event_log_storage
        latest = storage.get_latest_asset_check_execution_by_key(keys)
        for key in keys:
            record = latest.get(key)
            if record is not None and record.status not in _VERDICTS:  # it runs now, or its run crashed before it
                record = next(iter(storage.get_asset_check_execution_history(key, limit=1, status={*_VERDICTS})), None)
            event = None if record is None or record.event is None else record.event.dagster_event
            check = None if event is None else event.asset_check_evaluation_data
            if check is not None and not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
                line = f"check {key.name} of {key.asset_key.to_user_string()} failed. {check.description or ''}"
                yield key.asset_key.path[0], line.strip()

    def _failed_runs(self) -> Iterator[tuple[str, str]]:
        """Yield the model or the first part of the asset's key, and a line, for each failed step of the last day.

        Not of a step whose asset has been materialized since, for all days of the run.
        """
        begin = self.now - RECENT
        for record in self.instance.get_run_records(dg.RunsFilter(statuses=[*FAILED], updated_after=begin)):
            run = record.dagster_run
            for alert in (
                alerts_of_run(self.instance, record, self._own) if self._own.includes(self.instance, run) else ()
            ):
                if alert.occurred_at >= begin and not self._is_repaired(alert, run):
                    owner = run.tags.get(MODEL, alert.subject.partition("/")[0])
                    yield owner, f"run {run.run_id[:8]} at {minute(alert.occurred_at)}: {alert.title}"

    def _is_repaired(self, alert: Alert, run: dg.DagsterRun) -> bool:
        step = dg.AssetKey(alert.subject.split("/"))
        keys = [step] if step in self._own.assets else [*(run.asset_selection or ())]
        return bool(keys) and all(self._is_made_since(key, alert.occurred_at, range_of(run.tags)) for key in keys)

    def _is_made_since(self, key: dg.AssetKey, moment: datetime, over: tuple[str, str] | None) -> bool:
        graph = self.repository.asset_graph
        days = (
            self.declared.calendar.between(*over) if over and graph.has(key) and graph.get(key).is_partitioned else None
        )
        later = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=days, after_timestamp=moment.timestamp()),
            limit=_MOST_EVENTS,
        )
        made = {it.partition_key for it in later.records}
        return bool(made) and made.issuperset(days or ())

    def _upcoming(self) -> Iterator[NextTick]:
        is_set = {it.instigator_name: it.is_running for it in self.instance.all_instigator_state()}
        for schedule in (it for it in self.repository.schedule_defs if it.name.startswith(PREFIX)):
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
