"""Checks by day, as Dagster stores them: each day has its own state, whatever days the run covers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.dagster_storage.event_log import BatchingSqliteEventLogStorage
from ml_assets.stages.checks.verdicts import drift_spec, evaluated_by_day
from tests.dagster_storage.test_event_log import instance_with

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-09")
KEY = dg.AssetKey(["m", "drift"])
CHECK = drift_spec(KEY, DAYS)
OVER = {"2013-01-03", "2013-01-05"}


@dg.asset(
    key=KEY, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), check_specs=[CHECK], code_version="1"
)
def drift(context: dg.AssetExecutionContext) -> Iterator[Any]:
    yield dg.Output(1)
    yield evaluated_by_day(
        context,
        lambda days: dg.AssetCheckResult(
            check_name=CHECK.name, asset_key=KEY, passed=OVER.isdisjoint(days), severity=dg.AssetCheckSeverity.WARN,
            description=f"{len(days)} days",
        ),
    )  # fmt: skip


def test_a_run_over_many_days_and_a_run_of_one_give_each_day_its_own_verdict(tmp_path: Path) -> None:
    defs = dg.Definitions([drift], resources={"io_manager": dg.mem_io_manager}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    over = {"dagster/asset_partition_range_start": "2013-01-01", "dagster/asset_partition_range_end": "2013-01-04"}

    with instance_with(BatchingSqliteEventLogStorage, tmp_path / "home") as instance:
        log = instance.event_log_storage
        job.execute_in_process(instance=instance, tags=over)
        newest = log.get_latest_asset_check_execution_by_key([CHECK.key])[CHECK.key]
        job.execute_in_process(instance=instance, partition_key="2013-01-05")
        stored = [(it.partition, it.status.value) for it in log.get_asset_check_execution_history(CHECK.key, limit=50)]
        subsets = log.get_asset_check_state([(CHECK.key, DAYS)])[CHECK.key].subsets

    states = {status.value: sorted(subset.subset_value.get_partition_keys()) for status, subset in subsets.items()}
    assert {"SUCCEEDED": ["2013-01-01", "2013-01-02", "2013-01-04"], "FAILED": sorted(OVER)} == {
        status: found for status, found in states.items() if found
    }
    assert "4 days" == newest.event.get_dagster_event().asset_check_evaluation_data.description  # type: ignore[union-attr] # it was evaluated
    assert [
        ("2013-01-05", "FAILED"), (None, "FAILED"), ("2013-01-04", "SUCCEEDED"), ("2013-01-03", "FAILED"),
        ("2013-01-02", "SUCCEEDED"), ("2013-01-01", "SUCCEEDED"),
    ] == stored  # fmt: skip
