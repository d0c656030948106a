"""The drift and performance sensors and the weekly floor, which request retrainings.

Not here: the rules (see `ml_assets.logic.monitoring.retraining`), and whether the new model is promoted, which the gate
decides.

Each request is a record of the retraining log in the lake, created only if absent. The same facts therefore never cause
two requests, even after a restart, without a cursor or from another sensor. The cursor only shows which models need no
check.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from logging import Logger
from typing import Any, Final, NamedTuple

import dagster as dg

from ml_assets.adapters.dagster import IMPLICIT_ASSET_JOB_NAME
from ml_assets.alerts.alert import Alert
from ml_assets.alerts.resource import Alerts
from ml_assets.automation.actions import alerts_of_findings, alerts_of_spending, of_monitoring, report_new
from ml_assets.automation.changed import ModelsTick, changed_models
from ml_assets.automation.history import in_progress, runs_by_key
from ml_assets.automation.ticks import report_tick
from ml_assets.automation.watch import pending_rollback
from ml_assets.contracts.decisions import Retraining
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.days import days_by_asset
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.monitoring.budget import hold
from ml_assets.logic.monitoring.retraining import (
    RetrainingDecision,
    RetrainingFinding,
    decide,
    drift_finding,
    floor_finding,
    labels_finding,
    performance_finding,
)
from ml_assets.models.monitoring import (
    RECORDS_READ,
    Kind,
    MonitoringState,
    SpecOfModel,
    read_monitoring,
    retraining_rules,
)
from ml_assets.models.spending import read_spending
from ml_assets.models.training import training_gaps
from ml_assets.names import CAUSE, MANAGED, MODEL, prefixed
from ml_assets.orchestration.groups import INPUTS, TRAINING
from ml_assets.orchestration.scope import day_names

DRIFT: Final = "drift"
PERFORMANCE: Final = "performance"
FLOOR: Final = "retraining_floor"
RETRAINING: Final = "ml_assets/retraining"
"""The tag of a retraining's run. Its value names the record in the retraining log."""
TAKEN_OVER: Final = timedelta(minutes=10)
"""After this time, a record without a run means that the daemon stopped before Dagster stored the request."""
FORGOTTEN: Final = timedelta(days=2)
"""A record older than this has had its run, even if Dagster's database has lost it."""
Clock = Callable[[], datetime]
"""Returns the time in UTC."""


@dataclass(frozen=True)
class FactsKind:
    """One kind of facts, which one sensor or schedule checks.

    Attributes:
        name: the sensor or schedule.
        description: what it does.
        reports: the reports that it needs.
        find: finds causes in them.
        makes_good: whose records it requests a missing run for. Dagster knows run keys by sensor, so each record has
            one that does.
    """

    name: str
    description: str
    reports: tuple[Kind, ...]
    find: Callable[[MonitoringState, ModelDeclaration], list[RetrainingFinding]]
    makes_good: tuple[str, ...] = ()


class _Found(NamedTuple):
    """What is known of one model, and its requested retrainings that have no run."""

    declared: ModelDeclaration
    loop: MonitoringState
    claimed: list[Retraining]


@dataclass
class RetrainingTick(ModelsTick):
    """What one tick found, with alerts and verdicts of checks about drift, performance and budgets."""

    alerts: list[Alert] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)

    def report(self, instance: dg.DagsterInstance, alerts: Alerts, log: Logger) -> None:
        """Report the verdicts, and send the alerts. The same event always has the same key, so each is sent once."""
        report_new(instance, self.verdicts)
        if self.alerts:
            alerts.send(*self.alerts, log=log)


def _of_drift(loop: MonitoringState, declared: ModelDeclaration) -> list[RetrainingFinding]:
    return [drift_finding(loop.drift, loop.champion, retraining_rules(declared))]


def _of_performance(loop: MonitoringState, declared: ModelDeclaration) -> list[RetrainingFinding]:
    rules, metric = retraining_rules(declared), find_metric(declared.metric, declared.task)
    return [
        performance_finding(loop.performance, loop.champion, rules, metric),
        labels_finding(loop.performance, loop.champion, loop.history, rules),
    ]


def _of_age(loop: MonitoringState, declared: ModelDeclaration) -> list[RetrainingFinding]:
    if loop.newest_day is None:
        return []
    return [floor_finding(loop.newest_day, loop.champion, loop.history, retraining_rules(declared))]


AT_DRIFT: Final = FactsKind(
    DRIFT,
    "Requests a retraining when inputs or scores of a model have drifted.",
    ("drift",),
    _of_drift,
    makes_good=(DRIFT, FLOOR),
)
AT_PERFORMANCE: Final = FactsKind(
    PERFORMANCE,
    "Requests a retraining when performance on matured labels has fallen, or enough new labels exist.",
    ("performance",),
    _of_performance,
    makes_good=(PERFORMANCE,),
)
AT_AGE: Final = FactsKind(
    FLOOR, "Requests a retraining of models that were not trained for the declared number of days.", (), _of_age
)
LOOKS: Final = (AT_DRIFT, AT_PERFORMANCE, AT_AGE)


