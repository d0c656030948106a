"""Which days with which files were asked for before, from the tags of runs: they survive a lost cursor.

What is under way, and what was asked by the key of a request, stays out; see `ml_assets.automation.history`.
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
    """Short digests of what a day's files were when it was asked for, and of what stood then."""

    listed: str
    standing: str


@dataclass(frozen=True)
class Asked:
    """One run that was asked for: the mark of each of its days, and whether it came to nothing."""

    run_id: str
    has_failed: bool
    marks: Mapping[str, Mark]


def written(marks: Mapping[str, Mark]) -> str:
    """Return marks as a run's tag holds them."""
    return " ".join(f"{day}={mark.listed}.{mark.standing}" for day, mark in sorted(marks.items()))


def _read(text: str) -> dict[str, Mark]:
    marks = {}
    for piece in text.split():
        day, _, mark = piece.partition("=")
        listed, _, standing = mark.partition(".")
        marks[day] = Mark(listed, standing)
    return marks


def asked_before(instance: dg.DagsterInstance, *, cause: str, table: str) -> list[Asked]:
    """Return all runs that were asked for one table, newest first."""
    runs = instance.get_runs(filters=dg.RunsFilter(tags={CAUSE: cause, TABLE: table}))
    return [Asked(run.run_id, run.status in FAILED, _read(run.tags.get(DAYS, ""))) for run in runs]
