"""Ends the runs of killed processes, which Dagster would count as in progress forever."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import dagster as dg

PROCESS: Final = "ml_assets/process"
"""The tag of a run that a command executes itself: its machine, process and start time."""


def this_process() -> str:
    """Return a name of this process that no later process with the same number has."""
    return _name(os.getpid())


def end_left_runs(instance: dg.DagsterInstance) -> None:
    """Report runs of this machine's ended processes as canceled."""
    under_way = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
    here = f"{socket.gethostname()}/"
    for run in instance.get_runs(under_way):
        process = run.tags.get(PROCESS, "")
        if process.startswith(here) and process != _name(int(process.split("/")[1])):
            instance.report_run_canceled(run, message="The command that executed this run was interrupted or killed.")


def _name(process: int) -> str:
    """Return the name of a process; without a time if it has ended."""
    begun = ""
    with suppress(OSError):
        # After the name, which is in parentheses, the twentieth field is the start time.
        begun = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    return f"{socket.gethostname()}/{process}/{begun}"
