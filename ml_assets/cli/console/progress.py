"""Prints the progress of a run: a line when each step starts, logs and ends."""

import logging
import re
import time
from collections.abc import Mapping
from typing import Final, TextIO

import dagster as dg

from ml_assets.machine.system_limits import advice

_OWN_ERROR: Final = re.compile(r"^ml_assets(\.\w+)+: ")
"""The class of one of the engine's errors, whose message is complete without it."""


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
        handler = _Handler(self)

        @dg.logger
        def console(_: dg.InitLoggerContext) -> logging.Logger:
            logger = logging.Logger("ml-assets", level=logging.DEBUG)  # noqa: LOG001 - Dagster wants one of its own
            logger.addHandler(handler)
            return logger

        return {"console": console}


class _Handler(logging.Handler):
    """Writes Dagster's log records as lines: messages of assets, and starts and ends of steps."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.DEBUG)
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, if it is useful to the user."""
        meta = getattr(record, "dagster_meta", {}) or {}
        event = meta.get("dagster_event") if isinstance(meta, Mapping) else None
        step = meta.get("step_key", "") if isinstance(meta, Mapping) else ""
        if event is not None:
            kind = event.event_type_value
            if kind == "STEP_START":
                self.progress.log(f"{asset_of_step(step)} …")
            elif kind == "STEP_FAILURE":
                error = event.step_failure_data.error
                while error.cls_name and error.cls_name.startswith("Dagster") and error.cause is not None:
                    error = error.cause
                if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
                    self.progress.log(f"{asset_of_step(step)} interrupted")
                    return
                message = _OWN_ERROR.sub("", error.message.strip())
                self.progress.log_failure(step, message, str(meta.get("run_id", "")))
        elif record.levelno >= logging.INFO:
            message = str(
                meta.get("orig_message", record.getMessage()) if isinstance(meta, Mapping) else record.getMessage()
            )
            if not is_noise(message):
                self.progress.log(f"{asset_of_step(step)}: {message}")


def asset_of_step(step: str) -> str:
    """Return the name of a step's asset."""
    return step.replace("__", "/")


def is_noise(message: str) -> bool:
    """Return whether Dagster's message is about a skipped step or a check without a result.

    The messages are those of Dagster 1.13.27 (`ActiveExecution`, `execute_core_compute`).
    """
    is_of_skipped_step = message.startswith("Dependencies for step ") and message.endswith(" Not executing.")
    return is_of_skipped_step or " did not yield or return expected outputs {" in message
