"""Schedules for what has no other cause: yesterday's raw days that have not come, and the clean-up of the lake.

What follows from a new raw day stays out, see `ml_assets.automation.updates`; so does the weekly reproduction, see
`ml_assets.automation.reproduction`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg

from ml_assets.contracts.days import yesterday
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.lake.days import in_rows, span_of
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.run_tags import range_tags
from ml_assets.lake.store import Lake
from ml_assets.models.plan import day_of, days_between, quarantine_key
from ml_assets.names import CAUSE, prefixed
from ml_assets.orchestration.updating import day_names
from ml_assets.project import PROJECT, find_project

RAW = "raw"


def daily_landing(declared: Declared) -> dg.ScheduleDefinition:
    """Return the schedule that requests yesterday's day of each raw table that is not in the lake.

    Of a table that is one file for all days it requests the days since the first that are not there either: a tick may
    have been missed. Late files of single days are landed by the sensor `ml_assets_arrivals`.
    """
    tables = [
        (key, raw.days, table.file is not None, [key] if table.quarantine is None else [key, quarantine_key(key)])
        for raw in declared.raw
        for name, table in raw.tables.items()
        if table.is_by_day and (key := dg.AssetKey([RAW, name]))
    ]
    times = declared.automation.schedules

    @dg.schedule(
        name=prefixed("daily_landing"),
        target=dg.AssetSelection.assets(*(key for _, _, _, selection in tables for key in selection)),
        cron_schedule=times.daily_landing,
        execution_timezone=times.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Requests the days up to yesterday that are not there of each raw table; what follows from them is "
        "made by the sensor 'ml_assets_updates'. A run of a day whose files are not there fails, which alerts.",
    )
    def requests(
        context: dg.ScheduleEvaluationContext, ml_assets_lake: LakeResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        day = yesterday(context.scheduled_execution_time, declared.timezone)
        count = declared.automation.updates.days
        late = [
            (key, selection, row)
            for key, days, is_one_file, selection in tables
            if _has(days, day)
            for row in in_rows(_not_there(ml_assets_lake.connect(), key, day, count=count if is_one_file else 1))
        ]
        for key, selection, row in late:
            again = "" if row[-1] == str(day) else f"/{day}"
            yield dg.RunRequest(
                run_key=f"daily landing/{key.to_user_string()}/{span_of(row)}{again}",
                asset_selection=selection,
                tags={CAUSE: "daily landing", **range_tags(row)},
            )
        if not late:
            yield dg.SkipReason(
                f"{day} is there for every raw table that has such a day ({len(tables)} tables by day)."
            )

    return requests


def _not_there(lake: Lake, key: dg.AssetKey, last: date, *, count: int) -> list[str]:
    """Return which of so many days are not in the lake: the last, and those after the first that is there."""
    there = day_names(lake, key)
    first = max(last - timedelta(days=count - 1), day_of(min(there, default=str(last))))
    return [day for day in map(str, days_between(min(first, last), last)) if day not in there]


def _has(days: Days, day: date) -> bool:
    return days.first <= day and (days.last is None or day <= days.last)


@dg.op(
    name=prefixed("remove_what_nobody_needs"),
    description="Remove the artifacts that no champion, log entry or recent run needs; their manifests stay.",
)
def remove_what_nobody_needs(context: dg.OpExecutionContext, ml_assets_lake: LakeResource) -> None:
    """Clean the lake up.

    Raises:
        dagster.Failure: the command failed.
    """
    command = [sys.executable, "-m", "ml_assets.cli.main", "gc", "--yes"]
    environment = {**os.environ, "ML_ASSETS_LAKE": ml_assets_lake.connect().url, PROJECT: str(find_project().root)}
    done = subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    for line in [*done.stderr.splitlines(), *done.stdout.splitlines()]:
        context.log.info(line)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise dg.Failure(f"the lake was not cleaned up: {said[-1] if said else f'exit code {done.returncode}'}")


@dg.job(name=prefixed("clean_up"), description="Remove the artifacts that no champion, log entry or recent run needs.")
def clean_up_job() -> None:
    """The lake, cleaned up."""
    remove_what_nobody_needs()


def clean_up(declared: Declared) -> dg.ScheduleDefinition:
    """Return the schedule that cleans the lake up once a week."""
    times = declared.automation.schedules
    return dg.ScheduleDefinition(
        name=prefixed("clean_up_lake"),
        job=clean_up_job,
        cron_schedule=times.clean_up,
        execution_timezone=times.timezone,
        tags={CAUSE: "weekly clean-up"},
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Removes the artifacts that no champion, log entry or recent run needs. Stopped at first, because "
        "what it removes is gone: look at what 'ml-assets gc' would remove, then start it.",
    )
