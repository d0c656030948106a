"""The drift and performance sensors and the weekly floor: each asks for a retraining when the facts of a day want one.

What the facts mean stays out (see `ml_assets.logic.monitoring.retraining`), and so does who serves afterwards: the gate
decides.

What was asked for stands in the lake's retraining log, created only if absent: the same facts never ask twice, whoever
looks at them, after a restart and with a cursor lost too. The cursor only says which models need no look.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from logging import Logger
from typing import Any, Final, NamedTuple

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME  # what the UI materializes with

from ml_assets.alerts.resource import Alert, Alerts
from ml_assets.automation.changed import changed_models, next_cursor, said
from ml_assets.automation.history import asked_before, in_progress
from ml_assets.automation.watch import taken_back
from ml_assets.contracts.artifacts import ModelSpec, Retraining
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.days import days_by_asset
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.monitoring.budget import Spending, hold
from ml_assets.logic.monitoring.retraining import (
    Decision,
    Finding,
    decide,
    drift_finding,
    floor_finding,
    labels_finding,
    performance_finding,
)
from ml_assets.models.loop import ASKED_BEFORE, Kind, Loop, read_loop, retraining_log, rules_of
from ml_assets.models.spending import read_spending
from ml_assets.models.training import training_gaps
from ml_assets.names import CAUSE, MANAGED, MODEL, prefixed
from ml_assets.orchestration.groups import INPUTS, TRAINING
from ml_assets.orchestration.updating import day_names

DRIFT: Final = "drift"
PERFORMANCE: Final = "performance"
FLOOR: Final = "retraining_floor"
RETRAINING: Final = "ml_assets/retraining"
"""The tag of the run of a retraining; its value is that of its record in the log."""
MAKES_GOOD: Final = {DRIFT: (DRIFT, FLOOR), PERFORMANCE: (PERFORMANCE,), FLOOR: ()}
"""By sensor, whose records without a run it asks a run for: one each, since Dagster knows a run key by its sensor."""
TAKEN_OVER: Final = timedelta(minutes=10)
"""After so long a record without a run was asked for by a daemon that died before Dagster knew of it."""
FORGOTTEN: Final = timedelta(days=2)
"""A record older than this has had its run, even if Dagster's database has lost it."""
Clock = Callable[[], datetime]
"""Tells the time, in UTC."""


@dataclass(frozen=True)
class Look:
    """One kind of facts: which reports they need, and what these say."""

    kinds: tuple[Kind, ...]
    find: Callable[[Loop, ModelDeclaration], list[Finding]]


@dataclass(frozen=True)
class _Parameters:
    """The part of a model that says what it was trained with."""

    spec: ModelSpec


class _Found(NamedTuple):
    """What is known of one model's loop, and what was asked for that has no run."""

    declared: ModelDeclaration
    loop: Loop
    claimed: list[Retraining]


@dataclass
class Tick:
    """What one look came to.

    Attributes:
        requests: runs to ask for.
        waiting: models to look at again though nothing new is made of them: what holds them back may end, and what
            cannot be read may be mended.
        lines: what to say of each model.
        problems: models that could not be looked at, and why.
        alerts: budgets that are spent, or that nobody can check.
    """

    requests: list[dg.RunRequest] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)


def _of_drift(loop: Loop, declared: ModelDeclaration) -> list[Finding]:
    return [drift_finding(loop.drift, loop.champion, rules_of(declared))]


def _of_performance(loop: Loop, declared: ModelDeclaration) -> list[Finding]:
    rules, metric = rules_of(declared), find_metric(declared.metric, declared.task)
    return [
        performance_finding(loop.performance, loop.champion, rules, metric),
        labels_finding(loop.performance, loop.champion, loop.history, rules),
    ]


def _of_age(loop: Loop, declared: ModelDeclaration) -> list[Finding]:
    if loop.newest_day is None:
        return []
    return [floor_finding(loop.newest_day, loop.champion, loop.history, rules_of(declared))]


AT_DRIFT: Final = Look(("drift",), _of_drift)
AT_PERFORMANCE: Final = Look(("performance",), _of_performance)
AT_AGE: Final = Look((), _of_age)
LOOKS: Final = (AT_DRIFT, AT_PERFORMANCE, AT_AGE)


def _now() -> datetime:
    return datetime.now(tz=UTC)


def drift_sensor(declared: Declared, *, clock: Clock = _now, interval_seconds: int = 60) -> dg.SensorDefinition:
    """Return the sensor that asks for a retraining where a model's inputs or scores have drifted."""
    return _sensor(
        DRIFT, AT_DRIFT, declared, clock, interval_seconds=interval_seconds,
        description="Trains again what has drifted.",
    )  # fmt: skip


def performance_sensor(declared: Declared, *, clock: Clock = _now, interval_seconds: int = 60) -> dg.SensorDefinition:
    """Return the sensor that asks where a model falls behind what it promised, or has many new labels to learn from."""
    return _sensor(
        PERFORMANCE, AT_PERFORMANCE, declared, clock, interval_seconds=interval_seconds,
        description="Trains again what falls behind its promise on matured labels, or has many new ones to learn from.",
    )  # fmt: skip


