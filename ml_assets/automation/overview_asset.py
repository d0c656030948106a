"""The asset that shows all models in the web UI as `ml-assets status` does, and the sensor that reports it.

The sensor starts no run. It reports the asset when a line of it has changed.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from ml_assets.automation.overview import ModelStatus, Overview, minute, read_overview
from ml_assets.declaration.reading import Declared
from ml_assets.lake.resource import LakeResource
from ml_assets.names import MANAGED, prefixed

NAME: Final = "overview"
KEY: Final = dg.AssetKey([prefixed(NAME)])
_SECONDS_FOR_EACH_MODEL: Final = 6
"""To read one model takes a fifth of a second or so, and the daemon has other sensors."""


def overview_asset() -> dg.AssetSpec:
    """Return the asset, which only the sensor reports."""
    return dg.AssetSpec(
        KEY,
        description="All models: champion, age, drift, performance, what a person must act on, what waits and what "
        "runs next. The sensor `ml_assets_overview` reports it when something changes.",
        kinds={"table"},
        tags=dict([MANAGED]),
    )


def overview_sensor(declared: Declared, *, interval_seconds: int = 300) -> dg.SensorDefinition:
    """Return the sensor that reports the state of all models, less often if they are many."""

    @dg.sensor(
        name=prefixed(NAME),
        minimum_interval_seconds=max(interval_seconds, _SECONDS_FOR_EACH_MODEL * len(declared.models)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports the asset 'ml_assets_overview' when the state of a model has changed. It starts no run.",
    )
    def overview(context: dg.SensorEvaluationContext, ml_assets_lake: LakeResource) -> dg.SensorResult:
        repository = context.repository_def
        if repository is None:
            raise dg.DagsterInvariantViolationError(
                "the sensor 'ml_assets_overview' needs the repository whose models it shows."
            )
        now = datetime.now(tz=UTC)
        found = read_overview(repository, declared, ml_assets_lake.connect(), context.instance, now=now)
        tables = overview_tables(found, now=now)
        cursor = json.dumps(tables)
        if cursor == context.cursor:
            return dg.SensorResult(skip_reason="nothing has changed.")
        metadata = {name: dg.MetadataValue.table([*map(dg.TableRecord, rows)]) for name, rows in tables.items() if rows}
        return dg.SensorResult(
            skip_reason="the overview has changed.",
            asset_events=[dg.AssetMaterialization(KEY, metadata=metadata)],
            cursor=cursor,
        )

    return overview


def overview_tables(found: Overview, *, now: datetime) -> dict[str, list[dict[str, Any]]]:
    """Return the tables: models, what a person must act on, what waits, and what runs next."""
    acts = [("", line) for line in found.red] + [(it.model, line) for it in found.models for line in it.red]
    waits = [(it.model, line) for it in found.models for line in it.blocked]
    ticks = [{"at": minute(it.at), "schedule": it.schedule} for it in found.upcoming] if found.has_daemon else []
    return {
        "models": [_row(it, now=now) for it in found.models],
        "act on": [*_lines(acts)],
        "waiting": [*_lines(waits)],
        "next": ticks,
    }


def _row(status: ModelStatus, *, now: datetime) -> dict[str, Any]:
    return {
        "model": status.model,
        "champion": (status.champion or "none")[:12],
        "trained as of": status.as_of or "",
        "days since promotion": "" if status.since is None else (now - status.since).days,
        "predictions to": status.newest["predictions"] or "none",
        "drift": status.drift or "not judged",
        "performance": status.performance or "not judged",
        "act on": len(status.red),
        "waiting": len(status.blocked),
    }


def _lines(found: list[tuple[str, str]]) -> Iterator[dict[str, str]]:
    return ({"model": model, "what": line} for model, line in found)
