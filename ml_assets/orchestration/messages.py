"""Passes on the messages of a run that are useful to a person: starts and failures of steps, and what assets log."""

import logging
import re
from collections.abc import Mapping
from typing import Final, Protocol

import dagster as dg

from ml_assets.adapters.dagster import SerializableErrorInfo

_OWN_ERROR: Final = re.compile(r"^ml_assets(\.\w+)+: ")
"""The class of one of the engine's errors, whose message is complete without it."""


class Listener(Protocol):
    """Receives the messages of a run."""

    def log(self, text: str) -> None:
        """Receive a message."""

    def log_failure(self, step: str, error: str, run_id: str) -> None:
        """Receive the error of a failed step."""


def loggers_of(listener: Listener) -> Mapping[str, dg.LoggerDefinition]:
    """Return Dagster's loggers for a run that reports to a listener."""
    handler = _Handler(listener)

    @dg.logger
    def console(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("ml-assets", level=logging.DEBUG)  # noqa: LOG001 - Dagster wants one of its own
        logger.addHandler(handler)
        return logger

    return {"console": console}


class _Handler(logging.Handler):
    """Writes Dagster's log records as lines: messages of assets, and starts and ends of steps."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(logging.DEBUG)
        self.listener = listener

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, if it is useful to the user."""
        meta = getattr(record, "dagster_meta", {}) or {}
        event = meta.get("dagster_event") if isinstance(meta, Mapping) else None
        step = meta.get("step_key", "") if isinstance(meta, Mapping) else ""
        if event is not None:
            kind = event.event_type_value
            if kind == "STEP_START":
                self.listener.log(f"{asset_of_step(step)} …")
            elif kind == "STEP_FAILURE":
                error = own_error(event.step_failure_data.error)
                if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
                    self.listener.log(f"{asset_of_step(step)} interrupted")
                    return
                message = _OWN_ERROR.sub("", error.message.strip())
                self.listener.log_failure(step, message, str(meta.get("run_id", "")))
        elif record.levelno >= logging.INFO:
            message = str(
                meta.get("orig_message", record.getMessage()) if isinstance(meta, Mapping) else record.getMessage()
            )
            if not is_noise(message):
                self.listener.log(f"{asset_of_step(step)}: {message}")


def own_error(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """Return the error that the code raised, without Dagster's wrapping."""
    while (error.cls_name or "").startswith("Dagster") and error.cause is not None:
        error = error.cause
    return error


def asset_of_step(step: str) -> str:
    """Return the name of a step's asset."""
    return step.replace("__", "/")


def is_noise(message: str) -> bool:
    """Return whether Dagster's message is about a skipped step or a check without a result.

    The messages are those of Dagster 1.13.27 (`ActiveExecution`, `execute_core_compute`).
    """
    is_of_skipped_step = message.startswith("Dependencies for step ") and message.endswith(" Not executing.")
    return is_of_skipped_step or " did not yield or return expected outputs {" in message