def _sensor(
    name: str, look: Look, declared: Declared, clock: Clock, *, description: str, interval_seconds: int
) -> dg.SensorDefinition:
    @dg.sensor(
        name=prefixed(name),
        asset_selection=dg.AssetSelection.tag(*MANAGED),
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=description,
    )
    def sensor(
        context: dg.SensorEvaluationContext, ml_assets_lake: LakeResource, ml_assets_alerts: Alerts
    ) -> dg.SensorResult:
        cursor, changed = changed_models(context, declared.models, name)
        tick = ask(context.instance, ml_assets_lake.connect(), changed, look, by=name, now=clock())
        _report(context.log, tick, ml_assets_alerts)
        return dg.SensorResult(
            run_requests=tick.requests,
            skip_reason=None if tick.requests else said(tick.lines, declared.models, changed, cursor.waiting),
            cursor=next_cursor(cursor, tick.waiting),
        )

    return sensor


def retraining_floor(declared: Declared, *, clock: Clock = _now) -> dg.ScheduleDefinition:
    """Return the schedule that trains again what was not trained for as long as is declared."""
    times = declared.automation.schedules

    @dg.schedule(
        name=prefixed(FLOOR),
        job_name=IMPLICIT_ASSET_JOB_NAME,
        cron_schedule=times.retraining_floor,
        execution_timezone=times.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Trains again what was not trained for as long as its declaration says, whatever the sensors see.",
    )
    def requests(
        context: dg.ScheduleEvaluationContext, ml_assets_lake: LakeResource, ml_assets_alerts: Alerts
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        tick = ask(context.instance, ml_assets_lake.connect(), declared.models, AT_AGE, by=FLOOR, now=clock())
        _report(context.log, tick, ml_assets_alerts)
        yield from tick.requests
        if not tick.requests:
            yield dg.SkipReason(said(tick.lines, declared.models, declared.models))

    return requests


def _report(log: Logger, tick: Tick, alerts: Alerts) -> None:
    """Say what could not be looked at, and, where runs are asked for, what a skip reason would say.

    Budgets are told as alerts, whose keys say the month: who tells one again tells nobody.

    Raises:
        LakeError: models could not be looked at and no other asks for anything, which an error would keep from it.
    """
    if tick.alerts:
        alerts.send(*tick.alerts, log=log)
    if tick.problems and not tick.requests:
        raise LakeError("\n".join([*tick.problems, *tick.lines]))
    for problem in tick.problems:
        log.error(problem)
    for line in tick.lines if tick.requests else ():
        log.info(line)


def ask(
    instance: dg.DagsterInstance,
    lake: Lake,
    models: Sequence[ModelDeclaration],
    look: Look,
    *,
    by: str,
    now: datetime,
) -> Tick:
    """Look at models, and ask for the retrainings that they want: each is claimed in the lake's log first.

    The order counts: what was asked for, what of it has no run, which runs are under way. A record that another sensor
    adds in between takes the number that this one would claim.
    """
    tick = Tick()
    found: list[_Found] = []
    for declared in models:
        try:
            loop = read_loop(lake, declared, look.kinds)
        except (MissingArtifactError, CorruptArtifactError) as error:
            tick.problems.append(f"{declared.name}: {error}")
            tick.waiting.add(declared.name)
            continue
        if loop is None:
            tick.lines.append(f"{declared.name}: nobody serves yet")
        else:
            found.append(_Found(declared, loop, without_run(instance, loop.history, now=now)))
    busy = being_trained(instance, [it.declared for it in found])
    for it in found:
        _ask_for(tick, lake, it, look, by=by, now=now, busy=busy.get(it.declared.name))
    return tick


def _ask_for(tick: Tick, lake: Lake, found: _Found, look: Look, *, by: str, now: datetime, busy: str | None) -> None:
    declared, loop, claimed = found
    name = declared.name
    died = [it for it in claimed if it.asked_by in MAKES_GOOD[by] and now - it.asked_at > TAKEN_OVER]
    if died and not busy:
        tick.requests.append(request(lake, declared, died[0]))
        tick.waiting.add(name)
        tick.lines.append(f"{name}: asked for as of {died[0].as_of} by {died[0].asked_by}, which did not come to a run")
        return
    busy = busy or told_of_claims(claimed)
    findings = look.find(loop, declared)
    decision = decision_of(loop, declared, findings, busy=busy)
    if decision.asks is not None:
        try:
            busy = taken_back(_with_performance(lake, declared, loop), declared) or _missing(lake, declared, loop)
            decision = decision_of(loop, declared, findings, busy=busy)
            spending = None if decision.asks is None else read_spending(lake, declared, now=now)
        except CorruptArtifactError as error:
            tick.problems.append(f"{name}: {error}")
            tick.waiting.add(name)
            return
        decision = hold(decision, spending)
        tick.alerts += alerts_of_spending(name, spending)
    tick.lines.append(f"{name}: {decision.sentence}")
    if claimed or (decision.is_held and busy):
        tick.waiting.add(name)
    if decision.asks is None:
        return
    record = record_of(loop, declared, decision, by=by, now=now)
    log = retraining_log(lake, name)
    # Another sensor may have asked as of another day since the loop was read: two trainings would begin at once.
    if log.newest(ASKED_BEFORE) == [*loop.history] and log.claim(record):
        tick.requests.append(request(lake, declared, record))
    tick.waiting.add(name)


def _missing(lake: Lake, declared: ModelDeclaration, loop: Loop) -> str | None:
    """Return which days a training would lack; None where it lacks none."""
    if loop.newest_day is None:
        return None
    assets = [f"{declared.name}/{stage}" for stage in INPUTS]
    there = {asset: day_names(lake, dg.AssetKey(asset.split("/"))) for asset in assets}
    split = declared.retraining.split or declared.split
    missing = training_gaps(declared, there, loop.newest_day, split).blocking
    return f"{days_by_asset(missing)} is missing" if missing else None


def _with_performance(lake: Lake, declared: ModelDeclaration, loop: Loop) -> Loop:
    """Return the loop with the reports that a new champion is held against the one before by."""
    if loop.former is None or loop.performance:
        return loop
    return read_loop(lake, declared, ("performance",)) or loop


def decision_of(
    loop: Loop, declared: ModelDeclaration, findings: Sequence[Finding], *, busy: str | None = None
) -> Decision:
    """Return what follows from what was found."""
    if loop.newest_day is None:
        return Decision(None, "nothing was predicted yet")
    return decide(
        findings, day=loop.newest_day, champion=loop.champion, history=loop.history, rules=rules_of(declared),
        busy=busy,
    )  # fmt: skip


def alerts_of_spending(name: str, spending: Spending | None) -> Iterator[Alert]:
    """Yield the alert of a budget that is spent, or that nobody can check: one a month, whatever is spent after it."""
    if spending is None or not (spending.is_over or spending.spent is None):
        return
    is_over, month = spending.is_over, spending.month
    does = "Retrainings wait until the next month" if spending.blocks and is_over else "Retrainings go on"
    yield Alert(
        kind="over_budget",
        subject=name,
        title=f"{name}: {spending.sentence}" if is_over else f"{name}: its budget is not checked in {month}",
        body=f"{spending.sentence}. {does}; {spending.field} and budget.over stand in the declaration. What it was "
        f"spent on: ml-assets cost {name} --month {month}",
        key=f"budget/{name}/{month}{'' if is_over else '/unknown'}",
        at=datetime.fromisoformat(f"{month}-01T00:00:00+00:00"),
        facts={"spent": spending.spent, "budget": spending.budget},
        severity="warning",
    )


def record_of(loop: Loop, declared: ModelDeclaration, decision: Decision, *, by: str, now: datetime) -> Retraining:
    """Return what the log keeps of a decision that asks."""
    if decision.asks is None or loop.newest_day is None:
        raise ValueError("a decision that asks for nothing has no record")
    return Retraining(
        model=declared.name,
        as_of=loop.newest_day,
        number=decision.number,
        cause=decision.asks.cause,
        sentence=decision.asks.sentence,
        figures=decision.asks.figures,
        champion=loop.champion.version,
        asked_at=now,
        asked_by=by,
    )


def request(lake: Lake, declared: ModelDeclaration, record: Retraining) -> dg.RunRequest:
    """Return the run of a retraining: training set to gate, as of its day, tuned from the champion's parameters."""
    champion = ArtifactRef(asset=f"{declared.name}/model", version=record.champion)
    training = declared.retraining
    as_of: dict[str, Any] = {"as_of": str(record.as_of)}
    if training.split is not None:
        as_of["split"] = training.split.model_dump()
    tuning: dict[str, Any] = {"first": dict(lake.get(champion, _Parameters, is_input=False).spec.parameters)}
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
    """Return what tells the run of a retraining from any other."""
    return f"retraining/{record.model}/{record.as_of}/{record.number}"


def without_run(instance: dg.DagsterInstance, history: Sequence[Retraining], *, now: datetime) -> list[Retraining]:
    """Return what was asked for and has no run: its daemon is about to tell Dagster of it, or died before it could."""
    recent = [it for it in history if now - it.asked_at < FORGOTTEN]
    there = asked_before(instance, [run_key_of(it) for it in recent])
    return [it for it in recent if run_key_of(it) not in there]


def told_of_claims(claimed: Sequence[Retraining]) -> str | None:
    """Return what to say of records that have no run yet; None of none."""
    if not claimed:
        return None
    return f"the run that {claimed[-1].asked_by} asked for as of {claimed[-1].as_of} is about to begin"


def being_trained(instance: dg.DagsterInstance, models: Sequence[ModelDeclaration]) -> dict[str, str]:
    """Return, by model, what trains it right now."""
    under_way = in_progress(instance, None) if models else {}
    found: dict[str, str] = {}
    for declared in models:
        for stage in TRAINING:
            for run in under_way.get(dg.AssetKey([declared.name, stage]), {}).values():
                found[declared.name] = f"run {run[:8]} trains it"
    return found