def _now() -> datetime:
    return datetime.now(tz=UTC)


def drift_sensor(declared: Declared, *, clock: Clock = _now, interval_seconds: int = 60) -> dg.SensorDefinition:
    """Return the sensor that requests a retraining when the inputs or scores of a model have drifted."""
    return _sensor(AT_DRIFT, declared, clock, interval_seconds)


def performance_sensor(declared: Declared, *, clock: Clock = _now, interval_seconds: int = 60) -> dg.SensorDefinition:
    """Return the sensor that requests a retraining when performance falls or enough new labels exist."""
    return _sensor(AT_PERFORMANCE, declared, clock, interval_seconds)


def _sensor(look: FactsKind, declared: Declared, clock: Clock, interval_seconds: int) -> dg.SensorDefinition:
    @dg.sensor(
        name=prefixed(look.name),
        asset_selection=dg.AssetSelection.tag(*MANAGED),
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=look.description,
    )
    def sensor(
        context: dg.SensorEvaluationContext, ml_assets_lake: LakeResource, ml_assets_alerts: Alerts
    ) -> dg.SensorResult:
        cursor, changed = changed_models(context, declared.models, look.name)
        tick = request_retrainings(context.instance, ml_assets_lake.connect(), changed, look, now=clock())
        tick.report(context.instance, ml_assets_alerts, context.log)
        return tick.sensor_result(context, cursor, declared.models, changed)

    return sensor


