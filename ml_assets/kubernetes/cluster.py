"""What the Kubernetes API says of jobs, their pods and events, as JSON has it.

What it means stays out; see `ml_assets.kubernetes.diagnosis`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import kubernetes
from dagster_k8s.client import DagsterKubernetesClient

from ml_assets.kubernetes.diagnosis import DELETED, Diagnosis, Object, diagnose, is_complete, is_over

_TIMEOUT: Final = (5, 30)
"""Seconds to connect and to answer; the client's own default waits for ever."""
_NOT_FOUND, _FORBIDDEN, _CONFLICT = 404, 403, 409


@dataclass(frozen=True)
class Seen:
    """What became of a job.

    Attributes:
        exists: whether there is such a job.
        is_complete: whether its pod ended well.
        is_over: whether nothing of it runs any more.
        diagnosis: what is wrong with it, if anything.
    """

    exists: bool
    is_complete: bool
    is_over: bool
    diagnosis: Diagnosis | None


class Cluster:
    """The jobs and pods of one namespace."""

    def __init__(self, client: DagsterKubernetesClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def look(self, job_name: str, *, start: timedelta) -> Seen:
        """Return what became of a job; what is wrong is only looked for where it has not ended well."""
        job = self._job(job_name)
        if is_complete(job):
            return Seen(exists=True, is_complete=True, is_over=True, diagnosis=None)
        pods = [] if job is None else self._pods(job_name)
        is_quiet = any(pod["status"].get("phase") == "Running" for pod in pods) and not is_over(job)
        names = [job_name, *(pod["metadata"]["name"] for pod in pods)]
        events = [] if job is None or is_quiet else [event for name in names for event in self._events(name)]
        if job is not None and is_over(job) and not pods:
            events += self._last_of_deleted(job_name)
        found = diagnose(job_name, job, pods, events, now=datetime.now(UTC), start=start)
        return Seen(job is not None, is_complete=False, is_over=is_over(job), diagnosis=found)

    def memory_limit(self, job_name: str) -> str | None:
        """Return the memory that a job's pod may use; none where there is no such job, or no limit."""
        job = self._job(job_name)
        containers = [] if job is None else job["spec"]["template"]["spec"]["containers"]
        limit = containers[0].get("resources", {}).get("limits", {}).get("memory") if containers else None
        return None if limit is None else str(limit)

    def last_lines(self, pod_name: str, count: int = 25) -> str:
        """Return the last lines of a pod's log; why not, where there is none."""
        try:
            answer = self._client.core_api.read_namespaced_pod_log(
                pod_name, self._namespace, tail_lines=count, _preload_content=False, _request_timeout=_TIMEOUT
            )
        except kubernetes.client.rest.ApiException as error:
            return f"(its log cannot be read: {_reason(error)})"
        return str(answer.data.decode("utf-8", "replace")).rstrip()

    def delete(self, job_name: str) -> None:
        """End a job and its pod; one that is gone already stays gone."""
        self._client.delete_job(job_name=job_name, namespace=self._namespace)  # type: ignore[no-untyped-call]

    def delete_steps(self, run_id: str) -> list[str]:
        """End all jobs of a run's steps that are not over, and return their names."""
        answer = self._client.batch_api.list_namespaced_job(
            self._namespace,
            label_selector=f"dagster/run-id={run_id},app.kubernetes.io/component=step_worker",
            _preload_content=False,
            _request_timeout=_TIMEOUT,
        )
        names = [job["metadata"]["name"] for job in _json(answer)["items"] if not is_over(job)]
        for name in names:
            self.delete(name)
        return names

    def _job(self, name: str) -> Object | None:
        try:
            return _json(
                self._client.batch_api.read_namespaced_job(
                    name, self._namespace, _preload_content=False, _request_timeout=_TIMEOUT
                )
            )
        except kubernetes.client.rest.ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    def _pods(self, job_name: str) -> list[Object]:
        answer = self._client.core_api.list_namespaced_pod(
            self._namespace,
            label_selector=f"job-name={job_name}",
            _preload_content=False,
            _request_timeout=_TIMEOUT,
        )
        return [*_json(answer)["items"]]

    def _last_of_deleted(self, job_name: str) -> list[Object]:
        """Return what was said of why a job's pods were deleted, whose names nobody knows any more."""
        said = [
            it for reason in sorted(DELETED) for it in self._events_where(f"involvedObject.kind=Pod,reason={reason}")
        ]
        return [it for it in said if it["involvedObject"]["name"].rpartition("-")[0] == job_name]

    def _events(self, name: str) -> list[Object]:
        """Return what was said of an object."""
        return self._events_where(f"involvedObject.name={name}")

    def _events_where(self, selector: str) -> list[Object]:
        """Return some events; none where this account may not read them, for the rest says enough."""
        try:
            answer = self._client.core_api.list_namespaced_event(
                self._namespace,
                field_selector=selector,
                _preload_content=False,
                _request_timeout=_TIMEOUT,
            )
        except kubernetes.client.rest.ApiException as error:
            if error.status != _FORBIDDEN:
                raise
            return []
        return [*_json(answer)["items"]]


def is_conflict(error: BaseException) -> bool:
    """Whether the API refused to create what there is already."""
    return getattr(getattr(error, "k8s_api_exception", error), "status", None) == _CONFLICT


def reason_of(error: BaseException) -> str:
    """Return why the API refused something, in its own words."""
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
