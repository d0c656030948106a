"""Which days with which files were asked for before, from the tags of runs: they survive a lost cursor.

What is under way, and what was asked by the key of a request, stays out; see `sensors.common.history`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,  # the tags that the UI and backfills set on a run over a range
    ASSET_PARTITION_RANGE_START_TAG,
)

CAUSE = "cause"
TABLE = "table"
DAYS = "arrived"
_FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


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
    return [Asked(run.run_id, run.status in _FAILED, _read(run.tags.get(DAYS, ""))) for run in runs]


def range_tags(days: Sequence[str]) -> dict[str, str]:
    """Return the tags of a run over days in a row."""
    return {ASSET_PARTITION_RANGE_START_TAG: days[0], ASSET_PARTITION_RANGE_END_TAG: days[-1]}
