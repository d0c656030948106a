"""Dagster's step delegating executor over steps in pods and steps in this process.

It reads no more of the run's log than tells it what steps became of, reads on when a step of this process is done, and
asks for a pod's diagnosis before it gives a step up.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.event_api import EventLogCursor
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.context.system import IStepContext, PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.executor.step_delegating import StepDelegatingExecutor
from dagster_shared.error import SerializableErrorInfo

from ml_assets.kubernetes.handler import ENDS, PodStepHandler, error_of

POLL_SECONDS = 0.5
HEALTH_SECONDS = 5
_OVERLAP: Final = 1000
"""How many ids are read again: two processes that write at once may commit in the other order."""
_READ: Final = {
    DagsterEventType.STEP_OUTPUT,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_UP_FOR_RETRY,
    DagsterEventType.RESOURCE_INIT_FAILURE,
}


class FusedExecutor(StepDelegatingExecutor):
    """Steps with compute of their own in pods, the others here."""

    def __init__(
        self, handler: PodStepHandler, *, retries: RetryMode, step_dependency_config: StepDependencyConfig
    ) -> None:
        super().__init__(
            handler,
            retries=retries,
            sleep_seconds=0.02,  # the waiting is done in `_pop_events`, where a step that is done ends it
            check_step_health_interval_seconds=HEALTH_SECONDS,
            should_verify_step=True,
            step_dependency_config=step_dependency_config,
        )
        self._handler = handler

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Run the plan; whatever ends it, a cancelled run leaves no pod behind, and no other a step half told."""
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
        """Return the events of steps that have come since.

        Dagster's own reads every event, a thousand at a time, and takes the first thousand for all when it resumes a
        run; a year of days has tens of thousands. Skipped steps it finds out again by itself, and fails over being
        told.
        """
        # Nobody but a pod tells of its steps; of those here it is known when they are done.
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
        """Tell what comes of a step that did not end in order: another attempt where its pod is to blame."""
        diagnosis = self._handler.take_diagnosis(step_context.step.key)
        again = None if diagnosis is None else self._handler.retry(step_context, diagnosis)
        if again is not None:
            return again
        error = err_info if diagnosis is None else error_of(step_context, diagnosis)
        return super().log_failure_or_retry_event_after_error(step_context, error, known_state)
