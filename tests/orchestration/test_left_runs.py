"""A run whose command was killed does not stay in progress."""

import socket
import subprocess
import sys
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
