"""A test double of the Kubernetes API, as far as jobs, their pods, logs and events go, over real HTTP.

It runs what a pod would run as a process of this machine, or lets the pod end as the test decides. Not here:
scheduling, images and limits.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.http_server import kubernetes_api

ROOT = Path(__file__).parents[3]
RECORDED = Path(__file__).parent / "recorded"
Fate = Callable[["PretendedCluster", dict[str, Any], dict[str, Any]], None]
"""What becomes of a job and its pod."""


def recorded(name: str) -> dict[str, Any]:
    """Return API objects as a cluster gave them: a job, its pods and their events."""
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    return found


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(phase: str, state: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "dagster", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": phase, "containerStatuses": [container]}


def started(cluster: "PretendedCluster", pod: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Return the process of the pod's command."""
    (container,) = pod["spec"]["containers"]
    command = [*container.get("command", ()), *container["args"]]
    command[0:1] = [sys.executable]
    at = command.index("dagster")
    command[at : at + 1] = [sys.executable, "-m", "dagster"]
    env = {it["name"]: it["value"] for it in container["env"] if "value" in it}
    pod["status"] = status("Running", {"running": {}})
    process = subprocess.Popen(
        command, env={**os.environ, **env}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    cluster.processes[pod["metadata"]["name"]] = process
    return process


def runs(cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any]) -> None:
    """Run the pod's command; the pod and its job end as that does."""
    process = started(cluster, pod)

    def follow() -> None:
        out, _ = process.communicate()
        cluster.logs[pod["metadata"]["name"]] = out.decode()
        ends(cluster, job, pod, exit_code=process.returncode)

    cluster.follow(follow)


def ends(
    cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any], *, exit_code: int, reason: str = ""
) -> None:
    state = {"terminated": {"exitCode": exit_code, "reason": reason or ("Error" if exit_code else "Completed")}}
    pod["status"] = status("Failed" if exit_code else "Succeeded", state)
    condition = {"type": "Failed", "reason": "BackoffLimitExceeded"} if exit_code else {"type": "Complete"}
    job["status"] = {"conditions": [{**condition, "status": "True"}], "failed" if exit_code else "succeeded": 1}


def out_of_memory(cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any]) -> None:
    ends(cluster, job, pod, exit_code=137, reason="OOMKilled")


def deleted(cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any]) -> None:
    ends(cluster, job, pod, exit_code=143)
    del cluster.pods[pod["metadata"]["name"]]


def preempted(cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any]) -> None:
    """Make room for a pod of higher priority: the pod is gone, and what is left of it is an event."""
    deleted(cluster, job, pod)
    what = {"kind": "Pod", "name": pod["metadata"]["name"]}
    for name in (what["name"], "other-step-x"):
        event = {"reason": "Preempted", "message": f"Preempted by pod 50339a87 on node node1, {name}"}
        cluster.events.append({**event, "involvedObject": {**what, "name": name}, "lastTimestamp": now()})


def taken_away(cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any]) -> None:
    """Receive SIGTERM, as an evicted pod does, and still run; the cluster already counts it as failed."""
    pod["status"] = status("Running", {"running": {}})
    pod["metadata"]["deletionTimestamp"] = now()
    job["status"] = {"conditions": [{"type": "FailureTarget", "status": "True"}], "failed": 1}


def dies(cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any]) -> None:
    """End by its own fault before its step reports anything."""
    cluster.logs[pod["metadata"]["name"]] = "Traceback: no module named shop\n"
    ends(cluster, job, pod, exit_code=1)


def stays(which: str) -> Fate:
    """Let the pod stay as a recorded one is."""

    def stay(cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any]) -> None:
        seen = recorded(which)
        (container,) = seen["pods"][0]["status"].pop("containerStatuses")
        pod["status"] = {**seen["pods"][0]["status"], **status(seen["pods"][0]["status"]["phase"], container["state"])}
        job["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        cluster.events += [{**it, "involvedObject": {"name": pod["metadata"]["name"]}} for it in seen["events"]]

    return stay


def suspended(cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any]) -> None:
    """Be held back by a queue: the job has no pod until `admit`."""
    job["spec"]["suspend"] = True
    del cluster.pods[pod["metadata"]["name"]]
    cluster.suspended[job["metadata"]["name"]] = pod


