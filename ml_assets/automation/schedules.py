"""The schedules that land missing days of raw tables and clean up the lake.

Not here: assets downstream of a new raw day (see `ml_assets.automation.updates`), and the weekly reproduction (see
`ml_assets.automation.reproduction`).
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from ml_assets.contracts.periods import BY_HOUR, Calendar
from ml_assets.declaration.reading import Declared
from ml_assets.lake.days import in_rows, span_of
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.lock import LockedError
from ml_assets.lake.partitions import CRON
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.run_tags import range_tags
from ml_assets.lake.store import Lake
from ml_assets.logic.promotion.log import anchor
from ml_assets.machine.temporary import remove_abandoned
from ml_assets.models.plan import quarantine_key
from ml_assets.names import CAUSE, MODEL, prefixed
from ml_assets.orchestration.scope import day_names
from ml_assets.provenance.gc.mark import Policy
from ml_assets.provenance.gc.requests import declared_retentions
from ml_assets.provenance.gc.sweep import collect

RAW = "raw"


def daily_landing(declared: Declared) -> dg.ScheduleDefinition:
    """Return the schedule that requests the newest partition that is over of each raw table if it is not in the lake.

    Of a table that is one file for all days it requests the days since the first that are not there either: a tick may
    have been missed. With grain `hour` it runs each hour, unless another time is declared. Late files of single days
    are landed by the sensor `ml_assets_arrivals`.
    """
    tables = [
        (key, raw.days, table.file is not None, [key] if table.quarantine is None else [key, quarantine_key(key)])
        for raw in declared.raw
        for name, table in raw.tables.items()
        if table.is_by_day and (key := dg.AssetKey([RAW, name]))
    ]
    times = declared.automation.schedules
    is_hourly = declared.calendar.grain == BY_HOUR and "daily_landing" not in times.model_fields_set

    @dg.schedule(
        name=prefixed("daily_landing"),
        target=dg.AssetSelection.assets(*(key for _, _, _, selection in tables for key in selection)),
        cron_schedule=CRON[BY_HOUR] if is_hourly else times.daily_landing,
        execution_timezone=times.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Requests the missing days of each raw table up to yesterday. The sensor 'ml_assets_updates' "
        "materializes what depends on them. A run for a day without files fails, which sends an alert.",
    )
    def requests(
        context: dg.ScheduleEvaluationContext, ml_assets_lake: LakeResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        calendar = declared.calendar
        newest = calendar.newest_over(context.scheduled_execution_time)
        count = calendar.periods_in(declared.automation.updates.days)
        late = [
            (key, selection, row)
            for key, days, is_one_file, selection in tables
            if days.has(newest)
            for row in in_rows(
                _not_there(ml_assets_lake.connect(), key, newest, count=count if is_one_file else 1, calendar=calendar),
                calendar=calendar,
            )
        ]
        for key, selection, row in late:
            again = "" if row[-1] == newest else f"/{newest}"
            yield dg.RunRequest(
                run_key=f"daily landing/{key.to_user_string()}/{span_of(row)}{again}",
                asset_selection=selection,
                tags={CAUSE: "daily landing", **range_tags(row)},
            )
        if not late:
            yield dg.SkipReason(f"every raw table has {newest} ({len(tables)} tables by day).")

    return requests


def _not_there(lake: Lake, key: dg.AssetKey, last: str, *, count: int, calendar: Calendar) -> list[str]:
    """Return which of the last `count` periods are not in the lake: the last, and those after the first that exists."""
    there = day_names(lake, key, calendar)
    first = max(calendar.moved(last, 1 - count), min(there, default=last))
    return [it for it in calendar.between(min(first, last), last) if it not in there]


@dg.op(
    name=prefixed("remove_unneeded_artifacts"),
    description="Remove the artifacts that no champion, log entry or recent run needs; their manifests stay.",
)
def remove_unneeded_artifacts(context: dg.OpExecutionContext, ml_assets_lake: LakeResource) -> None:
    """Clean up the lake.

    Raises:
        dagster.Failure: nothing was removed.
    """
    policy = Policy(datetime.now(tz=UTC), requests=declared_retentions(), anchor_of=anchor)
    try:
        _, removed = collect(ml_assets_lake.connect(), policy, context.log.info)
    except (CorruptArtifactError, LockedError) as error:
        raise dg.Failure(f"nothing was removed: {error}") from error
    remove_abandoned()
    context.add_output_metadata({"bytes freed": removed.bytes, "folders removed": len(removed.folders)})


@dg.job(name=prefixed("clean_up"), description="Remove the artifacts that no champion, log entry or recent run needs.")
def clean_up_job() -> None:
    """Clean up the lake."""
    remove_unneeded_artifacts()


def for_each_model(
    declared: Declared, job: dg.JobDefinition, *, name: str, key: str, cron: str, cause: str, description: str
) -> dg.ScheduleDefinition:
    """Return the schedule that runs a job once for each model.

    Args:
        declared: the models.
        job: the job of one op, which takes the model as its configuration `model`.
        name: the name of the schedule.
        key: the first part of the run keys.
        cron: when it runs.
        cause: the cause of the runs.
        description: what the schedule does.
    """
    [op] = job.nodes

    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time
        for model in declared.models:
            yield dg.RunRequest(
                run_key=f"{key}/{model.name}/{at:%Y-%m-%dT%H:%M}",
                run_config={"ops": {op.name: {"config": {"model": model.name}}}},
                tags={MODEL: model.name, CAUSE: cause},
            )
        if not declared.models:
            yield dg.SkipReason("no model is declared.")

    return dg.ScheduleDefinition(
        name=prefixed(name),
        job=job,
        cron_schedule=cron,
        execution_timezone=declared.automation.schedules.timezone,
        execution_fn=requests,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )


def clean_up(declared: Declared) -> dg.ScheduleDefinition:
    """Return the schedule that cleans up the lake once a week."""
    times = declared.automation.schedules
    return dg.ScheduleDefinition(
        name=prefixed("clean_up_lake"),
        job=clean_up_job,
        cron_schedule=times.clean_up,
        execution_timezone=times.timezone,
        tags={CAUSE: "weekly clean-up"},
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Removes the artifacts that no champion, log entry or recent run needs. Stopped by default, "
        "because removal is permanent: run 'ml-assets gc' to see what it would remove, then start the schedule.",
    )
