"""How a tick of a sensor or schedule reads its cursor, and reports what it found."""

from collections.abc import Callable, Sequence
from logging import Logger
from typing import TypeVar

import dagster as dg
from pydantic import ValidationError

from ml_assets.contracts.json_record import Record
from ml_assets.lake.errors import LakeError

R = TypeVar("R", bound=Record)


def read_cursor(kind: type[R], text: str | None, report: Callable[[str], object], problem: str) -> R | None:
    """Return a stored cursor, or None. A cursor that cannot be read is reported and counts as none."""
    try:
        return kind.model_validate_json(text) if text else None
    except ValidationError:
        report(problem)
        return None


def report_tick(
    log: Logger,
    requests: Sequence[dg.RunRequest],
    lines: Sequence[str],
    problems: Sequence[str] = (),
    error: type[Exception] = LakeError,
) -> None:
    """Log what could not be checked and, if runs are requested, what the skip reason would contain.

    Raises:
        error: something could not be checked, and no run is requested. (An error would discard run requests.)
    """
    if problems and not requests:
        raise error("\n".join([*problems, *lines]))
    for problem in problems:
        log.error(problem)
    for line in lines if requests else ():
        log.info(line)
