"""How a tick of a sensor or schedule reports what it found."""

from collections.abc import Sequence
from logging import Logger

import dagster as dg

from ml_assets.lake.errors import LakeError


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
