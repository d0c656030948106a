"""dagster-k8s's run launcher, with a diagnosis of lost run pods and more memory after an out-of-memory kill.

Configure it in `dagster.yaml` instead of `K8sRunLauncher`. It has the same fields and `run_memory_ceiling`.
"""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from dagster import DagsterRun, Field, Noneable, StringSource

from ml_assets.adapters.dagster import (
    CheckRunHealthResult,
    ConfigurableClassData,
    EngineEventData,
    LaunchRunContext,
    ResumeRunContext,
    WorkerStatus,
)
from ml_assets.extras import as_extra_error
from ml_assets.kubernetes.diagnosis import Diagnosis
from ml_assets.kubernetes.quantity import bytes_of, doubled

try:
    from dagster_k8s import K8sRunLauncher
    from kubernetes.config.incluster_config import SERVICE_TOKEN_FILENAME

    from ml_assets.adapters.dagster_k8s import (
        K8sContainerContext,
        UserDefinedDagsterK8sConfig,
        get_job_name_from_run_id,
    )
    from ml_assets.kubernetes.client import retrying_client
    from ml_assets.kubernetes.cluster import Cluster
except ImportError as error:
    raise as_extra_error(error, needed_by="the run launcher PodLauncher") from error

LOOK_SECONDS = 5.0
"""Between two looks at whether the pod of a new run is refused."""
_LOOKS: Final = 11
_NO_CLUSTER: Final = Path(__file__).with_name("no_cluster.yaml")


