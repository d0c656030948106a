"""Private names of Dagster that only tests and benchmarks use; see `ml_assets.adapters`."""

from typing import Final

from dagster._check import CheckError  # raised for an event that cannot be stored
from dagster._config import process_config  # checks dagster.yaml
from dagster._core.code_pointer import CodePointer  # loads a project in the benchmark of loading
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,  # the event of a planned check
)
from dagster._core.definitions.data_version import (
    CachingStaleStatusResolver,  # what the UI shows as stale
    StaleStatus,  # as above
)
from dagster._core.definitions.job_base import InMemoryJob  # a job that an executor gets
from dagster._core.definitions.reconstruct import (
    ReconstructableRepository,  # a job that other processes load too
    initialize_repository_def_from_pointer,  # loads a project in the benchmark of loading
)
from dagster._core.definitions.run_request import InstigatorType  # a sensor or a schedule
from dagster._core.definitions.sensor_definition import SensorExecutionData  # the result of a tick
from dagster._core.events import (
    AssetMaterializationPlannedData,  # content of the event of a planned materialization
    StepMaterializationData,  # content of the event of a materialization
)
from dagster._core.execution.api import execute_run_iterator  # runs a run as its pod does
from dagster._core.execution.plan import compute_generator  # calls the functions of assets, which are profiled here
from dagster._core.executor.init import InitExecutorContext  # what creates an executor
from dagster._core.instance.config import dagster_instance_config  # the schema of dagster.yaml
from dagster._core.loader import LoadingContextForTest  # what the resolver of stale assets reads through
from dagster._core.remote_origin import (
    CodeLocationOrigin,  # the place that a daemon loads a project from
    GrpcServerCodeLocationOrigin,  # as above
    InProcessCodeLocationOrigin,  # as above
    RemoteInstigatorOrigin,  # the place of a sensor
    RemoteRepositoryOrigin,  # as above
)
from dagster._core.remote_representation.external_data import RepositorySnap  # what a code server answers
from dagster._core.scheduler.instigation import (
    InstigatorState,  # the recorded state of a sensor
    InstigatorStatus,  # as above
    SensorInstigatorData,  # as above
    TickData,  # a recorded tick
    TickStatus,  # as above
)
from dagster._core.storage.event_log.in_memory import InMemoryEventLogStorage  # the event log of a test's instance
from dagster._core.storage.schedules import SqliteScheduleStorage  # where ticks are recorded
from dagster._core.storage.tags import (
    PARENT_RUN_ID_TAG,  # the run that a run retries
    ROOT_RUN_ID_TAG,  # as above
)
from dagster._core.utils import make_new_run_id  # the id of a run that is only recorded
from dagster._utils.interrupts import capture_interrupts  # how a run's process takes a signal
from dagster.components.scaffold.scaffold import get_scaffolder  # what `dg scaffold` calls

LIBRARY: Final = "dagster"
CHECKED: Final = "1.13.27"
