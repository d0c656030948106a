"""The watch over new champions, which rolls back one that is worse than the one before, and a drill of that rollback.

Not here: measuring the two on the same rows (see `ml_assets.stages.performance`), and what counts as worse (see
`ml_assets.logic.promotion.watch`).
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

import dagster as dg
import polars as pl
from pydantic import Field

from ml_assets.automation.changed import changed_models, next_cursor, said
from ml_assets.automation.history import FAILED, asked_before
from ml_assets.contracts.artifacts import Model, Promotion
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import retry_on_conflict
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.promotion.log import entry_of, serving_since, standing
from ml_assets.logic.promotion.watch import Comparison, compare_with_former, held_against
from ml_assets.models.former_champion import why_it_cannot_serve
from ml_assets.models.loop import Loop, read_loop
from ml_assets.models.plan import ModelPlan
from ml_assets.names import CAUSE, MODEL, prefixed
from ml_assets.orchestration.groups import promotions

WATCH: Final = "watch"
TAKE_BACK: Final = prefixed("take_back")
ROLL_BACK: Final = prefixed("roll_back")
"""The op of that job."""
DRILL: Final = prefixed("drill")
"""The op of the drill's job."""
TRIES: Final = 3
"""Runs that try to take one champion back; after that a person is asked to."""
PlanOf = Callable[[str], ModelPlan]


# ---------------------------------------------------------------- taking back


class TakeBackConfig(dg.Config):
    """Which champion to take back, and why."""

    model: str = Field(description="The declared model.")
    entry: int = Field(description="The entry that let the champion in; nothing is done where another counts by now.")
    why: str = Field(description="What the watch saw.")
    figures: dict[str, float] = Field(default={}, description="The figures of it.")


def take_back_job(plan_of: PlanOf) -> dg.JobDefinition:
    """Return the job that takes one champion back.

    Args:
        plan_of: gives a declared model's plan by its name, when a run asks for it.
    """

    @dg.op(name=ROLL_BACK, description="Let the champion before serve again, as one more entry of the promotion log.")
    def roll_back(context: dg.OpExecutionContext, config: TakeBackConfig, ml_assets_lake: LakeResource) -> None:
        opened, plan = ml_assets_lake.connect(), plan_of(config.model)
        entry = retry_on_conflict(lambda: _roll_back(opened, plan, config, context.run_id))
        if entry is None:
            context.log.info(f"entry {config.entry} of {config.model} does not count any more: nothing to take back.")
            return
        context.add_output_metadata({"champion": entry.challenger, "entry taken back": config.entry, "why": config.why})

    @dg.job(name=TAKE_BACK, description="Let the champion before serve again.")
    def job() -> None:
        roll_back()

    return job


def _roll_back(lake: Lake, plan: ModelPlan, config: TakeBackConfig, run_id: str) -> Promotion | None:
    """Append the rollback; None where the champion is another by now, or was let in by another entry."""
    log = promotions(lake, config.model)
    entries = log.verified().entries
    since, former = serving_since(entries), held_against(entries)
    if since is None or former is None or since.number != config.entry:
        return None
    _check_that_it_can_serve(lake, plan, former)
    entry = entry_of(
        entries, former, model=config.model, action="rollback", why=config.why, by=WATCH, at=datetime.now(tz=UTC),
        entry_id=run_id,
    ).model_copy(update={"figures": config.figures, "run_id": run_id, "cause": WATCH})  # fmt: skip
    return log.append(entry, number=entry.number)


def _check_that_it_can_serve(lake: Lake, plan: ModelPlan, version: str) -> None:
    """Refuse to go back to what cannot serve.

    Raises:
        dagster.Failure: it cannot; the message says what to do.
    """
    if against := why_it_cannot_serve(lake, plan, version):
        raise dg.Failure(
            f"{plan.name}: {version} cannot serve: {' '.join(against)} Go back to another with: ml-assets rollback "
            f"{plan.name} --to VERSION --why REASON; or train again with: ml-assets run {plan.name}"
        )


def compared(loop: Loop, declared: ModelDeclaration) -> Comparison | None:
    """Return how a champion does beside the one before it; None where it is not watched."""
    if loop.former is None or not declared.watch.days:
        return None
    return compare_with_former(
        loop.performance,
        champion=loop.champion.version,
        metric=find_metric(declared.metric, declared.task),
        watched=declared.watch.days,
        minimum=declared.watch.minimum_days,
        margin=declared.watch.margin,
        coverage=declared.retraining.minimum_coverage,
    )


def taken_back(loop: Loop, declared: ModelDeclaration) -> str | None:
    """Return what a retraining waits for where the champion is worse than the one before it; None where it is not.

    A challenger would be measured against a champion that is gone when it is ready.
    """
    found = compared(loop, declared)
    return "the champion is worse than the one before it, and is taken back first" if found and found.is_worse else None


