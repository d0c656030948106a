"""What became of a pod, from the objects of the Kubernetes API: pure functions over them as JSON has them.

Reading them stays out, see `ml_assets.kubernetes.cluster`; so does what is done about it, see
`ml_assets.kubernetes.handler`.
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
    "ErrImageNeverPull": "Import the image on the node, or let it be pulled (image_pull_policy).",
    "CreateContainerConfigError": "Create what it names, or take it out of the launcher's env_secrets and volumes.",
    "CreateContainerError": "Mend what it says.",
    "RunContainerError": "Mend what it says.",
}
_MAY_START: Final = {
    "ErrImagePull": "Push the image, or correct its name or its pull secret.",
    "ImagePullBackOff": "Push the image, or correct its name or its pull secret.",
}
_SOON: Final = timedelta(minutes=1)
"""What will not mend itself ends after this; the rest after the declared wait."""
_OWN_DISK: Final = re.compile(r"ephemeral.*(limit|exceed)|(limit|exceed).*ephemeral|emptyDir.*exceed", re.IGNORECASE)
DELETED: Final = frozenset({"Preempted", "Evicted", "TaintManagerEviction", "NodeNotReady"})
"""Reasons of events that say why a pod was deleted."""
_KILLED: Final = {137: "SIGKILL", 143: "SIGTERM"}


@dataclass(frozen=True)
class Diagnosis:
    """What happened to a step's pod, in a sentence that says what to do about it.

    Attributes:
        kind: what happened; it is kept with the event as the class of the error.
        sentence: culprit, what came, and the mend.
        pod: the pod whose log says more; none where there is none.
    """

    kind: Kind
    sentence: str
    pod: str | None = None


def is_complete(job: Object | None) -> bool:
    """Whether the job's pod ended and said that all went well."""
    return job is not None and _condition(job, "Complete") is not None


def is_over(job: Object | None) -> bool:
    """Whether nothing of the job can run any more."""
    return job is None or is_complete(job) or _condition(job, "Failed") is not None


def diagnose(
    name: str,
    job: Object | None,
    pods: Sequence[Object],
    events: Sequence[Object],
    *,
    now: datetime,
    start: timedelta,
) -> Diagnosis | None:
    """Return what is wrong with a job's pod; nothing while it runs, may yet start, or ended well.

    Args:
        name: the job's name.
        job: the job; none if there is no such job.
        pods: its pods, as far as there are any.
        events: what the cluster said of the job and its pods.
        now: the time it is.
        start: how long a pod may wait for a node and its image.
    """
    if job is None:
        return Diagnosis("PodLost", f"The job {name} is gone: somebody deleted it, or its namespace was cleaned.")
    pod = max(pods, key=lambda it: str(it["metadata"].get("creationTimestamp", "")), default=None)
    failed = _condition(job, "Failed") or _condition(job, "FailureTarget")  # the latter while its pod still ends
    if failed is not None and failed.get("reason") == "DeadlineExceeded":
        limit = job["spec"].get("activeDeadlineSeconds")
        return Diagnosis(
            "PodPastDeadline",
            f"The job {name} was ended after its deadline of {_minutes(limit)} minutes. "
            "Raise 'deadline_minutes' of the stage's compute, or make the step quicker.",
            None if pod is None else _name(pod),
        )
    if pod is None:
        return _without_pod(name, job, events, has_failed=failed is not None, now=now, start=start)
    if failed is not None or _phase(pod) == "Failed" or pod["metadata"].get("deletionTimestamp"):
        return None if _is_ending(pod, now) else _ended(pod)
    if is_complete(job) or _phase(pod) != "Pending":
        return None
    return _waiting(pod, events, waited=now - _created(job), start=start)


def _without_pod(
    name: str, job: Object, events: Sequence[Object], *, has_failed: bool, now: datetime, start: timedelta
) -> Diagnosis | None:
    said = _messages(events, {"FailedCreate"})
    waited = now - _created(job)
    if said and (has_failed or waited > _SOON):
        return Diagnosis(
            "PodNotStarted",
            f"The pod of job {name} was refused: {_end(said[-1])} "
            "Mend what it names: a quota, a service account, a priority class or the pod security of the namespace.",
        )
    if has_failed:
        why = _messages(events, DELETED)
        return Diagnosis("PodLost", f"The pod of job {name} was deleted{': ' + _end(why[-1]) if why else '.'}")
    if waited > start:
        return Diagnosis(
            "PodNotStarted",
            f"The job {name} had no pod after {_minutes(waited.total_seconds())} minutes. "
            "See that the cluster's job controller runs: kubectl describe job " + name + ".",
        )
    return None


