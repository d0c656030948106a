"""Reads Dagster's event log for the sensors: new materializations, running runs and earlier run requests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg

from ml_assets.adapters.dagster import IN_PROGRESS_RUN_STATUSES, RUN_KEY_TAG
from ml_assets.contracts.periods import Calendar
from ml_assets.lake.run_tags import range_of

# Methods of the instance read one asset at a time. A tick over 500 models needs all new events in one query.
AT_ONCE: Final = 2_000
"""The most materializations that one tick reads."""
OVERLAP: Final = 500
"""How many numbers late a transaction may appear. Postgres assigns a number before the row is visible."""
_UNFINISHED: Final = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.MANAGED,
    *IN_PROGRESS_RUN_STATUSES,
]  # fmt: skip
FAILED: Final = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
"""The statuses of runs that did not succeed."""
_AT_MOST: Final = 1_000


@dataclass(frozen=True)
class ReadPosition:
    """Which materializations were read.

    Attributes:
        last: the highest number among them.
        recent: the other numbers that are shortly before it.
    """

    last: int
    recent: tuple[int, ...] = ()


def newest_number(instance: dg.DagsterInstance) -> int:
    """Return the number of the newest materialization, or 0 if there is none."""
    found = instance.event_log_storage.get_event_records(
        dg.EventRecordsFilter(event_type=dg.DagsterEventType.ASSET_MATERIALIZATION), limit=1
    )
    return found[0].storage_id if found else 0


def materialized_since(
    instance: dg.DagsterInstance, seen: ReadPosition
) -> tuple[dict[dg.AssetKey, set[str]], ReadPosition, bool]:
    """Return new materializations ('' for an asset without partitions), the new position, and whether more exist."""
    records = instance.event_log_storage.get_event_records(
        dg.EventRecordsFilter(
            event_type=dg.DagsterEventType.ASSET_MATERIALIZATION, after_cursor=max(0, seen.last - OVERLAP)
        ),
        limit=AT_ONCE,
        ascending=True,
    )
    known = set(seen.recent)
    found: dict[dg.AssetKey, set[str]] = {}
    for record in records:
        if record.storage_id not in known and record.asset_key is not None:
            found.setdefault(record.asset_key, set()).add(record.partition_key or "")
    numbers = [record.storage_id for record in records]
    last = max([seen.last, *numbers])
    recent = sorted({n for n in (*known, *numbers) if n > last - OVERLAP})
    return found, ReadPosition(last, tuple(recent)), len(records) == AT_ONCE


def in_progress(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition | None, calendar: Calendar | None
) -> dict[dg.AssetKey, dict[str, str]]:
    """Return what queued and running runs materialize: by asset and partition, the run.

    The partition '' is the asset as a whole; without a calendar it is the only one.
    """
    found: dict[dg.AssetKey, dict[str, str]] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        assets: Iterable[dg.AssetKey] = run.asset_selection or ()
        if not assets and repository is not None and repository.has_job(run.job_name):
            assets = repository.get_job(run.job_name).asset_layer.executable_asset_keys
        for key in assets:
            for partition in ("", *(() if calendar is None else _partitions(run.tags, calendar))):
                found.setdefault(key, {})[partition] = run.run_id
    return found


def _partitions(tags: Mapping[str, str], calendar: Calendar) -> list[str]:
    found = range_of(tags)
    if found is None:
        return []
    first, last = found
    if not (calendar.has_form(first) and calendar.has_form(last)):
        return []  # the run was requested before a change of the grain
    return [first] if first == last else calendar.between(first, last)


def runs_by_key(instance: dg.DagsterInstance, run_keys: Sequence[str]) -> dict[str, dg.DagsterRun]:
    """Return the newest run of each run key."""
    if not run_keys:
        return {}
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: [*run_keys]}))
    return {run.tags[RUN_KEY_TAG]: run for run in reversed(runs)}


def failed_runs(instance: dg.DagsterInstance, tag: str, values: Sequence[str]) -> list[dg.RunRecord]:
    """Return the newest failed or canceled runs with any of these values of a tag, newest first."""
    if not values:
        return []
    return [*instance.get_run_records(dg.RunsFilter(tags={tag: [*values]}, statuses=[*FAILED]), limit=_AT_MOST)]


def targets_of(run: dg.DagsterRun, calendar: Calendar) -> tuple[set[dg.AssetKey], set[str]]:
    """Return the assets and partitions that a run was requested for."""
    return set(run.asset_selection or ()), set(_partitions(run.tags, calendar))
