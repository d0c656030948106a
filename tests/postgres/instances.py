"""Dagster instances whose runs, events and schedules are stored in PostgreSQL."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_postgres import PostgresEventLogStorage

from ml_assets.dagster_storage.event_log_postgres import BatchingPostgresEventLogStorage


def settings_of(
    database: Mapping[str, Any], events: type[PostgresEventLogStorage] = BatchingPostgresEventLogStorage
) -> dict[str, Any]:
    """Return the content of `dagster.yaml` for an instance over a database."""
    config = {"postgres_db": dict(database)}
    return {
        "run_storage": {"module": "dagster_postgres.run_storage", "class": "PostgresRunStorage", "config": config},
        "schedule_storage": {
            "module": "dagster_postgres.schedule_storage", "class": "PostgresScheduleStorage", "config": config,
        },
        "event_log_storage": {"module": events.__module__, "class": events.__name__, "config": config},
        "telemetry": {"enabled": False},
    }  # fmt: skip


def instance_over(
    database: Mapping[str, Any],
    folder: Path,
    events: type[PostgresEventLogStorage] = BatchingPostgresEventLogStorage,
    **more: Any,
) -> dg.DagsterInstance:
    """Return an instance over a database; its compute logs lie in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return dg.DagsterInstance.local_temp(str(folder), overrides={**settings_of(database, events), **more})
