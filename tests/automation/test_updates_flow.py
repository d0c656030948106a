"""The real flow with the updates sensor: the updates after a late raw day, until nothing is requested any more."""

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.adapters.dagster import RUN_KEY_TAG
from ml_assets.alerts.resource import Alerts
from ml_assets.automation.updates import tick
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.orchestration.flow import Span
from tests.builders import Project
from tests.killing import MODEL, PREDICTED, Undisturbed, folder_after


@pytest.fixture
def whole(undisturbed: Undisturbed, tmp_path: Path) -> Iterator[Project]:
    """The flow over its lake as it ended, to write to."""
    lake = folder_after(undisturbed.changes, tmp_path / "lake")
    with undisturbed.flow(LakeResource(url=str(lake))) as found:
        yield found


def without_the_last_day(whole: Project) -> dict[str, str]:
    """Take the last day of everything by day out of the lake, as before it came; return the versions it had."""
    lake = Lake(whole.lake.url)
    graph = whole.defs.resolve_asset_graph()
    names = [key.to_user_string() for key in graph.toposorted_asset_keys if graph.get(key).is_partitioned]
    before = {name: lake.find(name, PREDICTED).version for name in names}
    for name in names:
        shutil.rmtree(Path(lake.url) / "artifacts" / name / PREDICTED)
    return before


def kept_up(whole: Project) -> list[tuple[list[str], str]]:
    """Run the requests of the sensor until there are none; return the assets and the first day."""
    requested = []
    cursor: str | None = None
    repository, job = whole.defs.get_repository_def(), whole.defs.resolve_implicit_global_asset_job_def()
    for _ in range(12):
        context = dg.build_sensor_context(instance=whole.instance, repository_def=repository, cursor=cursor)
        found = tick(context, whole.declared, whole.lake.connect(), Alerts(lake=whole.lake), over="2026-01-01")
        cursor = found.cursor
        for request in found.run_requests or ():
            done = job.execute_in_process(
                instance=whole.instance,
                asset_selection=[*(request.asset_selection or ())],
                tags={**request.tags, RUN_KEY_TAG: str(request.run_key)},
                run_config={"loggers": {"console": {}}},
                raise_on_error=False,
            )
            assert done.success, whole.log.getvalue()
            names = sorted(key.path[-1] for key in request.asset_selection or ())
            requested.append((names, request.tags.get("dagster/asset_partition_range_start", "")))
        if not found.run_requests:
            return requested
    raise AssertionError(f"it never ends: {requested}")


def test_after_the_run_command_the_sensor_has_nothing_to_request(whole: Project) -> None:
    assert [] == kept_up(whole)


def test_a_late_raw_day_updates_everything_from_tables_to_performance_with_equal_results(whole: Project) -> None:
    day_before = str(date.fromisoformat(PREDICTED) - timedelta(days=1))
    monitoring = [f"{MODEL}/{stage}" for stage in ("predictions", "drift", "performance")]
    assert whole.materialize(*monitoring, over=(day_before, day_before)).success, whole.log.getvalue()
    assert [(["card"], "")] == kept_up(whole)
    before = without_the_last_day(whole)
    assert [] == kept_up(whole)
    assert whole.materialize("raw/flights", "raw/weather", over=(PREDICTED, PREDICTED)).success, whole.log.getvalue()

    requested = kept_up(whole)

    assert {"stg_flights", "stg_weather", "flight_features", "flight_outcomes"} <= {*requested[0][0]}
    assert [(["features", "labels"], PREDICTED), (["drift", "performance", "predictions"], PREDICTED)] == requested[
        1:
    ]  # the card shows them already: they came out as they were
    lake = Lake(whole.lake.url)
    again = {name: lake.find(name, PREDICTED).version for name in before}
    assert {name: it for name, it in before.items() if "raw" not in name} == {
        name: it for name, it in again.items() if "raw" not in name
    }
    lines: list[str] = []
    assert whole.flow.run(Span.of(whole.model, as_of=None, first=PREDICTED, last=None), lines.append)
    assert {"tables: up to date", "monitoring: up to date", "card: up to date"} <= {*lines}
