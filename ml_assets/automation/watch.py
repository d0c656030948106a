"""The watch, which rolls back a new champion that is worse than the former one, and a drill of that rollback.

Not here: the measurement on the same rows (see `ml_assets.stages.performance`), and the comparison (see
`ml_assets.logic.promotion.watch`).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import dagster as dg
import polars as pl
from pydantic import Field

from ml_assets.automation.changed import ModelsTick, changed_models
from ml_assets.automation.history import FAILED, runs_by_key
from ml_assets.automation.schedules import for_each_model
from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog, retry_on_conflict
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.promotion.log import Decision, entry_of, former_version, serving_since, standing
from ml_assets.logic.promotion.watch import WatchResult, compare_with_former
from ml_assets.models.champions import why_it_cannot_serve
from ml_assets.models.monitoring import MonitoringState, read_monitoring, watching_of
from ml_assets.models.plan import ModelPlan
from ml_assets.names import CAUSE, MODEL, prefixed

WATCH: Final = "watch"
ROLLBACK: Final = prefixed("take_back")
ROLL_BACK: Final = prefixed("roll_back")
"""The op of that job."""
DRILL: Final = prefixed("drill")
"""The op of the drill's job."""
TRIES: Final = 3
"""How many runs try to roll back one champion. After that, a person must act."""
PlanOf = Callable[[str], ModelPlan]


# ---------------------------------------------------------------- taking back


class RollbackConfig(dg.Config):
    """The champion to roll back, and why."""

    model: str = Field(description="The declared model.")
    entry: int = Field(description="The entry that promoted the champion; if a later entry exists, nothing is done.")
    reason: str = Field(description="The finding of the watch.")
    figures: dict[str, float] = Field(default={}, description="Its figures.")


def rollback_job(plan_of: PlanOf) -> dg.JobDefinition:
    """Return the job that rolls back one champion.

    Args:
        plan_of: returns the plan of a declared model by its name.
    """

    @dg.op(
        name=ROLL_BACK,
        description="Append an entry to the promotion log that makes the former champion the champion again.",
    )
    def roll_back(context: dg.OpExecutionContext, config: RollbackConfig, ml_assets_lake: LakeResource) -> None:
        opened, plan = ml_assets_lake.connect(), plan_of(config.model)
        entry = retry_on_conflict(lambda: _append_rollback(opened, plan, config, context.run_id))
        if entry is None:
            context.log.info(
                f"entry {config.entry} of {config.model} is no longer the current one: nothing to roll back."
            )
            return
        context.add_output_metadata(
            {"champion": entry.challenger, "entry rolled back": config.entry, "reason": config.reason}
        )

    @dg.job(name=ROLLBACK, description="Make the former champion the champion again.")
    def job() -> None:
        roll_back()

    return job


def _append_rollback(lake: Lake, plan: ModelPlan, config: RollbackConfig, run_id: str) -> Promotion | None:
    """Append the rollback; None if the champion has changed or was promoted by another entry."""
    log = PromotionLog(lake, config.model)
    entries = log.verified().entries
    since, former = serving_since(entries), former_version(entries)
    if since is None or former is None or since.number != config.entry:
        return None
    _check_that_it_can_serve(lake, plan, former)
    decision = Decision("rollback", former, config.reason, by=WATCH, at=datetime.now(tz=UTC), entry_id=run_id)
    entry = entry_of(entries, decision, model=config.model).model_copy(
        update={"figures": config.figures, "run_id": run_id, "cause": WATCH}
    )
    return log.append(entry, number=entry.number)


def _check_that_it_can_serve(lake: Lake, plan: ModelPlan, version: str) -> None:
    """Refuse to roll back to a version that cannot be used.

    Raises:
        dagster.Failure: it cannot be used; the message contains how to fix it.
    """
    if against := why_it_cannot_serve(lake, plan, version):
        raise dg.Failure(
            f"{plan.name}: {version} cannot be the champion: {' '.join(against)} Roll back to another version: "
            f"ml-assets rollback {plan.name} --to VERSION --why REASON; or train again: ml-assets run {plan.name}"
        )


def compare_champions(loop: MonitoringState, declared: ModelDeclaration) -> WatchResult | None:
    """Return the comparison of a champion with the former one; None if it is not watched."""
    if loop.former is None or not declared.watch.days:
        return None
    return compare_with_former(
        loop.performance,
        watching_of(declared),
        champion=loop.champion.version,
        metric=find_metric(declared.metric, declared.task),
        coverage=declared.retraining.min_coverage,
    )


def pending_rollback(loop: MonitoringState, declared: ModelDeclaration) -> str | None:
    """Return the reason why a retraining must wait for a rollback; None if none is pending.

    Otherwise the challenger would be compared with a champion that is about to be rolled back.
    """
    found = compare_champions(loop, declared)
    return "the champion is worse than the former one and is rolled back first" if found and found.is_worse else None


