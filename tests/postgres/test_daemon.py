"""Dagster's daemon on Postgres: a sensor and a schedule request runs, the queue launches them, a pool limits them."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.adapters.dagster import DATA_VERSION_TAG
from tests.adapters.dagster import CodeLocationOrigin, InProcessCodeLocationOrigin
from tests.adapters.dagster_daemon import (
    LoadableTargetOrigin,
    QueuedRunCoordinatorDaemon,
    WorkspaceLoadTarget,
    create_test_daemon_workspace_context,
    execute_sensor_iteration,
    launch_scheduled_runs,
)
from tests.postgres import toy
from tests.postgres.instances import instance_over
from tests.postgres.server import Server

LOG = logging.getLogger(__name__)


class Here(WorkspaceLoadTarget):
    """The toy's code location in this process: a server of its own takes seconds to start."""

    def create_origins(self) -> Sequence[CodeLocationOrigin]:
        return [
            InProcessCodeLocationOrigin(
                LoadableTargetOrigin(python_file=str(toy.__file__), attribute="defs"), location_name="toy"
            )
        ]


@pytest.fixture
def instance(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    more = {
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
        "run_launcher": {
            "module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher",
        },
    }  # fmt: skip
    with instance_over(postgres.database(), tmp_path, **more) as found:
        yield found


# Dagster's own call, whenever a schedule is described to a daemon.
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")
def test_the_queue_runs_what_a_sensor_and_a_schedule_request(instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.set_concurrency_slots("warehouse", 1)
    now = datetime.now(tz=UTC)
    with create_test_daemon_workspace_context(Here(), instance) as context:
        for later in (0, 61):
            list(launch_scheduled_runs(context, LOG, now + timedelta(seconds=later), {}))
        list(execute_sensor_iteration(context, LOG, None, None))
        requested = {
            run.tags.get("dagster/sensor_name") or run.tags.get("dagster/schedule_name") for run in instance.get_runs()
        }
        waiting = []
        for _ in range(2):
            list(QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(context))
            waiting.append(instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])))

    assert {"arrivals", "each_minute"} == requested
    assert [1, 0] == waiting  # the pool has room for one
    assert [dg.DagsterRunStatus.SUCCESS] * 2 == [run.status for run in instance.get_runs()]
    assert versions(instance) == {f"2013-01-0{n}": f"of 2013-01-0{n}" for n in range(1, 5)}


def versions(instance: dg.DagsterInstance) -> dict[Any, Any]:
    records = instance.fetch_materializations(toy.KEY, limit=20).records
    return {
        record.partition_key: record.asset_materialization.tags[DATA_VERSION_TAG]
        for record in records
        if record.asset_materialization is not None and record.asset_materialization.tags is not None
    }
