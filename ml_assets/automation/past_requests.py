"""Reads from the tags of runs which days were requested with which files, so that a lost cursor does no harm.

Not here: running runs, and runs by their run key (see `ml_assets.automation.history`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from ml_assets.automation.history import FAILED
from ml_assets.names import CAUSE

TABLE = "ml_assets/table"
DAYS = "ml_assets/arrived"
WHAT = "ml_assets/arrivals"


@dataclass(frozen=True)
class Mark:
    """Short digests of a day's files and of its current manifest, at the time of the request."""

    listed: str
    standing: str


@dataclass(frozen=True)
class PastRequest:
    """One requested run: the mark of each of its days, and whether it failed."""

    run_id: str
    has_failed: bool
    marks: Mapping[str, Mark]


def tag_value(marks: Mapping[str, Mark]) -> str:
    """Return marks as the value of a run's tag."""
    return " ".join(f"{day}={mark.listed}.{mark.standing}" for day, mark in sorted(marks.items()))


def _read(text: str) -> dict[str, Mark]:
    marks = {}
    for piece in text.split():
        day, _, mark = piece.partition("=")
        listed, _, standing = mark.partition(".")
        marks[day] = Mark(listed, standing)
    return marks


def past_requests(instance: dg.DagsterInstance, *, cause: str, table: str) -> list[PastRequest]:
    """Return all runs that were requested for one table, newest first."""
    runs = instance.get_runs(filters=dg.RunsFilter(tags={CAUSE: cause, TABLE: table}))
    return [PastRequest(run.run_id, run.status in FAILED, _read(run.tags.get(DAYS, ""))) for run in runs]
