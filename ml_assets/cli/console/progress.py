"""Prints the progress of a run: a line when each step starts, logs and ends."""

import time
from collections.abc import Mapping
from typing import TextIO

import dagster as dg

from ml_assets.machine.system_limits import advice
from ml_assets.orchestration.messages import asset_of_step, loggers_of


class Progress:
    """Writes progress to a stream, with the seconds since the start.

    Args:
        stream: receives the lines.
        is_recorded: whether the runs are recorded, so that a failed step can be replayed.
    """

    def __init__(self, stream: TextIO, *, is_recorded: bool = False) -> None:
        self.stream = stream
        self.is_recorded = is_recorded
        self.start = time.perf_counter()
        self.errors: list[str] = []

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self.start

    def log(self, text: str) -> None:
        """Write one line."""
        print(f"{self.seconds():7.1f} s  {text}", file=self.stream, flush=True)

    def log_failure(self, step: str, error: str, run_id: str) -> None:
        """Write that a step failed, and how to replay it; add the error to `errors`."""
        self.errors.append(error)
        self.log(f"{asset_of_step(step)} failed: {error}")
        if hint := advice(error):
            self.log(hint)
        if self.is_recorded:
            self.log(f"to debug it: ml-assets replay {run_id[:8]} {asset_of_step(step)} --pdb")

    def loggers(self) -> Mapping[str, dg.LoggerDefinition]:
        """Return Dagster's loggers for a run that reports here."""
        return loggers_of(self)