def watch_sensor(declared: Declared, *, interval_seconds: int = 60) -> dg.SensorDefinition:
    """Return the sensor that takes back a new champion that is worse than the one before it."""

    @dg.sensor(
        name=prefixed(WATCH),
        job_name=TAKE_BACK,
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Takes a new champion back whose first days are worse than the one before would have been.",
    )
    def watch(context: dg.SensorEvaluationContext, ml_assets_lake: LakeResource) -> dg.SensorResult:
        cursor, changed = changed_models(context, declared.models, "performance")
        requests: list[dg.RunRequest] = []
        lines: list[str] = []
        problems: list[str] = []
        waiting: list[str] = []
        for model in changed:
            try:
                loop = _read(ml_assets_lake.connect(), model)
            except (MissingArtifactError, CorruptArtifactError) as error:
                problems.append(f"{model.name}: {error}")
                waiting.append(model.name)
                continue
            found = None if loop is None else compared(loop, model)
            if loop is None or found is None:
                lines.append(f"{model.name}: no new champion to watch")
                continue
            asked, told = _take_back(context.instance, model.name, loop, found)
            requests += asked
            lines.append(f"{model.name}: {found.sentence}{told}")
            waiting += [model.name] if found.is_worse else []
        if problems and not requests:
            raise LakeError("\n".join([*problems, *lines]))
        for problem in problems:
            context.log.error(problem)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else said(lines, declared.models, changed, cursor.waiting),
            cursor=next_cursor(cursor, waiting),
        )

    return watch


def _read(lake: Lake, model: ModelDeclaration) -> Loop | None:
    """Read a model's loop, with its reports where there is a champion to watch: that is what costs."""
    loop = read_loop(lake, model, ())
    return loop if loop is None or loop.former is None else read_loop(lake, model, ("performance",))


def _take_back(
    instance: dg.DagsterInstance, model: str, loop: Loop, found: Comparison
) -> tuple[list[dg.RunRequest], str]:
    """Return the run that takes a champion back, and what to say where there is none.

    There is one for each entry that let a champion in, and another where that failed.
    """
    if not found.is_worse:
        return [], ""
    keys = [f"take_back/{model}/{loop.since.number}/{tried}" for tried in range(1, TRIES + 1)]
    asked = asked_before(instance, keys)
    for key in keys:
        if key not in asked:
            config = {"model": model, "entry": loop.since.number, "why": found.sentence, "figures": found.figures}
            run_config = {"ops": {ROLL_BACK: {"config": config}}}
            return [dg.RunRequest(run_key=key, run_config=run_config, tags={CAUSE: WATCH, MODEL: model})], ""
        if asked[key].status not in FAILED:
            return [], f" Run {asked[key].run_id[:8]} rolls it back."
    return [], f" {TRIES} runs failed to roll it back; look at them, then: ml-assets rollback {model} --why REASON"


# ---------------------------------------------------------------- the drill


class DrillConfig(dg.Config):
    """Whose rollback to drill."""

    model: str = Field(description="The declared model.")


def rollback_drill_job(plan_of: PlanOf) -> dg.JobDefinition:
    """Return the job that does all of one model's rollback but the entry of the log.

    Args:
        plan_of: gives a declared model's plan by its name, when a run asks for it.
    """

    @dg.op(
        name=DRILL, description="Load the version that a rollback would go back to, and score the newest day with it."
    )
    def drill(context: dg.OpExecutionContext, config: DrillConfig, ml_assets_lake: LakeResource) -> None:
        opened, plan = ml_assets_lake.connect(), plan_of(config.model)
        before = standing(promotions(opened, config.model).entries())[:-1]
        if not before:
            context.log.info(
                f"{config.model} has no champion before the current one, so there is nothing to go back to."
            )
            return
        _check_that_it_can_serve(opened, plan, before[-1])
        day, scores = _scored(opened, plan, before[-1])
        context.add_output_metadata({"would serve": before[-1], "day": day, "rows scored": scores.height})

    @dg.job(name=prefixed("rollback_drill"), description="Do all of a rollback but the entry of the promotion log.")
    def job() -> None:
        drill()

    return job


def _scored(lake: Lake, plan: ModelPlan, version: str) -> tuple[str, pl.DataFrame]:
    """Score the newest day's features.

    Raises:
        dagster.Failure: there are none, or the version cannot score them.
    """
    from ml_assets.logic.training.model import predict

    asset = plan.asset("features").to_user_string()
    days = sorted(lake.names(lake.path("artifacts", asset)))
    newest = lake.newest(asset, days[-1:])
    if not newest:
        raise dg.Failure(f"{plan.name} has no features to score; make some with: ml-assets run {plan.name}")
    [(day, ref)] = newest.items()
    model: Model = lake.get(ArtifactRef(asset=f"{plan.name}/model", version=version), Model, is_input=False)
    try:
        rows: pl.DataFrame = lake.get(ref, pl.DataFrame, is_input=False)
        return day, predict(model.booster, model.spec, rows, threads=plan.declaration.training.threads)
    except (ContractError, DataError, CorruptArtifactError) as error:
        raise dg.Failure(
            f"{plan.name}: {version} would serve after a rollback, and cannot score {day}: {error} Make the features "
            f"of that day again, or see which version can: ml-assets champion {plan.name}"
        ) from error


def rollback_drill(declared: Declared, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Return the schedule that drills each model's rollback, once a week unless it is declared otherwise."""
    times = declared.automation.schedules

    @dg.schedule(
        name=prefixed("drill_rollbacks"),
        job=job,
        cron_schedule=times.drill_rollbacks,
        execution_timezone=times.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Does all of each model's rollback but the entry of the log; a run fails where it would not work.",
    )
    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time
        for model in declared.models:
            yield dg.RunRequest(
                run_key=f"rollback_drill/{model.name}/{at:%Y-%m-%dT%H:%M}",
                run_config={"ops": {DRILL: {"config": {"model": model.name}}}},
                tags={MODEL: model.name, CAUSE: "weekly rollback drill"},
            )
        if not declared.models:
            yield dg.SkipReason("no model is declared.")

    return requests
