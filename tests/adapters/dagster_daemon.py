"""Private names of Dagster's daemon that only tests use, which take a second to import; see `ml_assets.adapters`."""

from typing import Final

from dagster._core.test_utils import (
    create_run_for_test,  # a run that was not started
    create_test_daemon_workspace_context,  # what a daemon loads projects with
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin  # the file of a project
from dagster._core.workspace.context import WorkspaceProcessContext  # what a webserver loads projects with
from dagster._core.workspace.load_target import (
    InProcessWorkspaceLoadTarget,  # a project in the test's process
    WorkspaceLoadTarget,  # its type
)
from dagster._daemon.backfill import execute_backfill_iteration  # what the daemon does once
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon  # as above
from dagster._daemon.sensor import execute_sensor_iteration  # as above
from dagster._daemon.types import DaemonHeartbeat  # the sign of life of a daemon
from dagster._scheduler.scheduler import ScheduleIterationTimes, launch_scheduled_runs  # as above

LIBRARY: Final = "dagster"
CHECKED: Final = "1.13.27"