def retraining_floor(declared: Declared, *, clock: Clock = _now) -> dg.ScheduleDefinition:
    """Return the schedule that retrains models that were not trained for the declared number of days."""
    times = declared.automation.schedules

    @dg.schedule(
        name=prefixed(FLOOR),
        job_name=IMPLICIT_ASSET_JOB_NAME,
        cron_schedule=times.retraining_floor,
        execution_timezone=times.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=AT_AGE.description,
    )
    def requests(
        context: dg.ScheduleEvaluationContext, ml_assets_lake: LakeResource, ml_assets_alerts: Alerts
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        tick = request_retrainings(context.instance, ml_assets_lake.connect(), declared.models, AT_AGE, now=clock())
        tick.report(context.instance, ml_assets_alerts, context.log)
        report_tick(context.log, tick.requests, tick.lines, tick.problems)
        yield from tick.requests
        if not tick.requests:
            yield dg.SkipReason(tick.skip_reason(len(declared.models), len(declared.models)))

    return requests


def request_retrainings(
    instance: dg.DagsterInstance,
    lake: Lake,
    models: Sequence[ModelDeclaration],
    look: FactsKind,
    *,
    now: datetime,
) -> RetrainingTick:
    """Check models and request the retrainings that their facts cause. Each is first claimed in the retraining log.

    The order matters: first the records, then their missing runs, then the running runs. If another sensor adds a
    record in between, it takes the number that this sensor would claim, and the claim fails.
    """
    tick = RetrainingTick()
    found: list[_Found] = []
    for declared in models:
        try:
            loop = read_monitoring(lake, declared, look.reports)
        except (MissingArtifactError, CorruptArtifactError) as error:
            tick.add_problem(declared.name, error)
            continue
        if loop is None:
            tick.lines.append(f"{declared.name}: it has no champion yet")
        else:
            found.append(_Found(declared, loop, records_without_run(instance, loop.history, now=now)))
    busy = running_trainings(instance, [it.declared for it in found])
    for it in found:
        _request_retraining(tick, lake, it, look, now=now, busy=busy.get(it.declared.name))
    return tick


def _request_retraining(
    tick: RetrainingTick, lake: Lake, found: _Found, look: FactsKind, *, now: datetime, busy: str | None
) -> None:
    declared, loop, claimed = found
    name = declared.name
    unstarted = [it for it in claimed if it.requested_by in look.makes_good and now - it.requested_at > TAKEN_OVER]
    if unstarted and not busy:
        tick.requests.append(run_request(lake, declared, unstarted[0]))
        tick.waiting.add(name)
        by_whom = unstarted[0].requested_by
        tick.lines.append(
            f"{name}: requested again as of {unstarted[0].as_of}; the request of {by_whom} started no run"
        )
        return
    busy = busy or pending_run(claimed)
    findings = look.find(loop, declared)
    tick.verdicts += of_monitoring(name, findings, loop.champion)
    decision = decide_on(loop, declared, findings, busy=busy)
    if decision.finding is not None:
        try:
            busy = pending_rollback(_with_performance(lake, declared, loop), declared) or _missing(lake, declared, loop)
            decision = decide_on(loop, declared, findings, busy=busy)
            spending = None if decision.finding is None else read_spending(lake, declared, now=now)
        except CorruptArtifactError as error:
            tick.add_problem(name, error)
            return
        decision = hold(decision, spending)
        tick.alerts += alerts_of_spending(name, spending)
    tick.lines.append(f"{name}: {decision.sentence}")
    tick.alerts += alerts_of_findings(name, findings, loop.champion, decided=decision.sentence, now=now)
    if claimed or (decision.is_held and busy):
        tick.waiting.add(name)
    if decision.finding is None:
        return
    record = record_of(loop, declared, decision, by=look.name, now=now)
    log = RetrainingLog(lake, name)
    # Another sensor may have requested a retraining as of another day since the log was read. Two trainings would
    # start.
    if log.newest(RECORDS_READ) == [*loop.history] and log.claim(record):
        tick.requests.append(run_request(lake, declared, record))
    tick.waiting.add(name)


def _missing(lake: Lake, declared: ModelDeclaration, loop: MonitoringState) -> str | None:
    """Return which days a training set would lack, or None."""
    if loop.newest_day is None:
        return None
    assets = [f"{declared.name}/{stage}" for stage in INPUTS]
    there = {asset: day_names(lake, dg.AssetKey(asset.split("/")), declared.days.calendar) for asset in assets}
    split = declared.retraining.split or declared.split
    missing = training_gaps(declared, there, loop.newest_day, split).blocking
    return f"{days_by_asset(missing, declared.days.calendar)} is missing" if missing else None


def _with_performance(lake: Lake, declared: ModelDeclaration, loop: MonitoringState) -> MonitoringState:
    """Return the state with the performance reports that a comparison with the former champion needs."""
    if loop.former is None or loop.performance:
        return loop
    return read_monitoring(lake, declared, ("performance",)) or loop


def decide_on(
    loop: MonitoringState, declared: ModelDeclaration, findings: Sequence[RetrainingFinding], *, busy: str | None = None
) -> RetrainingDecision:
    """Return the decision that follows from the findings."""
    if loop.newest_day is None:
        return RetrainingDecision(None, "there are no predictions yet")
    return decide(
        findings, day=loop.newest_day, champion=loop.champion, history=loop.history, rules=retraining_rules(declared),
        busy=busy,
    )  # fmt: skip


def record_of(
    loop: MonitoringState, declared: ModelDeclaration, decision: RetrainingDecision, *, by: str, now: datetime
) -> Retraining:
    """Return the record of a decision to retrain."""
    if decision.finding is None or loop.newest_day is None:
        raise ValueError("a decision not to retrain has no record")
    return Retraining(
        model=declared.name,
        as_of=loop.newest_day,
        number=decision.number,
        cause=decision.finding.cause,
        sentence=decision.finding.sentence,
        figures=decision.finding.figures,
        champion=loop.champion.version,
        requested_at=now,
        requested_by=by,
    )


def run_request(lake: Lake, declared: ModelDeclaration, record: Retraining) -> dg.RunRequest:
    """Return the run of a retraining: training set to gate, as of its day; tuning starts from the champion's."""
    champion = ArtifactRef(asset=f"{declared.name}/model", version=record.champion)
    training = declared.retraining
    as_of: dict[str, Any] = {"as_of": str(record.as_of)}
    if training.split is not None:
        as_of["split"] = training.split.model_dump()
    tuning: dict[str, Any] = {"first_parameters": dict(lake.get(champion, SpecOfModel).spec.parameters)}
    if training.trials is not None:
        tuning["trials"] = training.trials
    config = {"training_set": as_of, "tuning": tuning}
    return dg.RunRequest(
        run_key=run_key_of(record),
        asset_selection=[dg.AssetKey([declared.name, stage]) for stage in TRAINING],
        run_config={"ops": {f"{declared.name}__{stage}": {"config": it} for stage, it in config.items()}},
        tags={CAUSE: record.cause, MODEL: declared.name, RETRAINING: f"{record.as_of}/{record.number}"},
    )


def run_key_of(record: Retraining) -> str:
    """Return the run key of a retraining."""
    return f"retraining/{record.model}/{record.as_of}/{record.number}"


def records_without_run(
    instance: dg.DagsterInstance, history: Sequence[Retraining], *, now: datetime
) -> list[Retraining]:
    """Return the records without a run. The daemon is about to submit them, or it stopped before it could."""
    recent = [it for it in history if now - it.requested_at < FORGOTTEN]
    there = runs_by_key(instance, [run_key_of(it) for it in recent])
    return [it for it in recent if run_key_of(it) not in there]


def pending_run(claimed: Sequence[Retraining]) -> str | None:
    """Return a phrase about records that have no run yet, or None if there are none."""
    if not claimed:
        return None
    return f"the run that {claimed[-1].requested_by} requested as of {claimed[-1].as_of} is about to start"


def running_trainings(instance: dg.DagsterInstance, models: Sequence[ModelDeclaration]) -> dict[str, str]:
    """Return, by model, a phrase about the run that is training it."""
    under_way = in_progress(instance, None, None) if models else {}  # trainings have no partitions
    found: dict[str, str] = {}
    for declared in models:
        for stage in TRAINING:
            for run in under_way.get(dg.AssetKey([declared.name, stage]), {}).values():
                found[declared.name] = f"run {run[:8]} is training it"
    return found
