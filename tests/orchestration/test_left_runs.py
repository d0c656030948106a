"""A run whose command was killed does not stay in progress."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.orchestration.left_runs import PROCESS, end_left_runs, this_process
from tests.event_logs import ephemeral_instance


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told apart by /proc")
def test_runs_of_ended_processes_of_this_machine_are_canceled_and_no_others() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from ml_assets.orchestration.left_runs import this_process; print(this_process())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    host, pid, begun = this_process().split("/")
    tags = {
        "ended": ended,
        "another process with this number": f"{host}/{pid}/{int(begun) - 1}",
        "this": this_process(),
        "elsewhere": f"not-{socket.gethostname()}/1/1",
    }
    with ephemeral_instance() as instance:
        runs = {
            name: instance.add_run(dg.DagsterRun(job_name="a", status=dg.DagsterRunStatus.STARTED, tags={PROCESS: tag}))
            for name, tag in tags.items()
        }
        untagged = instance.add_run(dg.DagsterRun(job_name="a", status=dg.DagsterRunStatus.STARTED))

        end_left_runs(instance)

        found = {name for name, run in runs.items() if instance.get_run_by_id(run.run_id).status.value == "CANCELED"}
        assert found == {"ended", "another process with this number"}
        assert instance.get_run_by_id(untagged.run_id).status.value == "STARTED"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told apart by /proc")
@pytest.mark.parametrize(("status", "event", "process", "seconds", "is_ended"), [
    ("STARTED", "RUN_START", "this", 0.0, False), ("STARTED", "RUN_START", "an ended one", 0.0, True),
    ("STARTED", "RUN_START", "this", 10_000_000.0, True), ("CANCELING", "RUN_START", "an ended one", 0.0, True),
    ("STARTING", "RUN_STARTING", "not named", 60.0, False), ("STARTING", "RUN_STARTING", "not named", 301.0, True),
])  # fmt: skip
def test_a_run_of_the_daemon_whose_process_has_ended_or_never_begun_has_failed(
    status: str,
    event: str,
    process: str,
    seconds: float,
    is_ended: bool,  # noqa: FBT001
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    pid = {"this": os.getpid(), "an ended one": ended.pid}.get(process)
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.add_run(dg.DagsterRun(job_name="a", status=dg.DagsterRunStatus(status)))
        instance.store_event(
            dg.EventLogEntry(
                error_info=None, level=10, user_message="", run_id=run.run_id, timestamp=time.time() - seconds,
                dagster_event=dg.DagsterEvent(event_type_value=dg.DagsterEventType[event].value, job_name="a", pid=pid),
            )
        )  # fmt: skip

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(instance), "run_launcher", dg.DefaultRunLauncher())
            end_left_runs(instance)

        assert ("FAILURE" if is_ended else status) == instance.get_run_by_id(run.run_id).status.value
