"""Private names of Dagster which `import dagster` has imported already, so that they cost nothing."""

from typing import Final

from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,  # assigns a check's verdict to the materialization that it checked
)
from dagster._core.definitions.assets.graph.asset_graph import (
    AssetGraph,  # the type of what `Definitions.resolve_asset_graph` returns
    AssetNode,  # the type of its nodes
)
from dagster._core.definitions.assets.job.asset_job import (
    IMPLICIT_ASSET_JOB_NAME,  # the job of runs that the UI and automation request
)
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,  # the tag of a materialization that the UI compares with the code
    DATA_VERSION_TAG,  # the tag that the UI compares with the inputs of later materializations
)
from dagster._core.definitions.executor_definition import (
    IN_PROC_CONFIG,  # the settings of the in-process executor, which ours has too
)
from dagster._core.definitions.freshness import (
    FreshnessState,  # the state that the freshness daemon records
    FreshnessStateChange,  # the event of its change, which becomes an alert
)
from dagster._core.errors import (
    DagsterMaxRetriesExceededError,  # what a replayed step raises, around the error itself
)
from dagster._core.event_api import (
    EventLogCursor,  # a position in a run's events
)
from dagster._core.events import (
    ASSET_CHECK_EVENTS,  # the events that are stored in batches
    ASSET_EVENTS,  # as above
    DagsterEventBatchMetadata,  # the place of an event in a batch, so that checks by day are written at once
    EngineEventData,  # content of the events in which the launcher reports what it did
)
from dagster._core.execution import (
    compute_logs,  # starts a process per run that ends `tail`; ours starts faster
)
from dagster._core.execution.api import (
    create_execution_plan,  # runs one step on a thread of the run's process
    execute_plan_iterator,  # as above
)
from dagster._core.execution.context.system import (
    IStepContext,  # the type of a step's context in an executor
    PlanOrchestrationContext,  # the type of a run's context in an executor
)
from dagster._core.execution.plan.objects import (
    StepFailureData,  # content of the event of a step whose pod failed
    StepRetryData,  # content of the event of a step that is retried after its pod was lost
)
from dagster._core.execution.plan.plan import ExecutionPlan  # the type of the steps of a run
from dagster._core.execution.plan.state import KnownExecutionState  # the type of what is known of earlier attempts
from dagster._core.execution.retries import RetryMode  # an executor's setting of retries
from dagster._core.execution.step_dependency_config import StepDependencyConfig  # an executor's setting
from dagster._core.executor.in_process import InProcessExecutor  # runs the steps where Kubernetes is not the launcher
from dagster._core.launcher import (
    LaunchRunContext,  # the type of what a launcher launches
    ResumeRunContext,  # the type of what a launcher resumes
)
from dagster._core.launcher.base import (
    CheckRunHealthResult,  # what a launcher answers Dagster's run monitoring
    WorkerStatus,  # as above
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus,  # finds the row of a planned check
)
from dagster._core.storage.dagster_run import (
    IN_PROGRESS_RUN_STATUSES,  # the statuses of runs that may still materialize
)
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,  # the tags that the UI and backfills set on a run over a range
    ASSET_PARTITION_RANGE_START_TAG,  # as above
    PARTITION_NAME_TAG,  # the tag of a run of one partition
    RETRY_NUMBER_TAG,  # how many retries a run had, in its alert
    RUN_KEY_TAG,  # finds the run that a sensor requested
    WILL_RETRY_TAG,  # a run that is retried is not alerted yet
)
from dagster._record import copy  # changes a record of Dagster
from dagster._serdes import ConfigurableClassData  # the type of a class that dagster.yaml names
from dagster._utils.error import SerializableErrorInfo  # type: ignore[attr-defined] # the error in an event
from dagster._utils.schedules import (
    schedule_execution_time_iterator,  # the next tick of a schedule
)

LIBRARY: Final = "dagster"
CHECKED: Final = "1.13.27"
MEMBERS: Final = {
    "compute_logs.watch_orphans": "the program that ends `tail`, replaced by one that starts faster",
    "copy(record)": "changes a record",
    "create_execution_plan(job, run_config, step_keys_to_execute, known_state)": "runs one step on a thread",
    "DagsterEventBatchMetadata(id, is_end)": "the place of an event in a batch",
    "execute_plan_iterator(execution_plan, job, dagster_run, instance, retry_mode, run_config)": "as above",
    "InProcessExecutor(retries)": "the executor where Kubernetes is not the launcher",
    "schedule_execution_time_iterator(start_timestamp, cron_schedule, execution_timezone)": "the ticks of a schedule",
    "SerializableErrorInfo(message, stack, cls_name)": "the diagnosis of a pod as the error of its step",
    "StepFailureData(error, user_failure_data)": "content of an event",
    "StepRetryData(error)": "content of an event",
}
DAEMON: Final = "dagster._daemon"
"""The program of Dagster's daemon. The command `dagster-daemon` need not be beside the interpreter."""