def watch_sensor(declared: Declared, *, interval_seconds: int = 60) -> dg.SensorDefinition:
    """Return the sensor that rolls back a new champion that is worse than the former one."""

    @dg.sensor(
        name=prefixed(WATCH),
        job_name=ROLLBACK,
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Rolls back a new champion if it is worse than the former one on its first days.",
    )
    def watch(context: dg.SensorEvaluationContext, ml_assets_lake: LakeResource) -> dg.SensorResult:
        cursor, changed = changed_models(context, declared.models, "performance")
        tick = ModelsTick()
        for model in changed:
            try:
                loop = _read(ml_assets_lake.connect(), model)
            except (MissingArtifactError, CorruptArtifactError) as error:
                tick.add_problem(model.name, error)
                continue
            found = None if loop is None else compare_champions(loop, model)
            if loop is None or found is None:
                tick.lines.append(f"{model.name}: no new champion to watch")
                continue
            requested, note = _rollback_request(context.instance, model.name, loop, found)
            tick.requests += requested
            tick.lines.append(f"{model.name}: {found.sentence}{note}")
            tick.waiting |= {model.name} if found.is_worse else set()
        return tick.sensor_result(context, cursor, declared.models, changed)

    return watch


def _read(lake: Lake, model: ModelDeclaration) -> MonitoringState | None:
    """Read the state of a model. Performance reports are slow to read, so they are read only for a watched champion."""
    loop = read_monitoring(lake, model, ())
    return loop if loop is None or loop.former is None else read_monitoring(lake, model, ("performance",))


def _rollback_request(
    instance: dg.DagsterInstance, model: str, loop: MonitoringState, found: WatchResult
) -> tuple[list[dg.RunRequest], str]:
    """Return the run request for a rollback, and a phrase for the skip reason if there is none.

    Each entry of the log that promoted a champion has one run, and more if that run failed.
    """
    if not found.is_worse:
        return [], ""
    keys = [f"take_back/{model}/{loop.since.number}/{tried}" for tried in range(1, TRIES + 1)]
    runs = runs_by_key(instance, keys)
    for key in keys:
        if key not in runs:
            config = {"model": model, "entry": loop.since.number, "reason": found.sentence, "figures": found.figures}
            run_config = {"ops": {ROLL_BACK: {"config": config}}}
            return [dg.RunRequest(run_key=key, run_config=run_config, tags={CAUSE: WATCH, MODEL: model})], ""
        if runs[key].status not in FAILED:
            return [], f" Run {runs[key].run_id[:8]} is rolling it back."
    return [], f" {TRIES} runs failed to roll it back; read their errors, then: ml-assets rollback {model} --why REASON"


# ---------------------------------------------------------------- the drill


class DrillConfig(dg.Config):
    """The model whose rollback is drilled."""

    model: str = Field(description="The declared model.")


def rollback_drill_job(plan_of: PlanOf) -> dg.JobDefinition:
    """Return the job that tests the rollback of one model, without an entry in the log.

    Args:
        plan_of: returns the plan of a declared model by its name.
    """

    @dg.op(name=DRILL, description="Load the version that a rollback would promote, and score the newest day with it.")
    def drill(context: dg.OpExecutionContext, config: DrillConfig, ml_assets_lake: LakeResource) -> None:
        opened, plan = ml_assets_lake.connect(), plan_of(config.model)
        before = standing(PromotionLog(opened, config.model).entries())[:-1]
        if not before:
            context.log.info(
                f"{config.model} has no champion before the current one, so there is nothing to roll back to."
            )
            return
        _check_that_it_can_serve(opened, plan, before[-1])
        day, scores = _scored(opened, plan, before[-1])
        context.add_output_metadata({"would be champion": before[-1], "day": day, "rows scored": scores.height})

    @dg.job(name=prefixed("rollback_drill"), description="Test a rollback without an entry in the promotion log.")
    def job() -> None:
        drill()

    return job


def _scored(lake: Lake, plan: ModelPlan, version: str) -> tuple[str, pl.DataFrame]:
    """Score the features of the newest day.

    Raises:
        dagster.Failure: there are no features, or the version cannot score them.
    """
    from ml_assets.logic.training.booster import predict

    asset = plan.asset("features").to_user_string()
    days = sorted(plan.calendar.current(lake.names(lake.path("artifacts", asset))))
    newest = lake.newest(asset, days[-1:])
    if not newest:
        raise dg.Failure(f"{plan.name} has no features to score. Materialize them: ml-assets run {plan.name}")
    [(day, ref)] = newest.items()
    model: Model = lake.get(ArtifactRef(asset=f"{plan.name}/model", version=version), Model)
    try:
        rows: pl.DataFrame = lake.get(ref, pl.DataFrame)
        return day, predict(model, rows, threads=plan.declaration.training.threads)
    except (ContractError, DataError, CorruptArtifactError) as error:
        raise dg.Failure(
            f"{plan.name}: {version} would be the champion after a rollback, and cannot score {day}: {error} "
            f"Materialize the features of that day again, or choose another version: ml-assets champion {plan.name}"
        ) from error


def rollback_drill(declared: Declared, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Return the schedule that drills the rollback of each model, weekly unless the declaration sets another time."""
    return for_each_model(
        declared,
        job,
        name="drill_rollbacks",
        key="rollback_drill",
        cron=declared.automation.schedules.drill_rollbacks,
        cause="weekly rollback drill",
        description="Tests the rollback of each model without an entry in the log; the run fails if it would not work.",
    )
