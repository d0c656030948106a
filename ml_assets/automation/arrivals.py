"""The sensor that requests runs for raw days whose source files are new or have changed, for all raw tables.

Not here: assets downstream of the raw tables (see `ml_assets.automation.updates`). Sources with one file for all days
(`file:` in the declaration) are not watched either; `ml-assets run` finds out which of their days have changed.

The manifest of a day records the files that it was built from. The tags of runs record what was requested before. The
cursor only saves work. If a run failed, its days are requested again when a file of one of them has changed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import dagster as dg
from pydantic import Field

from ml_assets.automation.history import in_progress
from ml_assets.automation.past_requests import DAYS, TABLE, WHAT, Mark, PastRequest, past_requests, tag_value
from ml_assets.automation.ticks import read_cursor, report_tick
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.words import counted
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.lake.days import in_rows, span_of
from ml_assets.lake.errors import CorruptArtifactError, SourceError
from ml_assets.lake.manifest import Manifest
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.run_tags import range_tags
from ml_assets.lake.store import Lake
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.landing.listing import Arrived, is_made_from, landed_files, list_files
from ml_assets.models.plan import quarantine_key
from ml_assets.names import CAUSE, prefixed

NAME: Final = "arrivals"
MOST_REQUESTS: Final = 50
MOST_DAYS: Final = 50
"""The most days that one run lands. A bad file fails all days of its run."""
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class _Table:
    """A raw table with source files by day."""

    name: str
    pattern: DayPattern
    days: Days
    settle_seconds: float
    sets_aside: bool

    @property
    def key(self) -> dg.AssetKey:
        return dg.AssetKey(["raw", self.name])

    @property
    def selection(self) -> list[dg.AssetKey]:
        """The assets that one step materializes."""
        return [self.key, quarantine_key(self.key)] if self.sets_aside else [self.key]

    def has(self, key: str, now: datetime) -> bool:
        """Return whether a period has a partition. It has none before it is over."""
        return self.days.has(key) and key <= self.days.calendar.newest_over(now)


class ArrivalsCursor(Record):
    """The files that need no further request.

    Attributes:
        tables: by table and day, the mark of the files that were landed, or whose run failed.
        failed: by table and day, the run that failed to land it.
    """

    tables: dict[str, dict[str, str]] = Field(default={})
    failed: dict[str, dict[str, str]] = Field(default={})


@dataclass
class _Look:
    """The result of looking at one table: the run requests, the lines to report, and the new state of the cursor."""

    dealt: dict[str, str]
    failed: dict[str, str]
    requests: list[dg.RunRequest] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def arrivals_sensor(declared: Declared, *, interval_seconds: int = 30) -> dg.SensorDefinition:
    """Return the sensor for all raw tables that are declared with `files`."""
    tables = [
        _Table(name, DayPattern.of(table.files), raw.days, table.settle_seconds, table.quarantine is not None)
        for raw in declared.raw
        for name, table in raw.tables.items()
        if table.files is not None
    ]

    @dg.sensor(
        name=prefixed(NAME),
        target=dg.AssetSelection.assets(*(key for table in tables for key in table.selection)),
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lands the raw days whose files are new or corrected, in any order, also late ones.",
    )
    def arrivals(context: dg.SensorEvaluationContext, ml_assets_lake: LakeResource) -> dg.SensorResult | dg.SkipReason:
        if not tables:
            return dg.SkipReason("no raw table is declared with 'files'.")
        return _tick(context, tables, ml_assets_lake.connect(), now=datetime.now(UTC))

    return arrivals


def _tick(
    context: dg.SensorEvaluationContext, tables: Sequence[_Table], lake: Lake, *, now: datetime
) -> dg.SensorResult:
    """Look at each table once.

    Raises:
        SourceError: a folder cannot be listed, and no other table requests a run. (An error would discard run
            requests.)
    """
    lines: list[str] = []
    problem = "the cursor cannot be read; the files of all days are compared with the landed days."
    before = read_cursor(ArrivalsCursor, context.cursor, lines.append, problem) or ArrivalsCursor()
    known, failed = dict(before.tables), dict(before.failed)
    requests: list[dg.RunRequest] = []
    problems: list[str] = []
    for table in tables:
        room = MOST_REQUESTS - len(requests)
        try:
            look = _look(table, lake, context.instance, before, room=room, now=now)
        except (SourceError, CorruptArtifactError) as error:
            problems.append(f"raw/{table.name}: {error}")
            continue
        known[table.name], failed[table.name] = look.dealt, look.failed
        requests += look.requests
        lines += [f"raw/{table.name}: {line}" for line in (*look.lines, *_failure_lines(look.failed))]
    report_tick(context.log, requests, lines, problems, SourceError)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "\n".join(lines) or f"nothing new for {counted(len(tables), 'raw table')}.",
        cursor=ArrivalsCursor(tables=known, failed=failed).model_dump_json(),
    )


def _look(
    table: _Table, lake: Lake, instance: dg.DagsterInstance, before: ArrivalsCursor, *, room: int, now: datetime
) -> _Look:
    """Compare the files of a table with the days that were landed.

    The order matters: first the listing, then the running runs, then the manifests. A run that ended before has written
    its manifests. A run that starts later reads the files of that time, and the next tick compares them.
    """
    here, calendar = _here(table, lake, now), table.days.calendar
    dealt, failed_before = (
        {day: it for day, it in found.get(table.name, {}).items() if calendar.has_form(day)}
        for found in (before.tables, before.failed)
    )
    there = {*lake.names(lake.path("artifacts", *table.key.path)), *failed_before} if dealt else set()
    changed = [day for day, mark in here.marks.items() if dealt.get(day) != mark or day not in there]
    gone = sorted(dealt.keys() - here.listed)
    look = _Look(
        {day: mark for day, mark in dealt.items() if here.marks.get(day) == mark},
        failed=_still_failed(table, lake, here, {*changed, *gone}, failed_before),
        lines=[*here.lines],
    )
    if gone:
        look.lines.append(f"the files of {_some(gone)} were removed; their landed data stays in the lake.")
    if not changed and not gone:
        return look
    under_way = in_progress(instance, None, table.days.calendar).get(table.key, {})
    waits = {day: run for day in changed if (run := under_way.get(day))}
    past: Sequence[PastRequest] = ()
    again: dict[str, str] = {}
    if gone or len(waits) < len(changed):
        past = past_requests(instance, cause=NAME, table=table.key.to_user_string())
        again = _reopened(past, here.marks, {*changed, *gone})
        waits |= {day: run for day in again if (run := under_way.get(day))}
    if waits:
        first = min(waits)
        look.lines.append(f"{_some(sorted(waits))}: run {waits[first]} is landing {first}; compared after that run.")
    candidates = sorted({*changed, *again} - waits.keys())
    standing = _standing(table, lake, candidates)
    again |= _removed(past, {*candidates} - standing.keys())
    made = {day: [manifest.version, manifest.number] for day, manifest in standing.items()}
    marks = {day: Mark(here.marks[day], _digest(made.get(day))) for day in candidates}
    tried = {(day, mark): one.run_id for one in reversed(past) for day, mark in one.marks.items()}
    landed = {day for day in candidates if is_made_from(standing.get(day), here.files[day])}
    in_vain = {day for day in candidates if (day, marks[day]) in tried} - landed - again.keys()
    look.failed |= {day: tried[day, marks[day]] for day in sorted(in_vain)}
    done = landed | in_vain
    look.dealt |= {day: here.marks[day] for day in done}
    wanted = [day for day in candidates if day not in done]
    for day in (*wanted, *waits):  # a run is landing them
        look.dealt.pop(day, None)
        look.failed.pop(day, None)
    ranges = in_rows(wanted, most=MOST_DAYS, calendar=table.days.calendar)
    for days in ranges[:room]:
        corrected = sum(bool(landed_files(standing.get(day))) for day in days)
        look.requests.append(
            _request(table, {day: marks[day] for day in days}, corrected, [again.get(it) for it in days])
        )
        look.lines.append(f"requests {look.requests[-1].tags[WHAT]}.")
    if ranges[room:]:
        look.lines.append(f"{len(ranges[room:])} more ranges of days are requested at the next tick.")
    return look


def _still_failed(
    table: _Table, lake: Lake, here: "_Here", changed: set[str], failed: Mapping[str, str]
) -> dict[str, str]:
    """Return the days of failed runs that have not been landed since and whose files have not changed."""
    left = [day for day in failed if day in here.files and day not in changed]
    standing = _standing(table, lake, left)
    return {day: failed[day] for day in left if not is_made_from(standing.get(day), here.files[day])}


def _failure_lines(failed: Mapping[str, str]) -> list[str]:
    days: dict[str, list[str]] = {}
    for day, run in sorted(failed.items()):
        days.setdefault(run, []).append(day)
    return [
        f"{_some(its)}: run {run[:8]} failed to land it. Correct the file, or see the run." for run, its in days.items()
    ]


@dataclass(frozen=True)
class _Here:
    """The files of a table.

    Attributes:
        listed: all days that have files.
        files: the files of the days that can be landed.
        marks: by day, a digest of these files.
        lines: the files that cannot be landed, and why.
    """

    listed: frozenset[str]
    files: Mapping[str, tuple[Arrived, ...]]
    marks: Mapping[str, str]
    lines: Sequence[str]


def _here(table: _Table, lake: Lake, now: datetime) -> _Here:
    """List the files of a table.

    Raises:
        SourceError: the folder cannot be listed.
    """
    listing = list_files(table.pattern, lake.access, table.days.calendar)
    inside = {day: files for day, files in listing.periods.items() if table.has(day, now)}
    outside = [day for day in listing.periods if not table.has(day, now)]
    growing = {day for day, files in inside.items() if any(it.is_growing(now, table.settle_seconds) for it in files)}
    lines = []
    if listing.strange:
        lines.append(f"{_some(listing.strange)}: these names do not match {table.pattern.text}; not landed.")
    if outside:
        lines.append(
            f"{_some(outside)}: outside the declared days ({table.days.first} to {table.days.last or 'yesterday'}); "
            "not landed."
        )
    if growing:
        lines.append(
            f"{_some(sorted(growing))}: written in the last {table.settle_seconds:g} s, so they may be incomplete."
        )
    files = {day: it for day, it in inside.items() if day not in growing}
    marks = {day: _digest([one.facts for one in it]) for day, it in files.items()}
    return _Here(frozenset(listing.periods), files, marks, lines)


def _reopened(requests: Sequence[PastRequest], now: Mapping[str, str], touched: set[str]) -> dict[str, str]:
    """Return the days to request again, each with its last failed run.

    One bad file fails a whole run. When it has changed or is gone, the other days of the run are requested again.
    """
    last = {day: one for one in reversed(requests) for day in one.marks}
    failed = [one for one in requests if one.has_failed and not touched.isdisjoint(one.marks)]
    changed = [one for one in failed if any(now.get(day) != mark.listed for day, mark in one.marks.items())]
    return {day: one.run_id for one in changed for day in one.marks if last[day] is one and day in now}


def _removed(requests: Sequence[PastRequest], absent: AbstractSet[str]) -> dict[str, str]:
    """Return days that were landed and are no longer in the lake, each with the last run that requested it."""
    last = {day: one for one in reversed(requests) for day in absent & one.marks.keys()}
    return {day: one.run_id for day, one in last.items() if not one.has_failed}


def _standing(table: _Table, lake: Lake, days: Sequence[str]) -> dict[str, Manifest]:
    """Return the newest manifest of each day that was landed."""
    if not days:
        return {}
    refs = lake.newest(table.key.to_user_string(), days)
    return dict(zip(refs, lake.map(lake.manifest, refs.values()), strict=True))


def _digest(facts: object) -> str:
    text = json.dumps(facts, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=6, usedforsecurity=False).hexdigest()


def _request(table: _Table, marks: Mapping[str, Mark], corrected: int, failed: Iterable[str | None]) -> dg.RunRequest:
    """Return the run request for consecutive days. Its run key depends on the facts only."""
    days, name = [*marks], table.key.to_user_string()
    counts = {"new": len(days) - corrected, "corrected": corrected}
    parts = " and ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    what = f"{parts} of {span_of(days)}"
    facts = _digest([tag_value(marks), sorted({it for it in failed if it})])
    over = {} if len(days) == 1 else range_tags(days)
    return dg.RunRequest(
        run_key=f"{NAME}/{name}/{days[0]}..{days[-1]}/{facts}",
        partition_key=days[0] if len(days) == 1 else None,
        asset_selection=table.selection,
        tags={CAUSE: NAME, TABLE: name, DAYS: tag_value(marks), WHAT: what, **over},
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
    return f"{', '.join(names[:_EXAMPLES])}{more}"
