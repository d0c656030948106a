import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from tests.adapters.dagster import capture_interrupts
from tests.kubernetes.conftest import Shop
from tests.kubernetes.pretended import (
    Fate,
    PretendedCluster,
    deleted,
    dies,
    now,
    out_of_memory,
    preempted,
    runs,
    started,
    stays,
    suspended,
)

SUCCESS, FAILURE, CANCELED = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED


def memory_of(shop: Shop) -> list[str]:
    """Return the memory limit of each pod that was started."""
    containers = [job["spec"]["template"]["spec"]["containers"][0] for job in shop.cluster.created]
    return [container["resources"]["limits"]["memory"] for container in containers]


def wait_for(happens: Callable[[], bool], then: Callable[[], None]) -> None:
    """Do something as soon as something else has happened."""
    until = time.monotonic() + 120
    while not happens() and time.monotonic() < until:
        time.sleep(0.02)
    then()


@contextmanager
def when(happens: Callable[[], bool], then: Callable[[], None]) -> Iterator[None]:
    """Do something beside the test as soon as something else has happened."""

    thread = threading.Thread(target=wait_for, args=(happens, then))
    thread.start()
    with capture_interrupts():
        yield
        thread.join()


def noted(shop: Shop, name: str) -> bool:
    done = shop.folder / "done"
    return done.exists() and name in done.read_text()


def test_steps_share_the_runs_process_and_a_pod_gets_more_memory_or_another_try_as_it_needs(shop: Shop) -> None:
    shop.cluster.fates["tuning"] = [out_of_memory, deleted, runs]

    run = shop.work(shop.create("features", "tuning", "model"))

    assert SUCCESS == run.status, shop.messages(run, "STEP_FAILURE", "RUN_FAILURE")
    assert [("features", True), ("tuning", False), ("model", True)] == shop.done
    assert ["tuning", "tuning", "tuning"] == shop.cluster.steps
    assert ["1Gi", "2Gi", "2Gi"] == memory_of(shop)
    memory, lost = shop.messages(run, "STEP_UP_FOR_RETRY")
    assert "was killed for memory: it used up its limit of 1Gi. It is retried with 2Gi; its ceiling is 3Gi" in memory
    assert "was deleted. It is retried unchanged, retry 1 of 1." in lost
    assert 3 == len({job["metadata"]["name"] for job in shop.cluster.created})