def refused(cluster: "PretendedCluster", job: dict[str, Any], pod: dict[str, Any]) -> None:
    """Have no pod, because a quota is used up."""
    del cluster.pods[pod["metadata"]["name"]]
    message = f'Error creating: pods "{pod["metadata"]["name"]}" is forbidden: exceeded quota: shop'
    about = {"kind": "Job", "name": job["metadata"]["name"]}
    cluster.events.append(
        {
            "type": "Warning",
            "reason": "FailedCreate",
            "message": message,
            "involvedObject": about,
            "lastTimestamp": now(),
        }
    )


def has(event: Any, path: str, value: str) -> bool:
    """Whether an event has a value where a field selector names one."""
    for key in path.split("."):
        event = event.get(key, "")
    return bool(event == value)


@dataclass
class PretendedCluster:
    """The jobs, pods, events and logs of one namespace, and what becomes of the next pods of each step."""

    fates: dict[str, list[Fate]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    lost_responses: int = 0
    suspended: dict[str, dict[str, Any]] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def steps(self) -> list[str]:
        """The step of each pod that was started, in their order; the run's own pod is 'run'."""
        return [job["metadata"]["labels"].get("dagster/op", "run") for job in self.created]

    def admit(self) -> None:
        """Let the suspended jobs go on, as a queue does."""
        for name, pod in [*self.suspended.items()]:
            del self.suspended[name]
            job = self.jobs[name]
            job["spec"]["suspend"] = False
            job["status"] |= {"startTime": now()}
            self.pods[pod["metadata"]["name"]] = pod
            runs(self, job, pod)

    def follow(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        """Return what the API answers: a status and an object, or text."""
        for part, (status, message) in self.refusals.items():
            if f"{method} {path}".endswith(part):
                return status, {"kind": "Status", "message": message}
        kind, name, sub, *_ = [*re.sub(r".*/namespaces/[^/]+/", "", path).split("/"), "", ""]
        if (method, kind) == ("POST", "jobs"):
            return self._create(body)
        things: dict[str, dict[str, Any]] = {"jobs": self.jobs, "pods": self.pods}.get(kind, {})
        if name and name not in things:
            return 404, {"kind": "Status", "message": f'{kind} "{name}" not found'}
        if method == "DELETE":
            return self._delete(kind, name)
        if name:
            return 200, self.logs.get(name, "") if sub == "log" else things[name]
        return 200, {"items": self._listed(kind, things, query)}

    def _listed(
        self, kind: str, things: Mapping[str, dict[str, Any]], query: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        if kind == "events":
            wanted = [part.split("=") for part in query["fieldSelector"].split(",")]
            return [it for it in self.events if all(has(it, path, value) for path, value in wanted)]
        selector = dict(part.split("=") for part in query["labelSelector"].split(","))
        return [it for it in things.values() if selector.items() <= it["metadata"]["labels"].items()]

    def _create(self, job: dict[str, Any]) -> tuple[int, Any]:
        name = job["metadata"]["name"]
        if name in self.jobs:
            return 409, {"kind": "Status", "message": f'jobs.batch "{name}" already exists'}
        job["metadata"]["creationTimestamp"] = now()
        job["status"] = {"active": 1}
        template = job["spec"]["template"]
        pod = {
            "metadata": {
                "name": f"{name}-x",
                "labels": {**template["metadata"]["labels"], "job-name": name},
                "creationTimestamp": now(),
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self.jobs[name], self.pods[f"{name}-x"] = job, pod
        self.created.append(json.loads(json.dumps(job)))
        fates = self.fates.get(self.steps[-1], [])
        (fates.pop(0) if fates else runs)(self, job, pod)
        if self.lost_responses:
            self.lost_responses -= 1
            return 504, {"kind": "Status", "message": "the response was lost"}
        return 201, job

    def _delete(self, kind: str, name: str) -> tuple[int, Any]:
        self.deleted.append(f"{kind}/{name}")
        pod = f"{name}-x" if kind == "jobs" else name
        if pod in self.processes:
            self.processes[pod].terminate()
        {"jobs": self.jobs, "pods": self.pods}[kind].pop(name)
        return 200, {"kind": "Status"}

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for thread in self._threads:
            thread.join()


@contextmanager
def pretended_cluster(folder: Path) -> Iterator[PretendedCluster]:
    """Serve a pretended cluster, with a `kubeconfig` for it in a folder."""
    cluster = PretendedCluster()
    with kubernetes_api(cluster.answer, folder / "kubeconfig", "shop"):
        try:
            yield cluster
        finally:
            cluster.close()
