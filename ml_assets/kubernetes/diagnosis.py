"""Diagnoses a failed or waiting pod from the objects of the Kubernetes API. All functions are pure.

Not here: reading the API (see `ml_assets.kubernetes.cluster`) and retries (see `ml_assets.kubernetes.handler`).
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from ml_assets.machine.memory_kills import KILLED

Kind = Literal[
    "PodOutOfMemory", "PodLost", "RunPodLost", "PodNotStarted", "PodDiskFull", "PodPastDeadline", "PodFailed"
]
Object = Mapping[str, Any]

_NEVER_STARTS: Final = {
    "InvalidImageName": "Correct the name of the image.",
    "ErrImageNeverPull": "Import the image on the node, or allow pulling it (image_pull_policy).",
    "CreateContainerConfigError": "Create what is missing, or remove it from the launcher's env_secrets and volumes.",
    "CreateContainerError": "Fix the error in the message.",
    "RunContainerError": "Fix the error in the message.",
}
_MAY_START: Final = {
    "ErrImagePull": "Push the image, or correct its name or its pull secret.",
    "ImagePullBackOff": "Push the image, or correct its name or its pull secret.",
}
_SOON: Final = timedelta(minutes=1)
"""How long a pod waits for a reason that never resolves itself. All other reasons wait for the declared time."""
_OWN_DISK: Final = re.compile(r"ephemeral.*(limit|exceed)|(limit|exceed).*ephemeral|emptyDir.*exceed", re.IGNORECASE)
DELETED: Final = frozenset({"Preempted", "Evicted", "TaintManagerEviction", "NodeNotReady"})
"""Reasons of events that explain why a pod was deleted."""
_KILLED: Final = {137: "SIGKILL", 143: "SIGTERM"}


@dataclass(frozen=True)
class Diagnosis:
    """What happened to a step's pod, with how to fix it.

    Attributes:
        kind: what happened. It is stored in the event as the class of the error.
        pod: the pod whose log has more detail; None if there is no log.
    """

    kind: Kind
    sentence: str
    pod: str | None = None


def is_complete(job: Object | None) -> bool:
    """Return whether the job's pod succeeded."""
    return job is not None and _condition(job, "Complete") is not None


def is_over(job: Object | None) -> bool:
    """Return whether nothing of the job can run any more."""
    return job is None or is_complete(job) or _condition(job, "Failed") is not None


def is_queued(job: Object | None, pods: Sequence[Object]) -> bool:
    """Return whether a queue, such as Kueue, holds a job back: it is suspended, or its pod has a scheduling gate.

    A running pod of a job that is suspended may still end well.
    """
    if job is None or is_over(job) or any(_phase(pod) == "Running" for pod in pods):
        return False
    return bool(job["spec"].get("suspend")) or any(_is_gated(pod) for pod in pods)


def diagnose(
    name: str,
    job: Object | None,
    pods: Sequence[Object],
    events: Sequence[Object],
    *,
    now: datetime,
    start: timedelta,
    queue: timedelta = timedelta.max,
    since: datetime | None = None,
) -> Diagnosis | None:
    """Return what is wrong with a job's pod; None while it runs or may still start, and if it succeeded.

    Args:
        name: The job's name.
        job: The job; None if it does not exist.
        pods: Its pods.
        events: Events of the job and its pods.
        now: The present.
        start: How long a pod may wait for a node and its image.
        queue: How long a queue may hold the job back. That time does not count as waiting for a node.
        since: When the queue last held the job back, as far as it was seen.
    """
    if job is None:
        return Diagnosis(
            "PodLost", f"The job {name} does not exist any more: it was deleted, or its namespace was cleaned."
        )
    if is_queued(job, pods):
        return _in_queue(name, job, waited=now - _created(job), queue=queue)
    pod = max(pods, key=lambda it: str(it["metadata"].get("creationTimestamp", "")), default=None)
    failed = _condition(job, "Failed") or _condition(job, "FailureTarget")  # FailureTarget while its pod is terminating
    if failed is not None and failed.get("reason") == "DeadlineExceeded":
        limit = job["spec"].get("activeDeadlineSeconds")
        return Diagnosis(
            "PodPastDeadline",
            f"The job {name} was ended after its deadline of {_minutes(limit)} minutes. "
            "Raise 'deadline_minutes' of the stage's compute, or make the step faster.",
            None if pod is None else _name(pod),
        )
    began = max(_begun(job), since or _begun(job))
    if pod is None:
        return _without_pod(name, events, has_failed=failed is not None, waited=now - began, start=start)
    if failed is not None or _phase(pod) == "Failed" or pod["metadata"].get("deletionTimestamp"):
        return None if _is_ending(pod, now) else _ended(pod)
    is_waiting = _phase(pod) == "Pending" and not is_complete(job)
    return _waiting(pod, events, waited=now - began, start=start) if is_waiting else None


