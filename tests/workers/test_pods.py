"""Workers as pods of a pretended cluster: what each gets, and what becomes of those that die."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
import pytest

from ml_assets.declaration.compute import Compute
from ml_assets.kubernetes.policy import PodPolicy
from ml_assets.models.pod_tags import pod_tags
from ml_assets.workers.crew import Crew, Work, WorkersError
from ml_assets.workers.pods import Pods
from tests.kubernetes.conftest import Shop
from tests.kubernetes.location import TUNING
from tests.kubernetes.pretended import Fate, PretendedCluster, deleted, dies, out_of_memory, stays


def works(cluster: PretendedCluster, job: dict[str, Any], pod: dict[str, Any]) -> None:
    """Let the pod run, and nothing come of it yet."""
    pod["status"] = {"phase": "Running"}


def pods(shop: Shop, run: dg.DagsterRun, compute: Compute = TUNING, *, attempt: int = 0) -> Pods:
    work = Work("shop.worker", ["--study", "tuning/1"], stdin={}, tags=pod_tags(compute))
    return Pods(shop.instance.run_launcher, run, work, step_key="tuning", step_attempt=attempt)


def crew(shop: Shop, fates: Sequence[Fate], count: int, log: Callable[[str], None], compute: Compute = TUNING) -> Crew:
    shop.cluster.fates["tuning"] = [*fates, *[works] * 9]
    place = pods(shop, shop.create("tuning"), compute)
    return Crew(place, count, policy=PodPolicy.of(pod_tags(compute)), log=log)


def memory(job: dict[str, Any]) -> str:
    limits: dict[str, str] = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    return limits["memory"]


def test_a_worker_gets_the_settings_of_a_steps_pod_and_the_resources_of_its_stage(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_ASSETS_STUDIES", "postgresql://me:pw-1234@db/studies")

    with crew(shop, [], 2, pytest.fail) as at_work:
        at_work.check()

    first, second = shop.cluster.created
    spec = first["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert ["python", "-m", "ml_assets.kubernetes.step"] == container["command"]
    assert ["python", "-m", "shop.worker", "--study", "tuning/1"] == container["args"]
    assert [{"secretRef": {"name": "s3"}}] == container["envFrom"]
    amounts = {"memory": "1Gi", "ephemeral-storage": "2Gi", "nvidia.com/gpu": "1"}
    assert {
        "requests": {"cpu": "1500m", **amounts}, "limits": {"cpu": "4", **amounts}, "claims": [{"name": "h100"}]
    } == container["resources"]  # fmt: skip
    assert ("shop:gpu", "trainer", False) == (
        container["image"], spec["serviceAccountName"], spec["automountServiceAccountToken"],
    )  # fmt: skip
    assert {"pool": "heavy", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"} == spec["nodeSelector"]
    assert ("training", 90 * 60, 0) == (
        spec["priorityClassName"], first["spec"]["activeDeadlineSeconds"], first["spec"]["backoffLimit"],
    )  # fmt: skip
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert "pw-1234" not in json.dumps(shop.cluster.created)


def test_workers_of_a_cancelled_run_are_found_as_steps_are_and_deleted(shop: Shop) -> None:
    with crew(shop, [], 2, pytest.fail):
        labels = [job["metadata"]["labels"] for job in shop.cluster.created]

    assert {"step_worker"} == {it["app.kubernetes.io/component"] for it in labels}
    assert 1 == len({it["dagster/run-id"] for it in labels})
    assert ({}, 2) == (shop.cluster.jobs, sum(it.startswith("jobs/") for it in shop.cluster.deleted))


def test_one_killed_for_memory_gets_more_and_one_that_is_lost_another_try(shop: Shop) -> None:
    lines: list[str] = []

    with crew(shop, [out_of_memory, deleted], 2, lines.append) as at_work:
        at_work.check()
        at_work.check()

    assert ["1Gi", "1Gi", "2Gi", "1Gi"] == [memory(job) for job in shop.cluster.created]
    assert "worker 0: " in lines[0]
    assert "It is retried with 2Gi" in lines[0]
    assert "worker 1: " in lines[1]
    assert "It is retried unchanged, retry 1 of 1." in lines[1]


def test_a_fault_ends_the_step_with_the_pods_last_lines(shop: Shop) -> None:
    with (
        crew(shop, [works, dies], 2, pytest.fail) as at_work,
        pytest.raises(WorkersError, match=r"(?s)worker 1: .*no module"),
    ):
        at_work.check()

    assert ["Failed"] == [job["status"]["conditions"][0]["type"] for job in shop.cluster.jobs.values()]


def test_the_other_workers_continue_without_one_that_cannot_start(shop: Shop) -> None:
    lines: list[str] = []

    with crew(shop, [works, stays("never-pulled")], 2, lines.append) as at_work:
        at_work.check()
        at_work.check()

    assert 1 == len(lines)
    assert "1 workers continue" in lines[0]


def test_a_rejected_job_is_reported_with_the_clusters_message(shop: Shop) -> None:
    made = pods(shop, shop.create("tuning"))
    shop.cluster.refusals["POST /apis/batch/v1/namespaces/shop/jobs"] = (403, "exceeded quota: pods=10")

    with (
        Crew(made, 1, policy=PodPolicy(), log=pytest.fail) as at_work,
        pytest.raises(WorkersError, match="quota: pods=10"),
    ):
        at_work.check()


def test_workers_of_a_lost_run_pod_are_stopped_before_the_next_attempt(shop: Shop) -> None:
    shop.cluster.fates["tuning"] = [works] * 3
    run, other = shop.create("tuning"), shop.create("tuning")
    mine, anothers = pods(shop, run), pods(shop, other)
    for worker in (0, 1):
        mine.start(worker, 0, None)
    left_behind = {*shop.cluster.jobs}
    anothers.start(0, 0, None)

    pods(shop, run, attempt=1)

    assert 2 == len(left_behind)
    assert 1 == len(shop.cluster.jobs.keys() - left_behind) == len(shop.cluster.jobs)


def test_without_its_own_compute_a_worker_has_the_resources_of_the_runs_pod(shop: Shop) -> None:
    with crew(shop, [], 1, pytest.fail, Compute.model_validate({})):
        pass

    (job,) = shop.cluster.created
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert ("shop:1", {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}) == (
        container["image"], container["resources"],
    )  # fmt: skip
