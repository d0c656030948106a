"""Diagnoses of what a real cluster (1.36) gave for pods that were made to go wrong."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ml_assets.kubernetes.diagnosis import Diagnosis, diagnose
from ml_assets.machine.memory_kills import KILLED
from tests.kubernetes.pretended import recorded

Change = Callable[[dict[str, Any]], None]


def diagnosis(
    which: str,
    *,
    after: float = 11,
    start: float = 10,
    queue: float = 10_000,
    seen_in_queue: float = 0,
    change: Change | None = None,
) -> Diagnosis | None:
    """Return the diagnosis of recorded objects, so many minutes after the job was created."""
    seen = recorded(which)
    if change is not None:
        change(seen)
    created = datetime.fromisoformat(seen["job"]["metadata"]["creationTimestamp"]) if seen["job"] else datetime.now(UTC)
    return diagnose(
        "tuning-1", seen["job"], seen["pods"], seen["events"],
        now=created + timedelta(minutes=after), start=timedelta(minutes=start), queue=timedelta(minutes=queue),
        since=created + timedelta(minutes=seen_in_queue),
    )  # fmt: skip


def taken(reason: str) -> Change:
    def change(seen: dict[str, Any]) -> None:
        for condition in seen["pods"][0]["status"]["conditions"]:
            if condition["type"] == "DisruptionTarget":
                condition["reason"] = reason

    return change


def low_on_memory(seen: dict[str, Any]) -> None:
    seen["pods"][0]["status"]["message"] = "The node was low on resource: memory. Threshold quantity: 100Mi."


def node_lost(seen: dict[str, Any]) -> None:
    """The pod got SIGTERM and its node no longer reports."""
    seen["pods"][0]["metadata"]["deletionTimestamp"] = seen["job"]["metadata"]["creationTimestamp"]


def killed(seen: dict[str, Any]) -> None:
    seen["pods"][0]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 143


def one_process_killed(seen: dict[str, Any]) -> None:
    """A container that ended itself, on a runtime that does not report what the kernel killed in it."""
    state = seen["pods"][0]["status"]["containerStatuses"][0]["state"]["terminated"]
    state |= {"exitCode": 137, "reason": "Error", "message": f"{KILLED}: dbt."}


def gone(seen: dict[str, Any]) -> None:
    seen["job"] = None


@pytest.mark.parametrize(
    ("which", "change", "kind", "parts"),
    [
        ("out-of-memory", None, "PodOutOfMemory", ["killed for memory: it used up its limit of 32Mi"]),
        ("out-of-memory", one_process_killed, "PodOutOfMemory", ["killed for memory: it used up its limit of 32Mi"]),
        ("evicted-by-api", None, "PodLost", ["was disrupted: EvictionByEvictionAPI"]),
        ("evicted-by-api", taken("PreemptionByScheduler"), "PodLost", ["was disrupted: PreemptionByScheduler"]),
        ("disk-full", low_on_memory, "PodLost", ["was lost: Evicted: The node was low on resource: memory."]),
        ("deleted", None, "PodLost", ["The pod of job tuning-1 was deleted"]),
        ("running", node_lost, "PodLost", ["was deleted before its step finished"]),
        ("exit-code", killed, "PodLost", ["was killed from outside (SIGTERM)"]),
        ("running", gone, "PodLost", ["The job tuning-1 does not exist any more"]),
        ("disk-full", None, "PodDiskFull", ["exceeds the total limit of containers 8Mi", "Raise 'ephemeral_storage'"]),
        ("past-deadline", None, "PodPastDeadline", ["its deadline of 0.1 minutes", "Raise 'deadline_minutes'"]),
        ("exit-code", None, "PodFailed", ["exit code 3", "It is not retried"]),
        ("no-image", None, "PodNotStarted", ["with image 'registry.invalid/shop:1'", "no such host", "Push the image"]),
        ("invalid-image", None, "PodNotStarted", ["InvalidImageName", "must be lowercase", "Correct the name"]),
        ("never-pulled", None, "PodNotStarted", ["ErrImageNeverPull", "is not present", "Import the image"]),
        ("no-secret", None, "PodNotStarted", ['secret "s3" not found', "Create what is missing"]),
        ("no-volume", None, "PodNotStarted", ['configmap "dagster-instance" not found', "Create what is missing"]),
        ("no-account", None, "PodNotStarted", ['serviceaccount "absent" not found', "a service account"]),
        ("no-gpu", None, "PodNotStarted", [
            "requests 100m cpu, 1 nvidia.com/h100 on a node with nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3",
            "The scheduler reports: 0/1 nodes are available", "Add such a node",
        ]),
    ],
    ids=lambda it: getattr(it, "__name__", it) if isinstance(it, str) or callable(it) else None,
)  # fmt: skip
def test_the_causes_of_a_pods_end_are_distinguished(
    which: str, change: Change | None, kind: str, parts: list[str]
) -> None:
    found = diagnosis(which, change=change)

    assert found is not None
    assert kind == found.kind
    assert [] == [part for part in parts if part not in found.sentence], found.sentence


def held_back(seen: dict[str, Any]) -> None:
    """Suspended, as by Kueue."""
    seen["job"]["spec"]["suspend"] = True
    seen["pods"].clear()


def gated(seen: dict[str, Any]) -> None:
    """A pod with a scheduling gate."""
    seen["pods"][0]["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}],
    }


@pytest.mark.parametrize(("change", "how"), [(held_back, "is suspended"), (gated, "has a pod with a scheduling gate")])
def test_a_job_that_a_queue_holds_back_is_no_broken_one_until_its_own_limit(change: Change, how: str) -> None:
    assert diagnosis("no-gpu", after=119, change=change, queue=120) is None
    found = diagnosis("no-gpu", after=121, change=change, queue=120)

    assert found is not None
    assert "PodNotStarted" == found.kind
    assert f"{how}: no queue admitted it in 121 minutes." in found.sentence


def test_the_time_in_a_queue_does_not_count_as_waiting_for_a_node() -> None:
    def admitted(seen: dict[str, Any]) -> None:
        created = datetime.fromisoformat(seen["job"]["metadata"]["creationTimestamp"])
        seen["job"]["status"]["startTime"] = (created + timedelta(minutes=90)).isoformat()

    assert diagnosis("no-gpu", after=99, change=admitted) is None
    assert diagnosis("no-gpu", after=101, change=admitted) is not None
    assert diagnosis("no-gpu", after=99, seen_in_queue=90) is None  # of a gate, no time is stored
    assert diagnosis("no-gpu", after=101, seen_in_queue=90) is not None


def test_a_running_pod_has_no_diagnosis_even_after_a_long_time() -> None:
    assert diagnosis("running", after=10_000) is None


def test_a_pod_that_still_ends_is_waited_for() -> None:
    assert diagnosis("running", after=0.5, change=node_lost) is None


@pytest.mark.parametrize(
    ("which", "grace"),
    [("no-image", 10), ("no-gpu", 10), ("invalid-image", 1), ("never-pulled", 1), ("no-secret", 1), ("no-volume", 1),
     ("no-account", 1)],
)  # fmt: skip
def test_a_pod_that_may_still_start_gets_the_declared_time_and_one_that_cannot_a_minute_or_less_if_declared(
    which: str, grace: float
) -> None:
    assert diagnosis(which, after=grace - 0.1) is None
    assert diagnosis(which, after=grace + 0.1) is not None
    assert diagnosis(which, after=0.3, start=0.2) is not None