def refusals(events: Sequence[Object]) -> list[str]:
    """Return why the API refused to create pods, oldest first."""
    return _messages(events, {"FailedCreate"})


def _in_queue(name: str, job: Object, *, waited: timedelta, queue: timedelta) -> Diagnosis | None:
    if waited <= queue:
        return None
    how = "is suspended" if job["spec"].get("suspend") else "has a pod with a scheduling gate"
    return Diagnosis(
        "PodNotStarted",
        f"The job {name} {how}: no queue admitted it in {_minutes(waited.total_seconds())} minutes. Give its queue "
        "more quota, request less, or raise 'queue_timeout_minutes' of the stage's compute.",
    )


def _without_pod(
    name: str, events: Sequence[Object], *, has_failed: bool, waited: timedelta, start: timedelta
) -> Diagnosis | None:
    refused = refusals(events)
    if refused and (has_failed or waited > _SOON):
        return Diagnosis(
            "PodNotStarted",
            f"The pod of job {name} was refused: {_end(refused[-1])} "
            "Fix what it names: a quota, a service account, a priority class, or the namespace's pod security.",
        )
    if has_failed:
        why = _messages(events, DELETED)
        return Diagnosis("PodLost", f"The pod of job {name} was deleted{': ' + _end(why[-1]) if why else '.'}")
    if waited > start:
        return Diagnosis(
            "PodNotStarted",
            f"The job {name} had no pod after {_minutes(waited.total_seconds())} minutes. "
            "Check that the cluster's job controller runs.",
        )
    return None


def _waiting(pod: Object, events: Sequence[Object], *, waited: timedelta, start: timedelta) -> Diagnosis | None:
    """Return why a pod does not start, once it has waited long enough for that cause."""
    minutes = _minutes(waited.total_seconds())
    for container, state in _states(pod, "waiting"):
        reason = state.get("reason", "")
        fix = _NEVER_STARTS.get(reason) or _MAY_START.get(reason)
        if fix is None or waited <= (min(_SOON, start) if reason in _NEVER_STARTS else start):
            continue
        pulled = [text for text in _messages(events, {"Failed"}) if text.startswith("Failed to pull image")]
        message = pulled[-1] if pulled and reason in _MAY_START else state.get("message", "")
        image = next((it["image"] for it in pod["spec"]["containers"] if it["name"] == container), "")
        return Diagnosis(
            "PodNotStarted",
            f"The pod {_name(pod)} did not start in {minutes} minutes: {reason} with image '{image}': {_end(message)} "
            f"{fix}",
        )
    mounts = _messages(events, {"FailedMount"})
    if mounts and "not found" in mounts[-1] and waited > min(_SOON, start):
        return Diagnosis(
            "PodNotStarted",
            f"The pod {_name(pod)} did not start in {minutes} minutes: {_end(mounts[-1])} "
            "Create what is missing, or remove it from the launcher's volumes.",
        )
    if waited <= start:
        return None
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        return Diagnosis(
            "PodNotStarted",
            f"The pod {_name(pod)} found no node in {minutes} minutes; it requests {_requests(pod)}. The scheduler "
            f"reports: {_end(scheduled.get('message', ''))} Add such a node, or request less in the stage's compute.",
        )
    last = _messages(events, None)
    return Diagnosis(
        "PodNotStarted",
        f"The pod {_name(pod)} did not start in {minutes} minutes"
        f"{': ' + _end(last[-1]) if last else ', and no event says why. Check the kubelet of its node.'}",
    )


