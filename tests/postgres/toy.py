"""A minimal code location: an asset by day with a check, and a sensor and a schedule that request it."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

FIRST, LAST = "2013-01-01", "2013-01-04"
RANGE = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
KEY = dg.AssetKey("orders")


@dg.asset(
    key=KEY, partitions_def=dg.DailyPartitionsDefinition(FIRST, end_date="2013-01-05"), pool="warehouse",
    backfill_policy=dg.BackfillPolicy.single_run(), check_specs=[dg.AssetCheckSpec("is_small", asset=KEY)],
    code_version="1",
)  # fmt: skip
def orders(context: dg.AssetExecutionContext) -> Iterator[Any]:
    for day in context.partition_keys:
        context.add_asset_metadata({"version": f"of {day}"}, partition_key=day)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion("of all"),
        check_results=[dg.AssetCheckResult(check_name="is_small", asset_key=KEY, passed=True)],
    )


job = dg.define_asset_job("landing", [orders], executor_def=dg.in_process_executor)


@dg.sensor(job=job, default_status=dg.DefaultSensorStatus.RUNNING)
def arrivals() -> dg.RunRequest:
    return dg.RunRequest(run_key="once", tags=RANGE)


@dg.schedule(job=job, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def each_minute(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(partition_key=LAST, run_key=f"{context.scheduled_execution_time:%H:%M}")


defs = dg.Definitions([orders], jobs=[job], sensors=[arrivals], schedules=[each_minute])