class PodLauncher(K8sRunLauncher):
    """Launches runs as Kubernetes jobs, diagnoses failed ones, and gives those killed for memory more."""

    def __init__(
        self, *, run_memory_ceiling: str | None = None, inst_data: ConfigurableClassData | None = None, **config: Any
    ) -> None:
        if run_memory_ceiling is not None:
            bytes_of(run_memory_ceiling)
        # Every process that opens Dagster's instance creates the launcher. The code location and the pods of steps
        # launch nothing and may have no access to the Kubernetes API.
        if config.get("load_incluster_config", True) and not Path(SERVICE_TOKEN_FILENAME).is_file():
            config |= {"load_incluster_config": False, "kubeconfig_file": str(_NO_CLUSTER)}
        super().__init__(inst_data=inst_data, **config)
        if config.get("kubeconfig_file") != str(_NO_CLUSTER):
            self._api_client = retrying_client()
        self._ceiling = run_memory_ceiling
        self._memory: dict[str, str] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return the launcher's configuration schema in `dagster.yaml`."""
        ceiling = Field(
            Noneable(StringSource),
            is_required=False,
            description="A run whose pod was killed for memory is retried and resumed with twice as much, up to this.",
        )
        known: dict[str, Any] = super().config_type()  # type: ignore[no-untyped-call]
        return {**known, "run_memory_ceiling": ceiling}

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start a run's pod. A retry gets more memory if the pod of the parent run was killed for memory."""
        run = context.dagster_run
        parent = None if run.parent_run_id is None else self._instance.get_run_by_id(run.parent_run_id)
        if parent is not None:
            self._give_more(run, self._present_job(parent))
        try:
            super().launch_run(context)
        finally:
            self._forget(run)
        name = f"pod of run {run.run_id}"
        threading.Thread(
            target=self._report_refusal, args=(run, self._present_job(run)), name=name, daemon=True
        ).start()

    def dispose(self) -> None:
        """End."""
        self._is_over.set()
        super().dispose()

    def resume_run(self, context: ResumeRunContext) -> None:
        """Start another pod for a run, with more memory if the previous one was killed for memory."""
        run, attempt = context.dagster_run, context.resume_attempt_number
        self._give_more(run, _job_name(run, (attempt or 1) - 1))
        try:
            super().resume_run(context)
        finally:
            self._forget(run)

    def terminate(self, run_id: str) -> bool:
        """Stop a run's pod and those of its steps, even if the run's pod no longer exists."""
        is_ended = bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        run = self._instance.get_run_by_id(run_id)
        if run is not None:
            self._cluster(run).delete_steps(run_id)
        return is_ended

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether a run's pod is alive, with a diagnosis if it is not."""
        health: CheckRunHealthResult = super().check_run_worker_health(run)
        if health.status in {WorkerStatus.RUNNING, WorkerStatus.SUCCESS}:
            return health
        # If the cluster does not respond, this raises, and Dagster's monitor tries again later. No response does not
        # mean that the run has failed.
        seen = self._cluster(run).look(self._present_job(run), start=timedelta())
        if seen.diagnosis is None and not seen.is_over:
            # Its pod is terminating and lets a running step finish. Another pod would run that step twice.
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return health if seen.diagnosis is None else CheckRunHealthResult(health.status, seen.diagnosis.sentence)

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:  # noqa: FBT001, FBT002 - Dagster's signature
        """Return the diagnosis of a run's pod, followed by dagster-k8s's debug information."""
        debug_info: str | None = super().get_run_worker_debug_info(run, include_container_logs)
        found = self._diagnosis(run, self._present_job(run))
        return debug_info if found is None else f"{found.sentence}\n{debug_info or ''}".rstrip()

    def get_container_context_for_run(self, dagster_run: DagsterRun) -> K8sContainerContext:
        """Return a run's pod, with its increased memory if any."""
        context = super().get_container_context_for_run(dagster_run)
        memory = self._memory.get(dagster_run.run_id)
        if memory is None:
            return context
        amount = {"memory": memory}
        more = UserDefinedDagsterK8sConfig(container_config={"resources": {"requests": amount, "limits": amount}})
        return context.merge(K8sContainerContext(run_k8s_config=more))

    def _give_more(self, run: DagsterRun, job_before: str) -> None:
        """Set the memory of a run's next pod if the previous one was killed for memory, or was lost after that."""
        if self._ceiling is None:
            return
        before = self._diagnosis(run, job_before)
        had = self._cluster(run).memory_limit(job_before)
        if before is None or had is None or before.kind not in {"PodOutOfMemory", "PodLost"}:
            return
        may_grow = before.kind == "PodOutOfMemory" and bytes_of(had) < bytes_of(self._ceiling)
        gets = doubled(had, times=1, ceiling=self._ceiling) if may_grow else had
        with self._lock:
            self._memory[run.run_id] = gets
        if before.kind == "PodOutOfMemory":
            at_most = "" if may_grow else " That was the ceiling; raise the launcher's 'run_memory_ceiling'."
            self._report(run, f"{before.sentence}{at_most} This run's pod gets {gets}.")

    def _report_refusal(self, run: DagsterRun, job_name: str) -> None:
        """Log why the API refuses a run's pod, if it does so within a minute. The job controller goes on trying.

        Dagster's monitor says nothing before the run's time to start is over.
        """
        cluster = self._cluster(run)
        for _ in range(_LOOKS):
            if self._is_over.wait(LOOK_SECONDS) or cluster.has_pod(job_name):
                return
            if (why := cluster.refusal(job_name)) is not None:
                self._report(run, f"The pod of this run is refused, and created as soon as it is allowed: {why}")
                return

    def _forget(self, run: DagsterRun) -> None:
        with self._lock:
            self._memory.pop(run.run_id, None)

    def _report(self, run: DagsterRun, text: str) -> None:
        self._instance.report_engine_event(text, run, EngineEventData(), cls=self.__class__)

    def _diagnosis(self, run: DagsterRun, job_name: str) -> Diagnosis | None:
        return self._cluster(run).look(job_name, start=timedelta()).diagnosis

    def _cluster(self, run: DagsterRun) -> Cluster:
        return Cluster(self._api_client, str(super().get_container_context_for_run(run).namespace))

    def _present_job(self, run: DagsterRun) -> str:
        return _job_name(run, self._get_resume_attempt_number(run))


def _job_name(run: DagsterRun, resumed: int | None) -> str:
    """Return the name of a run's job after this number of resumes."""
    return str(get_job_name_from_run_id(run.run_id, resume_attempt_number=resumed))  # type: ignore[no-untyped-call]