def _ended(pod: Object) -> Diagnosis:
    """Return why a failed pod ended."""
    name, status = _name(pod), pod["status"]
    where = f"The pod {name} on node {pod['spec'].get('nodeName', '(none)')}"
    ended = [(container, state) for container, state in _states(pod, "terminated") if state.get("exitCode")]
    if any(state.get("reason") == "OOMKilled" or state.get("message", "").startswith(KILLED) for _, state in ended):
        limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory")
        had = f"its limit of {limit}" if limit else "the node's memory, because it declares no limit"
        return Diagnosis("PodOutOfMemory", f"{where} was killed for memory: it used up {had}.", name)
    if status.get("reason") == "Evicted" and _OWN_DISK.search(status.get("message", "")):
        sentence = f"{where} was evicted because of its disk usage: {_end(status['message'])}"
        return Diagnosis("PodDiskFull", f"{sentence} Raise 'ephemeral_storage' of the stage's compute.", name)
    lost = _loss(pod, [state for _, state in ended])
    if lost is not None:
        return Diagnosis("PodLost", f"{where} {lost}", name)
    container, state = ended[0]
    message = ": " + _end(state["message"]) if state.get("message") else "."
    return Diagnosis(
        "PodFailed",
        f"{where} ended with exit code {state['exitCode']} ({state.get('reason', 'Error')}) in container "
        f"'{container}', and its step reported no event{message} It is not retried: it would fail again.",
        name,
    )


def _is_ending(pod: Object, now: datetime) -> bool:
    """Return whether a deleted pod still runs and may end in time. On a node that does not respond, it never ends."""
    until = pod["metadata"].get("deletionTimestamp")
    return until is not None and _phase(pod) == "Running" and now < datetime.fromisoformat(until) + _SOON


def _loss(pod: Object, ended: Sequence[Object]) -> str | None:
    """Return how a pod was lost through no fault of its step; None if its container ended by itself."""
    status = pod["status"]
    disruption = _condition(pod, "DisruptionTarget")
    if disruption is not None and disruption.get("status") == "True":
        return f"was disrupted: {disruption.get('reason', '')}: {_end(disruption.get('message', ''))}"
    if status.get("reason"):
        return f"was lost: {status['reason']}: {_end(status.get('message', ''))}".rstrip(": ")
    if pod["metadata"].get("deletionTimestamp") or not ended:
        return "was deleted before its step finished."
    killed = next((state for state in ended if state["exitCode"] in _KILLED), None)
    return None if killed is None else f"was killed from outside ({_KILLED[killed['exitCode']]})."


def _requests(pod: Object) -> str:
    """Return the resources and the node that a pod requests, in words."""
    spec = pod["spec"]
    requests = spec["containers"][0].get("resources", {}).get("requests", {})
    listed = ", ".join(f"{amount} {name}" for name, amount in requests.items()) or "no resources"
    selector = ", ".join(f"{name}={value}" for name, value in spec.get("nodeSelector", {}).items())
    return listed + (f" on a node with {selector}" if selector else "")


def _states(pod: Object, which: str) -> Iterator[tuple[str, Object]]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        for status in pod["status"].get(kind) or ():
            if status.get("state", {}).get(which):
                yield status["name"], status["state"][which]


def _messages(events: Sequence[Object], reasons: Container[str] | None) -> list[str]:
    """Return the messages of events with the given reasons, oldest first; of all warnings if `reasons` is None."""
    chosen = [it for it in events if (it.get("type") == "Warning" if reasons is None else it.get("reason") in reasons)]
    when = sorted(chosen, key=lambda it: str(it.get("lastTimestamp") or it.get("eventTime") or ""))
    return [str(it.get("message", "")) for it in when]


def _condition(thing: Object, kind: str) -> Object | None:
    found = [it for it in thing.get("status", {}).get("conditions") or () if it.get("type") == kind]
    if kind in {"Complete", "Failed", "FailureTarget"}:
        found = [it for it in found if it.get("status") == "True"]
    return found[0] if found else None


def _is_gated(pod: Object) -> bool:
    scheduled = _condition(pod, "PodScheduled")
    return scheduled is not None and scheduled.get("reason") == "SchedulingGated"


def _begun(job: Object) -> datetime:
    """Return when a job was created, or admitted by the queue that had suspended it."""
    begun = job.get("status", {}).get("startTime")
    return _created(job) if begun is None else datetime.fromisoformat(begun)


def _created(thing: Object) -> datetime:
    return datetime.fromisoformat(thing["metadata"]["creationTimestamp"])


def _phase(pod: Object) -> str:
    return str(pod["status"].get("phase", ""))


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _minutes(seconds: float | None) -> str:
    return f"{(seconds or 0) / 60:.1f}".removesuffix(".0")


def _end(text: str) -> str:
    """Return a message of the cluster as a sentence."""
    text = " ".join(text.split())
    return text if not text or text.endswith((".", "!", "?")) else text + "."
