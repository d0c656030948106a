"""Reads jobs, their pods and events from the Kubernetes API, as JSON.

Not here: what they mean (see `ml_assets.kubernetes.diagnosis`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import kubernetes

from ml_assets.adapters.dagster_k8s import DagsterKubernetesClient
from ml_assets.kubernetes.diagnosis import (
    DELETED,
    Diagnosis,
    Object,
    diagnose,
    is_complete,
    is_over,
    is_queued,
    refusals,
)

_AS_JSON: Final = {"_preload_content": False, "_request_timeout": (5, 30)}
"""Arguments of requests: no parsing by the client, and the seconds to connect and to respond. Its default is none."""
_LINES: Final = 25
_NOT_FOUND, _FORBIDDEN = 404, 403


@dataclass(frozen=True)
class JobState:
    """The state of a job.

    Attributes:
        is_over: whether nothing of it runs any more.
        is_queued: whether a queue holds it back.
    """

    exists: bool
    is_complete: bool
    is_over: bool
    diagnosis: Diagnosis | None
    is_queued: bool = False


class Cluster:
    """The jobs and pods of one namespace."""

    def __init__(self, client: DagsterKubernetesClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def look(
        self, job_name: str, *, start: timedelta, queue: timedelta = timedelta.max, since: datetime | None = None
    ) -> JobState:
        """Return the state of a job. It is diagnosed unless it succeeded: see `diagnose`."""
        job = self._job(job_name)
        if is_complete(job):
            return JobState(exists=True, is_complete=True, is_over=True, diagnosis=None)
        pods = [] if job is None else self._pods(job_name)
        is_quiet = any(pod["status"].get("phase") == "Running" for pod in pods) and not is_over(job)
        names = [job_name, *(pod["metadata"]["name"] for pod in pods)]
        events = [] if job is None or is_quiet else [event for name in names for event in self._events(name)]
        if job is not None and is_over(job) and not pods:
            events += self._last_of_deleted(job_name)
        found = diagnose(job_name, job, pods, events, now=datetime.now(UTC), start=start, queue=queue, since=since)
        return JobState(
            job is not None, is_complete=False, is_over=is_over(job), diagnosis=found, is_queued=is_queued(job, pods)
        )

    def has_pod(self, job_name: str) -> bool:
        """Return whether a job has a pod."""
        return bool(self._pods(job_name))

    def refusal(self, job_name: str) -> str | None:
        """Return why the API refused to create a job's pod, as far as it was."""
        return next(reversed(refusals(self._events(job_name))), None)

    def memory_limit(self, job_name: str) -> str | None:
        """Return the memory limit of a job's pod; None if the job does not exist or has no limit."""
        job = self._job(job_name)
        containers = [] if job is None else job["spec"]["template"]["spec"]["containers"]
        limit = containers[0].get("resources", {}).get("limits", {}).get("memory") if containers else None
        return None if limit is None else str(limit)

    def with_log(self, found: Diagnosis) -> Diagnosis:
        """Return a diagnosis with the last lines of its pod's log, or why they cannot be read, if the step failed."""
        if found.kind != "PodFailed" or found.pod is None:
            return found
        try:
            answer = self._client.core_api.read_namespaced_pod_log(
                found.pod, self._namespace, tail_lines=_LINES, **_AS_JSON
            )
            lines = answer.data.decode("utf-8", "replace").rstrip()
        except kubernetes.client.rest.ApiException as error:
            lines = f"(its log cannot be read: {_reason(error)})"
        return replace(found, sentence=f"{found.sentence}\nIts last lines:\n{lines}")

    def delete(self, job_name: str) -> None:
        """Delete a job and its pod. Deleting a job that does not exist is not an error."""
        self._client.delete_job(job_name=job_name, namespace=self._namespace)  # type: ignore[no-untyped-call]

    def delete_steps(self, run_id: str) -> list[str]:
        """Delete all unfinished jobs of a run's steps, and return their names."""
        answer = self._client.batch_api.list_namespaced_job(
            self._namespace,
            label_selector=f"dagster/run-id={run_id},app.kubernetes.io/component=step_worker",
            **_AS_JSON,
        )
        names = [job["metadata"]["name"] for job in _json(answer)["items"] if not is_over(job)]
        for name in names:
            self.delete(name)
        return names

    def _job(self, name: str) -> Object | None:
        try:
            return _json(self._client.batch_api.read_namespaced_job(name, self._namespace, **_AS_JSON))
        except kubernetes.client.rest.ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    def _pods(self, job_name: str) -> list[Object]:
        answer = self._client.core_api.list_namespaced_pod(
            self._namespace, label_selector=f"job-name={job_name}", **_AS_JSON
        )
        return [*_json(answer)["items"]]

    def _last_of_deleted(self, job_name: str) -> list[Object]:
        """Return the events about the deletion of a job's pods. The names of these pods are no longer known."""
        events = [
            it for reason in sorted(DELETED) for it in self._events_where(f"involvedObject.kind=Pod,reason={reason}")
        ]
        return [it for it in events if it["involvedObject"]["name"].rpartition("-")[0] == job_name]

    def _events(self, name: str) -> list[Object]:
        """Return the events of an object."""
        return self._events_where(f"involvedObject.name={name}")

    def _events_where(self, selector: str) -> list[Object]:
        """Return the events that a selector matches; empty if this service account may not read events.

        The diagnosis works without them.
        """
        try:
            answer = self._client.core_api.list_namespaced_event(self._namespace, field_selector=selector, **_AS_JSON)
        except kubernetes.client.rest.ApiException as error:
            if error.status != _FORBIDDEN:
                raise
            return []
        return [*_json(answer)["items"]]


def reason_of(error: BaseException) -> str:
    """Return the API's message for a refused request."""
    inner = getattr(error, "k8s_api_exception", error)
    return _reason(inner) if isinstance(inner, kubernetes.client.rest.ApiException) else str(inner)


def _reason(error: kubernetes.client.rest.ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"


def _json(answer: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(answer.data)
    return found