def test_no_step_on_a_thread_configures_logging_which_would_lock_the_whole_process(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    by: list[str] = []
    configured = type(shop.instance).get_yaml_python_handlers

    def noting(instance: dg.DagsterInstance) -> Any:
        by.append(threading.current_thread().name)
        return configured(instance)

    monkeypatch.setattr(type(shop.instance), "get_yaml_python_handlers", noting)

    assert SUCCESS == shop.work(shop.create("features", "model")).status

    assert by
    assert not [name for name in by if name.startswith("step")]


@pytest.mark.parametrize(
    ("fates", "memory", "parts", "is_deleted"),
    [
        ([out_of_memory] * 5, ["1Gi", "2Gi", "3Gi"],
         ["That is the ceiling; raise 'memory_ceiling' of the stage's compute from 3Gi."], False),
        ([deleted] * 5, ["1Gi", "1Gi"], ["Its 1 retries are used up; raise 'retries'"], False),
        ([stays("no-image")], ["1Gi"], ["ImagePull", "Push the image"], True),
        ([dies], ["1Gi"], ["ended with exit code 1", "no module named shop"], False),
    ],
    ids=["memory up to its ceiling", "lost more often than declared", "no image", "a crash of the code"],
)  # fmt: skip
def test_a_step_whose_pods_end_badly_fails_with_the_cause_and_a_pod_that_cannot_start_is_deleted(
    shop: Shop, *, fates: list[Fate], memory: list[str], parts: list[str], is_deleted: bool
) -> None:
    shop.cluster.fates["tuning"] = [*fates]

    run = shop.work(shop.create("tuning", "model"))

    assert FAILURE == run.status
    assert memory == memory_of(shop)
    (failure,) = shop.messages(run, "STEP_FAILURE")
    assert [] == [part for part in parts if part not in failure]
    assert not noted(shop, "model")
    assert is_deleted == (f"jobs/{shop.cluster.created[0]['metadata']['name']}" in shop.cluster.deleted)


def test_a_preempted_pod_is_diagnosed_even_after_it_is_deleted(shop: Shop) -> None:
    shop.cluster.fates["tuning"] = [preempted, runs]

    run = shop.work(shop.create("tuning"))

    assert SUCCESS == run.status
    (lost,) = shop.messages(run, "STEP_UP_FOR_RETRY")
    name = shop.cluster.created[0]["metadata"]["name"]
    why = f"The pod of job {name} was deleted: Preempted by pod 50339a87 on node node1, {name}-x. It is retried"
    assert why in lost


def test_a_step_whose_job_a_queue_suspends_is_waited_for_and_the_log_says_so_once(shop: Shop) -> None:
    shop.cluster.fates["tuning"] = [suspended]
    run = shop.create("tuning")

    def is_said() -> bool:
        return any("waits in a queue" in line for line in shop.messages(run, "ENGINE_EVENT"))

    with when(is_said, shop.cluster.admit):
        done = shop.work(run)

    assert SUCCESS == done.status, shop.messages(run, "STEP_FAILURE")
    assert ["tuning"] == shop.cluster.steps
    assert 1 == len([line for line in shop.messages(run, "ENGINE_EVENT") if "waits in a queue" in line])
    assert [] == shop.cluster.deleted


def test_a_step_that_a_queue_preempts_is_retried_in_a_new_job(shop: Shop) -> None:
    def preempted_by_queue(cluster: PretendedCluster, job: dict[str, Any], pod: dict[str, Any]) -> None:
        process = started(cluster, pod)

        def preempt() -> None:
            job["spec"]["suspend"] = True  # the pod goes on until it has ended
            job["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"  # longer ago than a queue may take
            pod["metadata"]["deletionTimestamp"] = now()
            process.terminate()
            process.communicate()
            (shop.folder / "tuning").unlink()
            del cluster.pods[pod["metadata"]["name"]]

        cluster.follow(lambda: wait_for(lambda: noted(shop, "tuning"), preempt))

    (shop.folder / "tuning").touch()  # the step does not end by itself
    shop.cluster.fates["tuning"] = [preempted_by_queue]
    run = shop.create("tuning")

    assert SUCCESS == shop.work(run).status, shop.messages(run, "STEP_FAILURE")

    (lost,) = shop.messages(run, "STEP_UP_FOR_RETRY")
    assert "was suspended while its step ran: a queue preempted it. It is retried unchanged" in lost
    assert 2 == len(shop.cluster.created)


def test_a_job_that_the_cluster_rejects_fails_its_step_with_the_clusters_message(shop: Shop) -> None:
    shop.cluster.refusals["POST /apis/batch/v1/namespaces/shop/jobs"] = (403, 'exceeded quota: "gpus"')

    run = shop.work(shop.create("tuning"))

    assert FAILURE == run.status
    assert 'was refused: exceeded quota: "gpus"' in shop.messages(run, "STEP_FAILURE")[0]


def test_a_job_that_the_cluster_refuses_for_a_while_is_created_after_that(shop: Shop) -> None:
    jobs = "POST /apis/batch/v1/namespaces/shop/jobs"
    shop.cluster.refusals[jobs] = (503, "the server is shutting down")
    threading.Timer(0.3, shop.cluster.refusals.pop, [jobs]).start()

    run = shop.work(shop.create("tuning"))

    assert SUCCESS == run.status
    assert ["tuning"] == shop.cluster.steps


def test_a_job_whose_creation_got_no_response_is_not_created_twice(shop: Shop) -> None:
    shop.cluster.lost_responses = 1

    run = shop.work(shop.create("tuning"))

    assert SUCCESS == run.status
    assert ["tuning"] == shop.cluster.steps


def test_a_step_whose_job_cannot_be_created_during_a_long_outage_fails_alone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.kubernetes.client.OUTAGE_SECONDS", 0.0)
    monkeypatch.setattr("time.sleep", lambda _: None)
    shop.cluster.refusals["POST /apis/batch/v1/namespaces/shop/jobs"] = (503, "the server is shutting down")

    run = shop.work(shop.create("features", "tuning"))

    assert FAILURE == run.status
    assert "the Kubernetes API did not answer: the server is shutting down" in shop.messages(run, "STEP_FAILURE")[0]


def test_an_error_of_the_code_is_reported_once_and_not_retried(shop: Shop) -> None:
    (shop.folder / "features").write_text("fail")

    run = shop.work(shop.create("features", "tuning"))

    assert (FAILURE, []) == (run.status, shop.cluster.created)
    assert 1 == len(shop.messages(run, "STEP_FAILURE"))
    assert [] == shop.messages(run, "STEP_UP_FOR_RETRY")


def test_a_local_step_that_crashes_before_it_reports_fails(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise MemoryError("no room for the plan")

    monkeypatch.setattr("ml_assets.kubernetes.handler.create_execution_plan", breaks)

    run = shop.work(shop.create("features"))

    assert FAILURE == run.status
    (failure,) = shop.messages(run, "STEP_FAILURE")
    assert "it ended without an event" in failure
    assert "MemoryError: no room for the plan" in failure


@pytest.mark.parametrize("step", ["features", "tuning"])
def test_a_cancelled_run_ends_and_leaves_no_pod(shop: Shop, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # as if it resumed
    monkeypatch.setattr("ml_assets.kubernetes.handler.PodStepHandler.terminate_step", lambda *_: iter(()))
    shop.cluster.fates["tuning"] = [stays("running")]
    (shop.folder / "features").write_text("wait")
    run = shop.create(step)

    def begun() -> bool:
        return bool(shop.cluster.created) or noted(shop, "features")

    def cancel() -> None:
        shop.instance.report_run_canceling(shop.now(run))
        os.kill(os.getpid(), signal.SIGTERM)

    with when(begun, cancel):
        shop.work(run)

    assert CANCELED == shop.now(run).status
    assert {} == shop.cluster.jobs
    if step == "features":
        assert "DagsterExecutionInterruptedError" in shop.messages(run, "STEP_FAILURE")[0]


def test_a_resumed_run_finds_its_pod_at_work_and_waits_for_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop.instance.__class__, "run_will_resume", lambda *_: True)
    (shop.folder / "tuning").write_text("wait")
    run = shop.create("features", "tuning", "model")

    with when(lambda: noted(shop, "tuning"), lambda: os.kill(os.getpid(), signal.SIGTERM)):
        shop.work(run)
    assert dg.DagsterRunStatus.STARTED == shop.now(run).status
    with when(lambda: True, (shop.folder / "tuning").unlink):
        resumed = shop.work(shop.now(run), resumes=True)

    assert SUCCESS == resumed.status, shop.messages(run, "STEP_FAILURE", "RUN_FAILURE")
    assert [("features", True), ("tuning", False), ("model", True)] == shop.done
    assert 1 == len(shop.cluster.created)


def test_a_run_whose_pod_is_evicted_lets_its_local_step_end_and_continues_after_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop.instance.__class__, "run_will_resume", lambda *_: True)
    (shop.folder / "features").write_text("wait")
    run = shop.create("features", "tuning")

    def taken_away() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        until = time.monotonic() + 120
        while time.monotonic() < until and "will be resumed" not in " ".join(shop.messages(run, "ENGINE_EVENT")):
            time.sleep(0.02)
        (shop.folder / "features").unlink()

    with when(lambda: noted(shop, "features"), taken_away):
        shop.work(run)
    ended = shop.messages(run, "STEP_SUCCESS", "STEP_FAILURE")
    resumed = shop.work(shop.now(run), resumes=True)

    assert ['features: Finished execution of step "features"'] == [it.partition(" in ")[0] for it in ended]
    assert SUCCESS == resumed.status, shop.messages(run, "STEP_FAILURE", "RUN_FAILURE")
    assert [("features", True), ("tuning", False)] == shop.done


@pytest.mark.parametrize("step", ["features", "tuning"])
def test_a_step_that_was_lost_with_the_runs_pod_is_tried_again_when_the_run_resumes(shop: Shop, step: str) -> None:
    run = shop.create(step)
    shop.instance.report_engine_event("A run's pod began.", run)
    begins = [("PIPELINE_START", None), ("STEP_START", step)]
    for kind, key in begins:
        event = dg.DagsterEvent(event_type_value=kind, job_name=run.job_name, step_key=key)
        shop.instance.report_dagster_event(event, run.run_id)
    shop.cluster.fates["tuning"] = [dies]
    resumed = shop.work(shop.now(run), resumes=True)

    (again,) = shop.messages(run, "STEP_UP_FOR_RETRY")
    assert "It is retried" in again
    assert (SUCCESS if step == "features" else FAILURE) == resumed.status
    restarted = shop.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_RESTARTED)
    assert (step == "features") == bool(restarted)
