"""Ends the runs of killed processes, which Dagster would count as in progress, and which would fill its queue."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import dagster as dg

PROCESS: Final = "ml_assets/process"
"""The tag of a run that a command executes itself: its machine, process and start time."""
START_SECONDS: Final = 300.0
"""How long the process of a run may take to begin. Its launch names no process."""
_UNDER_WAY: Final = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CLOCKS_DIFFER: Final = 2.0
"""Seconds by which a process may seem to have begun after its first event."""


def this_process() -> str:
    """Return a name of this process that no later process with the same number has."""
    return _name(os.getpid())


def end_left_runs(instance: dg.DagsterInstance) -> None:
    """Report runs of this machine's ended processes: those of commands as canceled, those of the daemon as failed.

    Runs of the daemon have processes of this machine only with Dagster's default launcher.
    """
    here, is_local = f"{socket.gethostname()}/", isinstance(instance.run_launcher, dg.DefaultRunLauncher)
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
        process = run.tags.get(PROCESS, "")
        if process.startswith(here) and process != _name(int(process.split("/")[1])):
            instance.report_run_canceled(run, message="The command that executed this run was interrupted or killed.")
        elif not process and is_local and _is_left(instance, run):
            instance.report_run_failed(run, message="The process of this run was killed, or the one that launched it.")


def _is_left(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether the process of a run has ended, or has not begun for long. Without /proc it has not ended."""
    is_starting = run.status is dg.DagsterRunStatus.STARTING
    begun = dg.DagsterEventType.RUN_STARTING if is_starting else dg.DagsterEventType.RUN_START
    events = instance.get_records_for_run(run.run_id, of_type=begun).records
    if not events:
        return False
    entry = events[-1].event_log_entry
    if is_starting:
        return time.time() - entry.timestamp > START_SECONDS
    process = None if entry.dagster_event is None else entry.dagster_event.pid
    if process is None or not Path("/proc/stat").exists():
        return False
    began = _began_at(process)
    return began is None or began > entry.timestamp + _CLOCKS_DIFFER


def _name(process: int) -> str:
    """Return the name of a process; without a time if it has ended."""
    return f"{socket.gethostname()}/{process}/{_ticks(process)}"


def _ticks(process: int) -> str:
    """Return the time at which a process began, in clock ticks since the machine did; '' if it has ended."""
    with suppress(OSError):
        # After the name, which is in parentheses, the twentieth field is the start time.
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    return ""


def _began_at(process: int) -> float | None:
    """Return the time at which a process began, in seconds since 1970; None if it has ended."""
    ticks = _ticks(process)
    if not ticks:
        return None
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    booted = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    return booted + int(ticks) / os.sysconf("SC_CLK_TCK")
