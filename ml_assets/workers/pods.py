"""Runs workers as pods, one Kubernetes job each, with the settings of steps' pods and the stage's compute.

Not here: the diagnosis of a pod (see `ml_assets.kubernetes.diagnosis`).
"""

from datetime import UTC, datetime
from typing import Any, Final

import kubernetes
from dagster import DagsterRun
from dagster_k8s import K8sRunLauncher, construct_dagster_k8s_job

from ml_assets.adapters.dagster_k8s import (
    DagsterK8sUnrecoverableAPIError,
    K8sContainerContext,
    get_k8s_job_name,
    get_user_defined_k8s_config,
    sanitize_k8s_label,
)
from ml_assets.kubernetes.client import RetryingClient, retrying_client
from ml_assets.kubernetes.cluster import Cluster, reason_of
from ml_assets.kubernetes.diagnosis import Diagnosis, is_over
from ml_assets.kubernetes.policy import PodPolicy
from ml_assets.kubernetes.step_pod import STEP_POD, with_declared_resources
from ml_assets.workers.crew import Work, WorkerState

WORKS_AT: Final = "ml-assets/works-at"
"""The label of a worker's job that names its step."""


class Pods:
    """One Kubernetes job per worker. Secrets reach them as they reach steps' pods, never through arguments."""

    def __init__(
        self, launcher: K8sRunLauncher, run: DagsterRun, work: Work, *, step_key: str, step_attempt: int
    ) -> None:
        """Prepare the workers, and delete those that an earlier attempt of the step left behind.

        Args:
            launcher: the run's launcher.
            run: the run.
            work: how they are started.
            step_key: the step that they work on.
            step_attempt: the number of its attempt.
        """
        self._launcher = launcher
        self._run = run
        self._step_key = step_key
        self._attempt = step_attempt
        self._args = ["python", "-m", work.module, *work.arguments]
        self._tags = work.tags
        self._policy = PodPolicy.of(work.tags)
        self._client = _client(launcher)
        self._namespace = str(self._context(None).namespace)
        self._cluster = Cluster(self._client, self._namespace)
        self._jobs: dict[int, str] = {}
        self._refused: dict[int, str] = {}
        self._queued: dict[int, datetime] = {}
        self._end_left_behind()

    def start(self, worker: int, attempt: int, memory: str | None) -> None:
        """Start a worker's job."""
        name = get_k8s_job_name(self._run.run_id, f"{self._step_key}-{self._attempt}-{worker}-{attempt}")  # type: ignore[no-untyped-call]
        self._jobs[worker] = job_name = f"dagster-worker-{name}"
        context = self._context(memory)
        config = context.get_k8s_job_config(None, self._launcher)
        if not config.job_image:
            origin = self._run.job_code_origin
            config = config.with_image(origin.repository_origin.container_image if origin else None)  # type: ignore[no-untyped-call]
        job = construct_dagster_k8s_job(
            job_config=config,
            args=self._args,
            job_name=job_name,
            pod_name=job_name,
            component="step_worker",  # so that cancelling the run deletes it too
            user_defined_k8s_config=context.run_k8s_config,
            labels={
                "dagster/job": self._run.job_name,
                "dagster/op": self._step_key,
                "dagster/run-id": self._run.run_id,
                WORKS_AT: self._step_key,
            },
        )
        self._refused.pop(worker, None)
        try:
            self._client.create_namespaced_job_with_retries(body=job, namespace=self._namespace)
        except DagsterK8sUnrecoverableAPIError as error:
            self._refused[worker] = f"The job {job_name} was refused: {reason_of(error)}"

    def look(self, worker: int) -> WorkerState:
        """Return the state of a worker's pod."""
        if worker in self._refused:
            return Diagnosis("PodNotStarted", self._refused[worker])
        name = self._jobs[worker]
        seen = self._cluster.look(
            name, start=self._policy.start, queue=self._policy.queue, since=self._queued.get(worker)
        )
        found = seen.diagnosis
        if seen.is_queued:
            self._queued[worker] = datetime.now(UTC)
        if found is None:
            return "done" if seen.is_complete else "running"
        found = self._cluster.with_log(found)
        if not seen.is_over:
            self._cluster.delete(name)  # so that an abandoned pod does not start later
        return found

    def close(self) -> None:
        """Delete all jobs that still run.

        Finished ones stay for a day, like steps' jobs, so that their logs can be read.
        """
        for worker, name in self._jobs.items():
            if worker not in self._refused and not self._cluster.look(name, start=self._policy.start).is_over:
                self._cluster.delete(name)

    def _end_left_behind(self) -> None:
        selector = f"dagster/run-id={self._run.run_id},{WORKS_AT}={sanitize_k8s_label(self._step_key)}"
        answer = self._client.batch_api.list_namespaced_job(self._namespace, label_selector=selector)
        serialized: list[dict[str, Any]] = self._client.batch_api.api_client.sanitize_for_serialization(answer)["items"]
        for job in serialized:
            if not is_over(job):
                self._cluster.delete(job["metadata"]["name"])

    def _context(self, memory: str | None) -> K8sContainerContext:
        """Return the pod. Each resource is the stage's, or else that of the run's pod."""
        context = K8sContainerContext.create_for_run(self._run, self._launcher, include_run_tags=False)
        context = context.merge(K8sContainerContext(run_k8s_config=STEP_POD))
        own = get_user_defined_k8s_config(self._tags)
        context = context.merge(K8sContainerContext(run_k8s_config=own))
        return with_declared_resources(context, self._tags, memory=memory)


def _client(launcher: K8sRunLauncher) -> RetryingClient:
    if launcher.load_incluster_config:
        kubernetes.config.load_incluster_config()
    else:
        kubernetes.config.load_kube_config(launcher.kubeconfig_file)
    return retrying_client()
