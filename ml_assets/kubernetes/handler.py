"""Starts each step where its tags define: in a pod by dagster-k8s, or on a thread of the run's own process.

Not here: the diagnosis of a pod (see `ml_assets.kubernetes.diagnosis`). The loop over the steps is Dagster's.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from dagster import DagsterEvent, DagsterEventType, DagsterInstance
from dagster_k8s import K8sRunLauncher

from ml_assets.adapters.dagster import (
    IStepContext,
    PlanOrchestrationContext,
    SerializableErrorInfo,
    StepFailureData,
    StepRetryData,
    create_execution_plan,
    execute_plan_iterator,
)
from ml_assets.adapters.dagster_k8s import (
    CheckStepHealthResult,
    DagsterK8sAPIRetryLimitExceeded,
    DagsterK8sUnrecoverableAPIError,
    K8sContainerContext,
    K8sStepHandler,
    StepHandlerContext,
)
from ml_assets.kubernetes.client import retrying_client
from ml_assets.kubernetes.cluster import Cluster, reason_of
from ml_assets.kubernetes.diagnosis import Diagnosis
from ml_assets.kubernetes.local import LocalSteps
from ml_assets.kubernetes.policy import POD, PodPolicy
from ml_assets.kubernetes.step_pod import STEP_POD, with_declared_resources

ENDS: Final = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY}
_BEGINS: Final = {DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED}
_RUN_POD_GONE: Final = Diagnosis("RunPodLost", "The step ran in the run's pod, which was lost.")


class PodStepHandler(K8sStepHandler):
    """Starts a pod for each step that declares compute, and a thread for the others."""

    _opened: PlanOrchestrationContext
    """The run of these steps. Set by `open`."""

    def __init__(self, launcher: K8sRunLauncher) -> None:
        super().__init__(
            image=None,
            container_context=K8sContainerContext(run_k8s_config=STEP_POD),
            load_incluster_config=launcher.load_incluster_config,
            kubeconfig_file=launcher.kubeconfig_file,
        )
        self._api_client = retrying_client()
        self.local = LocalSteps()
        self._launcher = launcher
        self.in_pods: set[str] = set()
        self._launched: set[str] = set()
        self._diagnoses: dict[str, Diagnosis] = {}
        self._queued: dict[str, datetime] = {}

    @property
    def name(self) -> str:
        """The handler's name in the run's log."""
        return "PodStepHandler"

    def open(self, plan_context: PlanOrchestrationContext) -> None:
        """Set the run whose steps follow."""
        self._opened = plan_context
        # Dagster reconfigures Python's logging for each step, and takes all of its locks to do so. A step on a thread
        # would wait for a handler that this thread holds, while this thread waits for the step. This deadlock did
        # occur.
        instance = plan_context.instance
        handlers = instance.get_yaml_python_handlers()
        instance.get_yaml_python_handlers = lambda: handlers  # type: ignore[method-assign]

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Start a step.

        A step that had begun before the run's pod was lost gets a new attempt, which is launched later.

        Dagster refuses to run the same attempt of a step twice, and Kubernetes refuses two jobs of one name.
        """
        key = self._get_step_key(step_handler_context)
        step_context = step_handler_context.get_step_context(key)
        diagnosis = self._diagnoses.pop(key, None)
        if diagnosis is None and self._opened.resume_from_failure and self._has_begun(step_handler_context):
            diagnosis = _RUN_POD_GONE
        if diagnosis is not None:
            if self.retry(step_context, diagnosis) is None:
                self.fail(step_context, diagnosis)
            return
        self._launched.add(key)
        if POD not in step_handler_context.step_tags[key]:
            self.local.start(key, lambda: self._run_here(step_handler_context))
            return
        self.in_pods.add(key)
        try:
            yield from super().launch_step(step_handler_context)
        except DagsterK8sUnrecoverableAPIError as error:
            sentence = f"The job of step {key} was refused: {reason_of(error)}"
            self.fail(step_context, Diagnosis("PodNotStarted", sentence))
        except DagsterK8sAPIRetryLimitExceeded as error:
            sentence = (
                f"The job of step {key} was not created, because the Kubernetes API did not answer: {reason_of(error)}"
            )
            self.fail(step_context, Diagnosis("PodNotStarted", sentence))

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Return healthy if a step still runs, or has logged its end."""
        key = self._get_step_key(step_handler_context)
        if POD not in step_handler_context.step_tags[key]:
            problem = self.local.problem(key)
        else:
            self.in_pods.add(key)  # in a resumed run, an earlier process launched it
            problem = self._problem_of_pod(step_handler_context, key)
        if problem is None or (key in self._launched and self._has_ended(step_handler_context)):
            self._diagnoses.pop(key, None)
            return CheckStepHealthResult.healthy()
        return CheckStepHealthResult.unhealthy(problem)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Stop a step."""
        if POD in step_handler_context.step_tags[self._get_step_key(step_handler_context)]:
            yield from super().terminate_step(step_handler_context)
        else:
            self.local.interrupt()

    def end_cancelled(self) -> None:
        """Stop every step of the run.

        Dagster's executor does not delete the pods of a cancelled run if lost run pods are resumed.
        """
        self.local.interrupt()
        namespace = self._launcher.get_container_context_for_run(self._opened.dagster_run).namespace
        Cluster(self._api_client, str(namespace)).delete_steps(self._opened.run_id)

    def take_diagnosis(self, key: str) -> Diagnosis | None:
        """Return the diagnosis of a step's pod and forget it; None if there is none."""
        return self._diagnoses.pop(key, None)

    def retry(self, step_context: IStepContext, diagnosis: Diagnosis) -> DagsterEvent | None:
        """Log that a step is retried and return the event; None if it is not retried."""
        if step_context.retry_mode.disabled:
            return None
        before = _retries(step_context.instance, step_context.run_id, step_context.step.key)
        again = PodPolicy.of(step_context.step.tags).retry_message(diagnosis.kind, before)
        if again is None:
            return None
        error = SerializableErrorInfo(f"{diagnosis.sentence} {again}", [], diagnosis.kind)
        return DagsterEvent.step_retry_event(step_context, StepRetryData(error=error))  # type: ignore[no-untyped-call]

    def fail(self, step_context: IStepContext, diagnosis: Diagnosis) -> None:
        """Log that a step failed, with the diagnosis as its error."""
        error = error_of(step_context, diagnosis)
        data = StepFailureData(error=error, user_failure_data=None)  # type: ignore[no-untyped-call]
        DagsterEvent.step_failure_event(step_context, data)

    def _problem_of_pod(self, context: StepHandlerContext, key: str) -> str | None:
        job_name = self._get_k8s_step_job_name(context)
        policy = PodPolicy.of(context.step_tags[key])
        cluster = Cluster(self._api_client, str(self._get_container_context(context).namespace))
        seen = cluster.look(job_name, start=policy.start, queue=policy.queue, since=self._queued.get(job_name))
        diagnosis = seen.diagnosis
        if seen.is_queued and self._has_begun(context):
            sentence = f"The job {job_name} was suspended while its step ran: a queue preempted it."
            diagnosis = Diagnosis("PodLost", sentence)
        elif seen.is_queued and diagnosis is None:
            self._wait_in_queue(context, key, job_name)
        if seen.is_complete:
            diagnosis = Diagnosis("PodLost", f"The pod of job {job_name} ended, but its step reported no event.")
        if not seen.exists and key not in self._launched and not self._has_begun(context):
            return "its pod was not launched yet."
        if diagnosis is None:
            return None
        diagnosis = cluster.with_log(diagnosis)
        if self._has_ended(context):
            return None
        if not seen.is_over:
            cluster.delete(job_name)  # so that an abandoned pod does not start later
        self._diagnoses[key] = diagnosis
        return diagnosis.sentence

    def _wait_in_queue(self, context: StepHandlerContext, key: str, job_name: str) -> None:
        """Note that a queue holds a job back, and say so once."""
        if job_name not in self._queued:
            text = (
                f"The job {job_name} of step {key} waits in a queue: it is suspended, or its pod has a scheduling gate."
            )
            run = context.get_step_context(key).dagster_run
            context.instance.report_engine_event(text, run, step_key=key)
        self._queued[job_name] = datetime.now(UTC)

    def _get_container_context(self, step_handler_context: StepHandlerContext) -> K8sContainerContext:
        """Return the step's pod. After it ran out of memory, it gets more."""
        context = super()._get_container_context(step_handler_context)
        key = self._get_step_key(step_handler_context)
        tags = step_handler_context.step_tags[key]
        attempts = step_handler_context.execute_step_args.known_state
        memory = None
        if attempts and attempts.get_retry_state().get_attempt_count(key):
            before = _retries(step_handler_context.instance, step_handler_context.execute_step_args.run_id, key)
            memory = PodPolicy.of(tags).memory_after(before)
        return with_declared_resources(context, tags, memory=memory)

    def _run_here(self, context: StepHandlerContext) -> None:
        """Run a step on this thread, as `dagster api execute_step` does in a process of its own."""
        opened, args = self._opened, context.execute_step_args
        plan = create_execution_plan(
            opened.job,
            run_config=opened.run_config,
            step_keys_to_execute=args.step_keys_to_execute,
            known_state=args.known_state,
            repository_load_data=opened.execution_plan.repository_load_data,
        )
        for _ in execute_plan_iterator(
            plan, opened.job, opened.dagster_run, opened.instance, args.retry_mode, opened.run_config
        ):
            pass

    def _has_begun(self, context: StepHandlerContext) -> bool:
        """Return whether the current attempt of the step has begun in any process."""
        begun = False
        for event in self._events(context, _BEGINS | {DagsterEventType.STEP_UP_FOR_RETRY}):
            begun = event.event_type in _BEGINS
        return begun

    def _has_ended(self, context: StepHandlerContext) -> bool:
        """Return whether the current attempt of the step has logged its end. The executor may not have read it yet."""
        state = context.execute_step_args.known_state
        key = self._get_step_key(context)
        attempts = state.get_retry_state().get_attempt_count(key) if state else 0
        ended = [event.event_type for event in self._events(context, ENDS)]
        retries = ended.count(DagsterEventType.STEP_UP_FOR_RETRY)
        return retries > attempts or len(ended) > retries

    def _events(self, context: StepHandlerContext, kinds: set[DagsterEventType]) -> list[DagsterEvent]:
        return _events(context.instance, context.execute_step_args.run_id, self._get_step_key(context), kinds)


def error_of(step_context: IStepContext, diagnosis: Diagnosis) -> SerializableErrorInfo:
    """Return a failure's error: what happened, and why the step is not retried."""
    why_not = PodPolicy.of(step_context.step.tags).no_retry_message(diagnosis.kind)
    return SerializableErrorInfo(f"{diagnosis.sentence} {why_not}".rstrip(), [], diagnosis.kind)


def _events(instance: DagsterInstance, run_id: str, key: str, kinds: set[DagsterEventType]) -> list[DagsterEvent]:
    records = instance.get_records_for_run(run_id, of_type=kinds).records
    events = [record.event_log_entry.dagster_event for record in records]
    return [event for event in events if event is not None and event.step_key == key]


def _retries(instance: DagsterInstance, run_id: str, key: str) -> list[str]:
    """Return the reasons of a step's earlier retries, from the run's log."""
    events = _events(instance, run_id, key, {DagsterEventType.STEP_UP_FOR_RETRY})
    return [str(event.step_retry_data.error.cls_name) for event in events]