def _waiting(pod: Object, events: Sequence[Object], *, waited: timedelta, start: timedelta) -> Diagnosis | None:
    """Return why a pod does not start, if it has waited long enough for that cause."""
    minutes = _minutes(waited.total_seconds())
    for container, state in _states(pod, "waiting"):
        reason = state.get("reason", "")
        mend = _NEVER_STARTS.get(reason) or _MAY_START.get(reason)
        if mend is None or waited <= (min(_SOON, start) if reason in _NEVER_STARTS else start):
            continue
        pulled = [text for text in _messages(events, {"Failed"}) if text.startswith("Failed to pull image")]
        said = pulled[-1] if pulled and reason in _MAY_START else state.get("message", "")
        image = next((it["image"] for it in pod["spec"]["containers"] if it["name"] == container), "")
        return Diagnosis(
            "PodNotStarted",
            f"The pod {_name(pod)} did not start in {minutes} minutes: {reason} with image '{image}': {_end(said)} "
            f"{mend}",
        )
    mounts = _messages(events, {"FailedMount"})
    if mounts and "not found" in mounts[-1] and waited > min(_SOON, start):
        return Diagnosis(
            "PodNotStarted",
            f"The pod {_name(pod)} did not start in {minutes} minutes: {_end(mounts[-1])} "
            "Create what it names, or take it out of the launcher's volumes.",
        )
    if waited <= start:
        return None
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        return Diagnosis(
            "PodNotStarted",
            f"The pod {_name(pod)} found no node in {minutes} minutes; it asks for {_asked(pod)}. The scheduler says: "
            f"{_end(scheduled.get('message', ''))} Add such a node, or ask for less in the stage's compute.",
        )
    last = _messages(events, None)
    return Diagnosis(
        "PodNotStarted",
        f"The pod {_name(pod)} did not start in {minutes} minutes"
        f"{': ' + _end(last[-1]) if last else '.'} See kubectl describe pod {_name(pod)}.",
    )


def _ended(pod: Object) -> Diagnosis:
    """Return why a pod ended that should not have."""
    name, status = _name(pod), pod["status"]
    where = f"The pod {name} on node {pod['spec'].get('nodeName', '(none)')}"
    ended = [(container, state) for container, state in _states(pod, "terminated") if state.get("exitCode")]
    if any(state.get("reason") == "OOMKilled" or state.get("message", "").startswith(KILLED) for _, state in ended):
        limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory")
        had = f"its limit of {limit}" if limit else "the node's memory, for it declares no limit"
        return Diagnosis("PodOutOfMemory", f"{where} was killed for memory: it used up {had}.", name)
    if status.get("reason") == "Evicted" and _OWN_DISK.search(status.get("message", "")):
        sentence = f"{where} was evicted for its own disk use: {_end(status['message'])}"
        return Diagnosis("PodDiskFull", f"{sentence} Raise 'ephemeral_storage' of the stage's compute.", name)
    lost = _loss(pod, [state for _, state in ended])
    if lost is not None:
        return Diagnosis("PodLost", f"{where} {lost}", name)
    container, state = ended[0]
    told = ": " + _end(state["message"]) if state.get("message") else "."
    return Diagnosis(
        "PodFailed",
        f"{where} ended with exit code {state['exitCode']} ({state.get('reason', 'Error')}) in container "
        f"'{container}', and its step left no word{told} It is not tried again, for it would do the same.",
        name,
    )


def _is_ending(pod: Object, now: datetime) -> bool:
    """Whether a deleted pod still runs and may yet end; on a node that does not answer it never does."""
    until = pod["metadata"].get("deletionTimestamp")
    return until is not None and _phase(pod) == "Running" and now < datetime.fromisoformat(until) + _SOON


def _loss(pod: Object, ended: Sequence[Object]) -> str | None:
    """Return how a pod was lost by no fault of its own; nothing if its container ended by itself."""
    status = pod["status"]
    disruption = _condition(pod, "DisruptionTarget")
    if disruption is not None and disruption.get("status") == "True":
        return f"was taken away: {disruption.get('reason', '')}: {_end(disruption.get('message', ''))}"
    if status.get("reason"):
        return f"was lost: {status['reason']}: {_end(status.get('message', ''))}".rstrip(": ")
    if pod["metadata"].get("deletionTimestamp") or not ended:
        return "was deleted before its step was done."
    killed = next((state for state in ended if state["exitCode"] in _KILLED), None)
    return None if killed is None else f"was killed from outside ({_KILLED[killed['exitCode']]})."


def _asked(pod: Object) -> str:
    """Return what a pod asks of a node, in words."""
    spec = pod["spec"]
    requests = spec["containers"][0].get("resources", {}).get("requests", {})
    asked = ", ".join(f"{amount} {name}" for name, amount in requests.items()) or "nothing in particular"
    selector = ", ".join(f"{name}={value}" for name, value in spec.get("nodeSelector", {}).items())
    return asked + (f" on a node with {selector}" if selector else "")


def _states(pod: Object, which: str) -> Iterator[tuple[str, Object]]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        for status in pod["status"].get(kind) or ():
            if status.get("state", {}).get(which):
                yield status["name"], status["state"][which]


def _messages(events: Sequence[Object], reasons: Container[str] | None) -> list[str]:
    """Return what the cluster said for some reasons, oldest first; warnings of any reason if none are given."""
    chosen = [it for it in events if (it.get("type") == "Warning" if reasons is None else it.get("reason") in reasons)]
    when = sorted(chosen, key=lambda it: str(it.get("lastTimestamp") or it.get("eventTime") or ""))
    return [str(it.get("message", "")) for it in when]


def _condition(thing: Object, kind: str) -> Object | None:
    found = [it for it in thing.get("status", {}).get("conditions") or () if it.get("type") == kind]
    if kind in {"Complete", "Failed", "FailureTarget"}:
        found = [it for it in found if it.get("status") == "True"]
    return found[0] if found else None


def _created(thing: Object) -> datetime:
    return datetime.fromisoformat(thing["metadata"]["creationTimestamp"])


def _phase(pod: Object) -> str:
    return str(pod["status"].get("phase", ""))


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _minutes(seconds: float | None) -> str:
    return f"{(seconds or 0) / 60:.1f}".removesuffix(".0")


def _end(text: str) -> str:
    """Return a message of the cluster's as a sentence."""
    text = " ".join(text.split())
    return text if not text or text.endswith((".", "!", "?")) else text + "."
