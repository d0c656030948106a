import threading
from typing import Any

import dagster as dg
import pytest
from dagster_k8s import K8sRunLauncher
from urllib3.exceptions import MaxRetryError

from ml_assets.adapters.dagster import LaunchRunContext, ResumeRunContext, WorkerStatus
from ml_assets.kubernetes import launcher
from ml_assets.kubernetes.launcher import PodLauncher
from tests.adapters.dagster import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG
from tests.kubernetes.conftest import LAUNCHER, Shop
from tests.kubernetes.pretended import deleted, out_of_memory, refused, stays, taken_away


def launched(shop: Shop, run: dg.DagsterRun) -> dict[str, Any]:
    """Launch a run and return the spec of its pod's container."""
    shop.instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    container: dict[str, Any] = shop.cluster.created[-1]["spec"]["template"]["spec"]["containers"][0]
    return container


def health(shop: Shop, run: dg.DagsterRun) -> tuple[WorkerStatus, str | None]:
    found = shop.instance.run_launcher.check_run_worker_health(shop.now(run))
    return found.status, found.msg


def memory(container: dict[str, Any]) -> tuple[str, str]:
    return container["resources"]["requests"]["memory"], container["resources"]["limits"]["memory"]


def test_the_launcher_accepts_dagsters_configuration_and_a_ceiling() -> None:
    assert {*K8sRunLauncher.config_type(), "run_memory_ceiling"} == {*PodLauncher.config_type()}


def test_a_ceiling_that_is_no_amount_of_memory_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="'lots' is not a quantity"):
        PodLauncher(run_memory_ceiling="lots", **{k: v for k, v in LAUNCHER.items() if k != "run_memory_ceiling"})


def test_without_a_token_the_launcher_is_created_and_reports_it_at_the_first_request() -> None:
    launcher = PodLauncher(dagster_home="/dagster", service_account_name="ml-assets", instance_config_map="dagster")

    with pytest.raises(MaxRetryError, match=r"this-pod-has-no-service-account-token\.invalid"):
        launcher._api_client.core_api.list_namespaced_pod("default", _request_timeout=5)


def test_a_run_whose_pod_was_killed_for_memory_is_retried_with_twice_as_much_up_to_the_ceiling(shop: Shop) -> None:
    shop.cluster.fates["run"] = [out_of_memory] * 4
    run = shop.create("features")
    sizes = [memory(launched(shop, run))]
    for _ in range(3):
        status, message = health(shop, run)
        assert WorkerStatus.FAILED == status
        assert "was killed for memory" in str(message)
        run = shop.create("features", tags={PARENT_RUN_ID_TAG: run.run_id, ROOT_RUN_ID_TAG: run.run_id},
                          parent_run_id=run.run_id, root_run_id=run.run_id)  # fmt: skip
        sizes.append(memory(launched(shop, run)))

    assert [("1Gi", "1Gi"), ("2Gi", "2Gi"), ("4Gi", "4Gi"), ("4Gi", "4Gi")] == sizes
    ceiling = "That was the ceiling; raise the launcher's 'run_memory_ceiling'"
    assert any(ceiling in line for line in shop.messages(run, "ENGINE_EVENT"))


def test_a_run_that_is_resumed_after_its_pod_ran_out_of_memory_gets_more(shop: Shop) -> None:
    shop.cluster.fates["run"] = [out_of_memory, deleted]
    run = shop.create("features")
    launched(shop, run)

    shop.instance.run_launcher.resume_run(ResumeRunContext(run, workspace=None, resume_attempt_number=1))

    assert ("2Gi", "2Gi") == memory(shop.cluster.created[-1]["spec"]["template"]["spec"]["containers"][0])
    assert any("This run's pod gets 2Gi." in line for line in shop.messages(run, "ENGINE_EVENT"))


def test_a_lost_run_pod_is_reported_and_its_retry_is_unchanged(shop: Shop) -> None:
    shop.cluster.fates["run"] = [deleted, deleted]
    run = shop.create("features")
    first = memory(launched(shop, run))

    assert "was deleted" in str(health(shop, run)[1])
    assert first == memory(launched(shop, shop.create("features", parent_run_id=run.run_id, root_run_id=run.run_id)))


def test_a_run_whose_pod_is_terminating_continues_in_another_only_after_it_has_ended(shop: Shop) -> None:
    shop.cluster.fates["run"] = [taken_away]
    run = shop.create("features")
    launched(shop, run)
    while_it_ends = health(shop, run)
    (job,), (pod,) = shop.cluster.jobs.values(), shop.cluster.pods.values()
    deleted(shop.cluster, job, pod)

    assert (WorkerStatus.RUNNING, None) == while_it_ends
    assert WorkerStatus.FAILED == health(shop, run)[0]


def test_a_run_whose_pod_is_refused_says_so_in_the_words_of_the_api(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "LOOK_SECONDS", 0.01)
    shop.cluster.fates["run"] = [refused]
    run = shop.create("features")
    launched(shop, run)

    [watch] = [it for it in threading.enumerate() if it.name == f"pod of run {run.run_id}"]
    watch.join(timeout=30)

    assert any("is refused, and created as soon as it is allowed: Error creating: pods" in line
               and "exceeded quota: shop" in line for line in shop.messages(run, "ENGINE_EVENT"))  # fmt: skip


def test_the_cause_that_prevents_a_run_pod_from_starting_begins_its_diagnosis(shop: Shop) -> None:
    shop.cluster.fates["run"] = [stays("no-secret")]
    run = shop.create("features")
    launched(shop, run)

    shown = shop.instance.run_launcher.get_run_worker_debug_info(run)

    assert 'secret "s3" not found' in str(shown).splitlines()[0]


def test_a_cluster_that_does_not_answer_is_no_dead_run(shop: Shop) -> None:
    run = shop.create("features")
    shop.cluster.refusals["status"] = shop.cluster.refusals[run.run_id] = (403, "not now")

    with pytest.raises(Exception, match="Forbidden"):
        health(shop, run)


def test_terminating_a_run_ends_the_pods_of_its_steps_too(shop: Shop) -> None:
    shop.cluster.fates |= {"run": [stays("running")], "tuning": [stays("running")]}
    run = shop.create("tuning")
    launched(shop, run)
    labels = {"dagster/run-id": run.run_id, "app.kubernetes.io/component": "step_worker", "dagster/op": "tuning"}
    step = {**shop.cluster.created[0], "metadata": {"name": "step", "labels": labels}}
    shop.cluster.answer("POST", "/apis/batch/v1/namespaces/shop/jobs", {}, step)

    assert shop.instance.run_launcher.terminate(run.run_id)
    assert {} == shop.cluster.jobs
