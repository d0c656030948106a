"""Two assets, their runs, and all that an event log tells of them: what every storage must answer alike.

Expectations stay out; they stand in the tests.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

DAYS = dg.DailyPartitionsDefinition(start_date="2013-01-01", end_date="2013-01-06")
KEY = dg.AssetKey(["shop", "orders"])


@dg.asset(
    key=KEY, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), tags={"team": "data"},
    check_specs=[dg.AssetCheckSpec("is_small", asset=KEY)], code_version="1",
)  # fmt: skip
def orders(context: dg.AssetExecutionContext) -> Iterator[Any]:
    context.log.info("making orders")
    context.log_event(dg.AssetObservation(KEY, partition="2013-01-01", metadata={"seen": 1}))
    yield dg.MaterializeResult(
        metadata={"dagster/row_count": 3},
        data_version=dg.DataVersion("o"),
        check_results=[dg.AssetCheckResult(check_name="is_small", asset_key=KEY, passed=True)],
    )


@dg.asset(deps=[KEY], key=["shop", "report"], code_version="1")
def report() -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(metadata={"pages": 2}, data_version=dg.DataVersion("v"), tags={"kind": "pdf"})


def run_all(instance: dg.DagsterInstance) -> list[str]:
    """Run one asset over two ranges of days and the other once, and return the runs."""
    defs = dg.Definitions([orders, report], executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    runs = []
    for first, last in (("2013-01-01", "2013-01-04"), ("2013-01-03", "2013-01-05"), (None, None)):
        days = (
            {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last} if first else {}
        )
        key = KEY if first else dg.AssetKey(["shop", "report"])
        result = job.execute_in_process(instance=instance, asset_selection=[key], tags=days)
        assert result.success
        runs.append(result.run_id)
    return runs


def told(instance: dg.DagsterInstance, runs: list[str]) -> dict[str, Any]:
    """Return what the instance answers about the assets and runs, without ids and times."""
    names = {run: f"run {n}" for n, run in enumerate(runs)}
    answers: dict[str, Any] = {}
    for key in (KEY, dg.AssetKey(["shop", "report"])):
        name = key.to_user_string()
        records = instance.fetch_materializations(key, limit=100).records
        answers[f"{name} materializations"] = [
            (
                names[record.run_id],
                record.partition_key,
                {k: str(v.value) for k, v in record.asset_materialization.metadata.items()},
                {k: v for k, v in record.asset_materialization.tags.items() if not k.startswith("dagster/input")},
            )
            for record in records
        ]
        (asset,) = instance.get_asset_records([key])
        entry = asset.asset_entry
        assert entry.last_materialization is not None
        answers[f"{name} last"] = (
            entry.last_materialization.asset_materialization.partition, names[str(entry.last_run_id)],
            entry.last_materialization_record is not None,
        )  # fmt: skip
        answers[f"{name} days"] = sorted(instance.get_materialized_partitions(key))
        answers[f"{name} order"] = [r.storage_id for r in records] == sorted(
            (r.storage_id for r in records), reverse=True
        )
    answers["observations"] = [r.partition_key for r in instance.fetch_observations(KEY, limit=10).records]
    answers["newest by day"] = {
        day: names[str(instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=KEY, asset_partitions=[day]), limit=1).records[0].run_id)]
        for day in ("2013-01-02", "2013-01-03", "2013-01-05")
    }  # fmt: skip
    answers["logs"] = {
        names[run]: [
            (log.dagster_event_type and log.dagster_event_type.value, log.user_message if log.level == 20 else "")
            for log in instance.all_logs(run)
        ]
        for run in runs
    }
    answers["checks"] = [
        (names[record.run_id], record.status.value)
        for record in instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(KEY, "is_small"), limit=100
        )
        if record.status.value != "PLANNED"  # rows that Dagster's own storage leaves behind
    ]
    return answers
