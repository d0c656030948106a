"""Dagster's step delegating executor for steps in pods and steps in this process.

It differs from Dagster's in three ways. It reads only the events that decide a step's state, it reads on as soon as a
step of this process is done, and it diagnoses a pod before it marks its step as failed.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus

from ml_assets.adapters.dagster import (
    EventLogCursor,
    ExecutionPlan,
    IStepContext,
    KnownExecutionState,
    PlanOrchestrationContext,
    RetryMode,
    SerializableErrorInfo,
    StepDependencyConfig,
)
from ml_assets.adapters.dagster_k8s import StepDelegatingExecutor
from ml_assets.kubernetes.handler import ENDS, PodStepHandler, error_of

POLL_SECONDS = 0.5
HEALTH_SECONDS = 5
_OVERLAP: Final = 1000
"""How many ids are read again, because concurrent processes may commit in another order than they got their ids."""
_READ: Final = {
    DagsterEventType.STEP_OUTPUT,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_UP_FOR_RETRY,
    DagsterEventType.RESOURCE_INIT_FAILURE,
}


class FusedExecutor(StepDelegatingExecutor):
    """Runs steps that declare compute in pods, and the others in this process."""

    def __init__(
        self, handler: PodStepHandler, *, retries: RetryMode, step_dependency_config: StepDependencyConfig
    ) -> None:
        super().__init__(
            handler,
            retries=retries,
            sleep_seconds=0.02,  # the actual waiting is in `_pop_events`, where a finished step ends it
            check_step_health_interval_seconds=HEALTH_SECONDS,
            should_verify_step=True,
            step_dependency_config=step_dependency_config,
        )
        self._handler = handler

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Run the plan. A cancelled run leaves no pod behind, and any other ending lets the running step finish."""
        self._handler.open(plan_context)
        try:
            yield from super().execute(plan_context, execution_plan)
        finally:
            run = plan_context.instance.get_run_by_id(plan_context.run_id)
            if run is not None and run.status in {DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED}:
                self._handler.end_cancelled()
            else:
                self._handler.local.finish()
            self._handler.local.close()

    def _pop_events(self, instance: DagsterInstance, run_id: str, seen_storage_ids: set[int]) -> Sequence[DagsterEvent]:
        """Return the new events of steps.

        Dagster's own method reads every event, a thousand at a time, and a resumed run reads only the first thousand. A
        year of days has tens of thousands. Dagster finds skipped steps by itself and fails if it also gets their
        events.
        """
        # Only steps in pods need polling. Steps in this process wake the wait when they are done.
        self._handler.local.wait(POLL_SECONDS if self._handler.in_pods else HEALTH_SECONDS)
        connection = instance.get_records_for_run(run_id, self._event_cursor, of_type=_READ)
        fresh = [record for record in connection.records if record.storage_id not in seen_storage_ids]
        if fresh:
            seen_storage_ids.update(record.storage_id for record in fresh)
            last = max(0, fresh[-1].storage_id - _OVERLAP)
            self._event_cursor = EventLogCursor.from_storage_id(last).to_string()
        events = [it for record in fresh if (it := record.event_log_entry.dagster_event) is not None]
        self._handler.in_pods -= {str(event.step_key) for event in events if event.event_type in ENDS}
        return events

    def log_failure_or_retry_event_after_error(
        self, step_context: IStepContext, err_info: SerializableErrorInfo, known_state: KnownExecutionState
    ) -> DagsterEvent:
        """Log a retry of a step that failed without an event if its pod was the cause, otherwise log a failure."""
        diagnosis = self._handler.take_diagnosis(step_context.step.key)
        again = None if diagnosis is None else self._handler.retry(step_context, diagnosis)
        if again is not None:
            return again
        error = err_info if diagnosis is None else error_of(step_context, diagnosis)
        return super().log_failure_or_retry_event_after_error(step_context, error, known_state)
