"""The event log of tests, in memory; and two assets, their runs, and what every event log must return for them.

Not here: expectations, which are in the tests.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest
from sqlalchemy.engine import Connection

from ml_assets.adapters.dagster_sql import SqlEventLogStorageTable
from ml_assets.dagster_storage.event_log import EventLogByDay
from tests.adapters.dagster import InMemoryEventLogStorage

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


class EventLogInMemory(EventLogByDay, InMemoryEventLogStorage):
    """Dagster's event log of an ephemeral instance, extended as the command's is.

    Dagster's own writes a row for each check and each day of a run: they took a third of the time of a small flow.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._batch: Connection | None = None
        self._db_lock = threading.RLock()  # a batch calls Dagster's own methods, which acquire the lock again

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with self._db_lock:
            if self._batch is not None:
                yield self._batch
                return
            with self._engine.connect() as connection, connection.begin():
                yield connection

    @contextmanager
    def _inserted(
        self, events: Sequence[dg.EventLogEntry]
    ) -> Iterator[tuple[Connection, Sequence[tuple[dg.EventLogEntry, int]]]]:
        insert = SqlEventLogStorageTable.insert()
        with self._connect() as connection:
            rows = [connection.execute(insert, self._event_to_row(event)).lastrowid for event in events]
            yield connection, [*zip(events, rows, strict=True)]

    @contextmanager
    def _over(self, connection: Connection) -> Iterator[None]:
        self._batch = connection
        try:
            yield
        finally:
            self._batch = None


@contextmanager
def ephemeral_instance() -> Iterator[dg.DagsterInstance]:
    """Yield a Dagster instance in memory, with the event log that the command has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagster._core.storage.event_log.InMemoryEventLogStorage", EventLogInMemory)
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance


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


def log_answers(instance: dg.DagsterInstance, runs: list[str]) -> dict[str, Any]:
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
