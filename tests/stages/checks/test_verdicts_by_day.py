"""Checks by day, as Dagster stores them: each day has its own state, whatever days the run covers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.dagster_storage.event_log import BatchingSqliteEventLogStorage, EventLogByDay
from ml_assets.stages.checks.verdicts import drift_spec, evaluated_by_day
from tests.dagster_storage.test_event_log import instance_with

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-09")
KEY = dg.AssetKey(["m", "drift"])
CHECK = drift_spec(KEY, DAYS)
OVER = {"2013-01-03", "2013-01-05"}
RANGE = {"dagster/asset_partition_range_start": "2013-01-01", "dagster/asset_partition_range_end": "2013-01-04"}


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


def job() -> dg.JobDefinition:
    defs = dg.Definitions([drift], resources={"io_manager": dg.mem_io_manager}, executor=dg.in_process_executor)
    return defs.resolve_implicit_global_asset_job_def()


def test_the_evaluations_of_the_days_of_a_run_are_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[str]] = []

    def store(storage: EventLogByDay, events: Sequence[dg.EventLogEntry]) -> None:
        written.append([str(it.dagster_event_type) for it in events])
        store_batch(storage, events)

    store_batch = EventLogByDay.store_event_batch
    monkeypatch.setattr(EventLogByDay, "store_event_batch", store)
    with instance_with(BatchingSqliteEventLogStorage, tmp_path / "home") as instance:
        job().execute_in_process(instance=instance, tags=RANGE)

    assert [str(dg.DagsterEventType.ASSET_CHECK_EVALUATION)] * 4 in written


def test_a_run_over_many_days_and_a_run_of_one_give_each_day_its_own_verdict(tmp_path: Path) -> None:
    with instance_with(BatchingSqliteEventLogStorage, tmp_path / "home") as instance:
        log = instance.event_log_storage
        job().execute_in_process(instance=instance, tags=RANGE)
        newest = log.get_latest_asset_check_execution_by_key([CHECK.key])[CHECK.key]
        job().execute_in_process(instance=instance, partition_key="2013-01-05")
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
