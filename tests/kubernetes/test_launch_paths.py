"""Every way of launching a run gives the step the pod that its declaration requests."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from ml_assets.adapters.dagster import LaunchRunContext
from ml_assets.declaration.compute import Compute
from ml_assets.kubernetes.policy import POD, PodPolicy
from ml_assets.models.pod_tags import pod_tags
from tests.adapters.dagster import InProcessCodeLocationOrigin
from tests.adapters.dagster_daemon import (
    InProcessWorkspaceLoadTarget,
    LoadableTargetOrigin,
    ScheduleIterationTimes,
    WorkspaceProcessContext,
    create_test_daemon_workspace_context,
    execute_backfill_iteration,
    execute_sensor_iteration,
    launch_scheduled_runs,
)
from tests.golden_files import as_json, check_golden
from tests.kubernetes.conftest import LOCATION, Shop
from tests.kubernetes.location import TUNING
from tests.kubernetes.pretended import dies, stays

# Dagster itself calls what it deprecates: for the snapshot of a schedule, for automation and for backfills.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Function `AssetSelection:DeprecationWarning"),
]
LOG = logging.getLogger("dagster")
REPOSITORY = {"repositoryLocationName": "shop", "repositoryName": "__repository__"}
DAY = {"dagster/partition": "2026-01-01"}


@contextmanager
def daemon(shop: Shop) -> Iterator[WorkspaceProcessContext]:
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(python_file=str(LOCATION), attribute="defs"), location_name="shop"
    )
    with create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget([origin]), shop.instance) as context:
        yield context


def started(shop: Shop, kind: str, name: str) -> None:
    """Start a schedule or sensor, as the UI does."""
    with daemon(shop) as context:
        (location,) = context.create_request_context().code_locations
        (repository,) = location.get_repositories().values()
        if kind == "schedule":
            shop.instance.start_schedule(repository.get_schedule(name))
        else:
            shop.instance.start_sensor(repository.get_sensor(name))


def by_ui(shop: Shop) -> None:
    from tests.adapters.dagster_graphql import LAUNCH_PIPELINE_EXECUTION_MUTATION, execute_dagster_graphql

    selector = {**REPOSITORY, "pipelineName": "__ASSET_JOB", "assetSelection": [{"path": ["scores"]}]}
    tags = [{"key": key, "value": value} for key, value in DAY.items()]
    params = {"selector": selector, "runConfigData": {}, "mode": "default", "executionMetadata": {"tags": tags}}
    with daemon(shop) as context:
        execute_dagster_graphql(
            context.create_request_context(), LAUNCH_PIPELINE_EXECUTION_MUTATION, {"executionParams": params}
        )


def by_schedule(shop: Shop) -> None:
    started(shop, "schedule", "midnight")
    later = datetime.now(UTC) + timedelta(days=1)
    with daemon(shop) as context:
        times: dict[str, ScheduleIterationTimes] = {}
        list(launch_scheduled_runs(context, LOG, later, times))


def by_sensor(shop: Shop, name: str = "asks") -> None:
    started(shop, "sensor", name)
    with daemon(shop) as context:
        list(execute_sensor_iteration(context, LOG, None, None))


def by_automation(shop: Shop) -> None:
    """Two days of one asset: Dagster's automation requests them by a backfill."""
    by_sensor(shop, "automation")
    with daemon(shop) as context:
        list(execute_backfill_iteration(context, LOG))


def by_backfill(shop: Shop) -> None:
    from tests.adapters.dagster_graphql import LAUNCH_PARTITION_BACKFILL_MUTATION, execute_dagster_graphql

    params = {"assetSelection": [{"path": ["scores"]}], "partitionNames": ["2026-01-01"]}
    with daemon(shop) as context:
        execute_dagster_graphql(
            context.create_request_context(), LAUNCH_PARTITION_BACKFILL_MUTATION, {"backfillParams": params}
        )
        list(execute_backfill_iteration(context, LOG))


def by_command(shop: Shop) -> None:
    """Run as `dagster asset materialize` does: the run's worker is the command itself."""
    job = shop.repository.get_reconstructable_job("__ASSET_JOB")
    dg.execute_job(job, shop.instance, asset_selection=[dg.AssetKey("scores")], tags=DAY)


def without_names(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job without what is particular to a run."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        metadata["name"] = "NAME"
        metadata["labels"] |= {"dagster/run-id": "RUN", "dagster/job": "JOB", "app.kubernetes.io/version": "VERSION"}
        metadata["labels"].pop("dagster/code-location", None)
    job["metadata"].pop("creationTimestamp", None)
    for variable in container["env"]:
        if variable["name"] in {"DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS", "DAGSTER_RUN_JOB_NAME", "DAGSTER_HOME"}:
            variable["value"] = "VALUE"
    container["args"] = [it for it in container["args"][-3:] if it in {"api", "execute_run", "execute_step"}]
    if "command" in container:
        container["command"][-1] = container["command"][-1].rpartition(".")[2]  # of a module, which may be moved
    job.pop("status", None)
    return job


@pytest.mark.parametrize("launch", [by_ui, by_schedule, by_sensor, by_automation, by_backfill, by_command])
def test_every_way_to_launch_gives_the_step_the_same_pod(shop: Shop, launch: Callable[[Shop], None]) -> None:
    """Golden: the whole job of a step that declares everything there is."""
    shop.cluster.fates |= {"run": [stays("running")] * 3, "scores": [dies]}

    launch(shop)
    for run in shop.instance.get_runs():
        if not run.is_finished:
            shop.work(run)

    (job,) = [job for job in shop.cluster.created if job["metadata"]["labels"].get("dagster/op") == "scores"]
    check_golden("step_pod.json", as_json(without_names(job)))


def test_a_run_gets_the_pod_that_the_launcher_declares(shop: Shop) -> None:
    """Golden: the whole job of a run."""
    shop.cluster.fates["run"] = [stays("running")]
    shop.instance.run_launcher.launch_run(LaunchRunContext(dagster_run=shop.create("features"), workspace=None))

    [job] = shop.cluster.created
    check_golden("run_pod.json", as_json(without_names(job)))


OTHERS: dict[str, Any] = {
    "cpu": "2", "memory": "2Gi", "memory_ceiling": "8Gi", "gpu": 2, "gpu_type": "A100", "gpu_resource": "amd.com/gpu",
    "ephemeral_storage": "9Gi", "image": "other:1", "node_selector": {"pool": "light"},
    "tolerations": [{"operator": "Exists"}], "priority_class": "low", "deadline_minutes": 5, "start_timeout_minutes": 1,
    "retries": 0, "queue_timeout_minutes": 60, "pod": {"spec": {"hostIPC": True}},
}  # fmt: skip


@pytest.mark.parametrize("field", [*Compute.model_fields])
def test_every_declared_field_reaches_the_pod_or_the_retry_policy(field: str) -> None:
    changed = Compute.model_validate({**TUNING.model_dump(), field: OTHERS[field]})
    before, after = pod_tags(TUNING), pod_tags(changed)

    read_here = {"memory_ceiling", "start_timeout_minutes", "queue_timeout_minutes", "retries"}
    assert (field in read_here) == (before[POD] == after[POD])
    assert (field in read_here | {"memory"}) == (PodPolicy.of(before) != PodPolicy.of(after))


def test_models_that_declare_the_same_share_their_tags_and_a_stage_without_compute_has_none() -> None:
    assert pod_tags(TUNING) is pod_tags(Compute.model_validate(TUNING.model_dump()))
    assert {} == pod_tags(None)
    assert POD in pod_tags(Compute())
