"""Runs whose process was killed: Dagster would count them as in progress for ever, and launch fewer others."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import dagster as dg

PROCESS: Final = "ml_assets/process"
"""The tag of a run that a command executes itself: on which machine, in which process, begun when."""


def this_process() -> str:
    """Return what names this process, and no later one with the same number."""
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
    """Return a process's name; of one that has ended it has no time."""
    begun = ""
    with suppress(OSError):
        # Behind the name, which stands in parentheses, the twentieth field is the moment it began.
        begun = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    return f"{socket.gethostname()}/{process}/{begun}"
