"""The batching storage beside Dagster's own, on Postgres: the same events in, the same answers out."""

import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as db
from dagster import DagsterEvent, DagsterEventType, EventLogEntry
from dagster_postgres import PostgresEventLogStorage

from ml_assets.dagster_storage.event_log_postgres import BatchingPostgresEventLogStorage
from ml_assets.dagster_storage.idle_connections import IdleConnections
from tests.adapters.dagster import AssetCheckEvaluationPlanned, AssetMaterializationPlannedData, CheckError
from tests.event_logs import KEY, log_answers, run_all
from tests.postgres.instances import instance_over
from tests.postgres.server import Server


@pytest.fixture(scope="module")
def own(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Dagster's own storage answers."""
    with instance_over(postgres.database(), tmp_path_factory.mktemp("own"), PostgresEventLogStorage) as instance:
        return log_answers(instance, run_all(instance))


@pytest.mark.parametrize("batch", ["0", "500"])
def test_the_batching_storage_answers_as_dagsters_own(
    own: dict[str, Any], postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: str
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", batch)
    database = postgres.database()

    with instance_over(database, tmp_path / "home") as instance:
        assert BatchingPostgresEventLogStorage is type(instance.event_log_storage)
        runs = run_all(instance)
        batching = log_answers(instance, runs)
    with instance_over(database, tmp_path / "again", PostgresEventLogStorage) as instance:
        read = log_answers(instance, runs)

    assert 7 == len(own["shop/orders materializations"])
    assert json.dumps(own, default=str, indent=1) == json.dumps(batching, default=str, indent=1)
    assert batching == read


def planned(run_id: str, days: int) -> list[EventLogEntry]:
    """Return the events of a run that is to make some days of orders, and to check them."""
    made = [
        DagsterEvent.build_asset_materialization_planned_event(
            "job", "orders", AssetMaterializationPlannedData(KEY, partition=f"2013-01-{day:02d}")
        )
        for day in range(1, days + 1)
    ]
    checked = DagsterEvent(
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value, "job", step_key="orders",
        event_specific_data=AssetCheckEvaluationPlanned(asset_key=KEY, check_name="is_small"),
    )  # fmt: skip
    return [
        EventLogEntry(
            error_info=None, level="debug", user_message="", run_id=run_id, timestamp=time.time(), job_name="job",
            dagster_event=event,
        )
        for event in [*made, checked]
    ]  # fmt: skip


@pytest.mark.parametrize("days", [1, 30])
def test_events_that_follow_each_other_share_a_connection(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    monkeypatch.setattr(
        "ml_assets.dagster_storage.event_log_postgres.IdleConnections", partial(IdleConnections, seconds=3600)
    )
    with instance_over(postgres.database(), tmp_path / "home") as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, BatchingPostgresEventLogStorage)
        storage.store_event_batch(planned("before", 1))
        opened = list[object]()
        db.event.listen(storage._engine, "connect", lambda *it: opened.append(it))

        storage.store_event_batch(planned("run", days))

        assert [*(f"2013-01-{day:02d}" for day in range(1, days + 1)), None] == [
            record.event_log_entry.get_dagster_event().partition
            for record in storage.get_records_for_run("run").records
        ]
        assert not opened


def test_an_idle_connection_is_closed_and_opened_again_for_new_events(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ml_assets.dagster_storage.event_log_postgres.IdleConnections", partial(IdleConnections, seconds=0.1)
    )
    with instance_over(postgres.database(), tmp_path / "home") as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, BatchingPostgresEventLogStorage)
        closed = threading.Event()
        db.event.listen(storage._engine, "close", lambda *_: closed.set())

        storage.store_event_batch(planned("before", 1))

        assert closed.wait(60)
        storage.store_event_batch(planned("again", 1))
        assert 2 == len(storage.get_records_for_run("again").records)


def test_a_connection_that_the_server_has_closed_meanwhile_is_replaced(postgres: Server, tmp_path: Path) -> None:
    with instance_over(postgres.database(), tmp_path / "home") as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, BatchingPostgresEventLogStorage)
        storage.store_event_batch(planned("before", 1))
        with db.create_engine(storage.postgres_url).connect() as other:
            ended = db.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                            " AND datname = current_database()")  # fmt: skip
            assert other.execute(ended).all()

        storage.store_event_batch(planned("run", 2))

        assert 3 == len(storage.get_records_for_run("run").records)


def test_a_failed_batch_leaves_no_partial_events_of_its_assets(postgres: Server, tmp_path: Path) -> None:
    with instance_over(postgres.database(), tmp_path / "home") as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, BatchingPostgresEventLogStorage)
        with storage.index_connection() as connection:
            connection.execute(db.text("DROP TABLE asset_check_executions"))

        with pytest.raises(CheckError, match="schema migration"):
            storage.store_event_batch(planned("run", 2))

        assert not instance.has_asset_key(KEY)
