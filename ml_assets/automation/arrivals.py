"""Asks for runs of the raw days whose files are not those they were made from: one sensor for all tables.

What follows downstream stays out. So do sources of one file for all days (`file:` in the declaration): that such a file
has changed, and which days of it, `ml-assets run` finds out.

What a day was made from is in its manifest, and what was asked for in the tags of the runs; the cursor only saves work.
The days of a run that failed are asked for again once a file of one of them has changed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

import dagster as dg
from pydantic import BaseModel, ConfigDict, ValidationError

from ml_assets.automation.asked import DAYS, TABLE, WHAT, Asked, Mark, asked_before, written
from ml_assets.automation.history import in_progress
from ml_assets.contracts.words import counted
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.lake.days import in_rows
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
"""Days of one run: a bad file fails all of them."""
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class _Table:
    """A raw table whose files come day by day."""

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
        """What one step makes."""
        return [self.key, quarantine_key(self.key)] if self.sets_aside else [self.key]

    def has(self, day: date, now: datetime) -> bool:
        """Tell whether there is a partition of a day; there is none before the day is over."""
        return self.days.first <= day <= self.days.newest(now)


class Cursor(BaseModel):
    """What was dealt with.

    Attributes:
        tables: by table and day, the mark of the files that were landed, or asked for in vain.
        failed: by table and day, the run that was asked for in vain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tables: dict[str, dict[str, str]] = {}
    failed: dict[str, dict[str, str]] = {}


@dataclass
class _Look:
    """What one look at a table came to: what to ask for, what to say, and what is dealt with from now on."""

    dealt: dict[str, str]
    failed: dict[str, str]
    requests: list[dg.RunRequest] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def arrivals_sensor(declared: Declared, *, interval_seconds: int = 30) -> dg.SensorDefinition:
    """Return the sensor over every raw table that is declared with `files`."""
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
        description="Lands the raw days whose files are new or were corrected, late and out of order too.",
    )
    def arrivals(context: dg.SensorEvaluationContext, ml_assets_lake: LakeResource) -> dg.SensorResult | dg.SkipReason:
        if not tables:
            return dg.SkipReason("no raw table is declared with 'files', so nothing arrives day by day.")
        return _tick(context, tables, ml_assets_lake.connect(), now=datetime.now(UTC))

    return arrivals


def _tick(
    context: dg.SensorEvaluationContext, tables: Sequence[_Table], lake: Lake, *, now: datetime
) -> dg.SensorResult:
    """Look at each table once.

    Raises:
        SourceError: a folder cannot be listed, and the other tables have nothing to ask for, which an error would keep
            from them.
    """
    lines: list[str] = []
    before = _read(context.cursor, lines)
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
        lines += [f"raw/{table.name}: {line}" for line in (*look.lines, *_told_of(look.failed))]
    if problems and not requests:
        raise SourceError("\n".join([*problems, *lines]))
    for problem in problems:
        context.log.error(problem)
    for line in lines if requests else ():
        context.log.info(line)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "\n".join(lines) or f"nothing new for {counted(len(tables), 'raw table')}.",
        cursor=Cursor(tables=known, failed=failed).model_dump_json(),
    )


def _read(text: str | None, lines: list[str]) -> Cursor:
    try:
        return Cursor.model_validate_json(text) if text else Cursor()
    except ValidationError:
        lines.append("the cursor is none of this sensor's; every day is compared with what was landed.")
        return Cursor()


def _look(
    table: _Table, lake: Lake, instance: dg.DagsterInstance, before: Cursor, *, room: int, now: datetime
) -> _Look:
    """Compare what there is of a table with what was landed.

    The order counts: what is listed, then which runs are under way, then what stands. A run that ended before has
    written what it landed; one that begins later reads what is there then, and the next look compares that.
    """
    here, dealt = _here(table, lake, now), before.tables.get(table.name, {})
    failed_before = before.failed.get(table.name, {})
    there = {*lake.names(lake.path("artifacts", *table.key.path)), *failed_before} if dealt else set()
    changed = [day for day, mark in here.marks.items() if dealt.get(day) != mark or day not in there]
    gone = sorted(dealt.keys() - here.listed)
    look = _Look(
        {day: mark for day, mark in dealt.items() if here.marks.get(day) == mark},
        failed=_still_failed(table, lake, here, {*changed, *gone}, failed_before),
        lines=[*here.lines],
    )
    if gone:
        look.lines.append(f"the files of {_some(gone)} are gone; what was landed of them stays.")
    if not changed and not gone:
        return look
    under_way = in_progress(instance, None).get(table.key, {})
    waits = {day: run for day in changed if (run := under_way.get(day))}
    asked: Sequence[Asked] = ()
    again: dict[str, str] = {}
    if gone or len(waits) < len(changed):
        asked = asked_before(instance, cause=NAME, table=table.key.to_user_string())
        again = _reopened(asked, here.marks, {*changed, *gone})
        waits |= {day: run for day in again if (run := under_way.get(day))}
    if waits:
        first = min(waits)
        look.lines.append(
            f"{_some(sorted(waits))}: run {waits[first]} is landing {first}; compared when that has ended."
        )
    candidates = sorted({*changed, *again} - waits.keys())
    standing = _standing(table, lake, candidates)
    again |= _removed(asked, {*candidates} - standing.keys())
    marks = {day: Mark(here.marks[day], _stands(standing.get(day))) for day in candidates}
    tried = {(day, mark): one.run_id for one in reversed(asked) for day, mark in one.marks.items()}
    landed = {day for day in candidates if is_made_from(standing.get(day), here.files[day])}
    in_vain = {day for day in candidates if (day, marks[day]) in tried} - landed - again.keys()
    look.failed |= {day: tried[day, marks[day]] for day in sorted(in_vain)}
    done = landed | in_vain
    look.dealt |= {day: here.marks[day] for day in done}
    wanted = [day for day in candidates if day not in done]
    for day in (*wanted, *waits):  # they are dealt with when they are landed
        look.dealt.pop(day, None)
        look.failed.pop(day, None)
    ranges = in_rows(wanted, most=MOST_DAYS)
    for days in ranges[:room]:
        corrected = sum(bool(landed_files(standing.get(day))) for day in days)
        look.requests.append(
            _request(table, {day: marks[day] for day in days}, corrected, [again.get(it) for it in days])
        )
        look.lines.append(f"asks for {look.requests[-1].tags[WHAT]}.")
    if ranges[room:]:
        look.lines.append(f"{len(ranges[room:])} more ranges of days wait for the next tick.")
    return look


def _still_failed(
    table: _Table, lake: Lake, here: "_Here", changed: set[str], failed: Mapping[str, str]
) -> dict[str, str]:
    """Return the days that were asked for in vain and that nobody has landed, or given another file, since."""
    left = [day for day in failed if day in here.files and day not in changed]
    standing = _standing(table, lake, left)
    return {day: failed[day] for day in left if not is_made_from(standing.get(day), here.files[day])}


def _told_of(failed: Mapping[str, str]) -> list[str]:
    days: dict[str, list[str]] = {}
    for day, run in sorted(failed.items()):
        days.setdefault(run, []).append(day)
    return [
        f"{_some(its)}: not landed by run {run[:8]}; mend the file, or look at the run and materialize again."
        for run, its in days.items()
    ]


@dataclass(frozen=True)
class _Here:
    """What is there to land.

    Attributes:
        listed: all days that have files.
        files: those of days that can be landed.
        marks: a digest of these files, by day.
        lines: what cannot be landed, and why.
    """

    listed: frozenset[str]
    files: Mapping[str, tuple[Arrived, ...]]
    marks: Mapping[str, str]
    lines: Sequence[str]


def _here(table: _Table, lake: Lake, now: datetime) -> _Here:
    """List a table's files.

    Raises:
        SourceError: the folder cannot be listed.
    """
    listing = list_files(table.pattern, lake.access)
    inside = {str(day): files for day, files in listing.days.items() if table.has(day, now)}
    outside = [str(day) for day in listing.days if not table.has(day, now)]
    growing = {day for day, files in inside.items() if any(it.is_growing(now, table.settle_seconds) for it in files)}
    lines = []
    if listing.strange:
        lines.append(f"{_some(listing.strange)}: no day in these names as {table.pattern.text} wants it; not landed.")
    if outside:
        lines.append(
            f"{_some(outside)}: outside the declared days ({table.days.first} to {table.days.last or 'yesterday'}); "
            "not landed."
        )
    if growing:
        lines.append(
            f"{_some(sorted(growing))}: written to in the last {table.settle_seconds:g} s, so they may still grow."
        )
    files = {day: it for day, it in inside.items() if day not in growing}
    marks = {day: _digest([one.facts for one in it]) for day, it in files.items()}
    return _Here(frozenset(map(str, listing.days)), files, marks, lines)


def _reopened(asked: Sequence[Asked], now: Mapping[str, str], touched: set[str]) -> dict[str, str]:
    """Return days to ask for again, each with the failed run that it was asked for in last.

    One bad file fails a whole run: once it is another or gone, the rest of that run is worth another try.
    """
    last: dict[str, Asked] = {}
    for one in asked:
        for day in one.marks:
            last.setdefault(day, one)
    failed = [one for one in asked if one.has_failed and not touched.isdisjoint(one.marks)]
    mended = [one for one in failed if any(now.get(day) != mark.listed for day, mark in one.marks.items())]
    return {day: one.run_id for one in mended for day in one.marks if last[day] is one and day in now}


def _removed(asked: Sequence[Asked], absent: AbstractSet[str]) -> dict[str, str]:
    """Return days that were landed and are no longer in the lake, each with the run that it was requested in last."""
    last: dict[str, Asked] = {}
    for one in asked:
        for day in absent & one.marks.keys():
            last.setdefault(day, one)
    return {day: one.run_id for day, one in last.items() if not one.has_failed}


def _standing(table: _Table, lake: Lake, days: Sequence[str]) -> dict[str, Manifest]:
    """Return the newest manifest of each day that was landed."""
    if not days:
        return {}
    refs = lake.newest(table.key.to_user_string(), days)
    with lake.pool(len(refs)) as each:
        return dict(zip(refs, each(lake.manifest, refs.values()), strict=True))


def _stands(manifest: Manifest | None) -> str:
    return _digest(None if manifest is None else [manifest.version, manifest.number])


def _digest(facts: object) -> str:
    text = json.dumps(facts, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=6, usedforsecurity=False).hexdigest()


def _request(table: _Table, marks: Mapping[str, Mark], corrected: int, failed: Iterable[str | None]) -> dg.RunRequest:
    """Return the request for days in a row; its key is made of the facts alone."""
    days, name = [*marks], table.key.to_user_string()
    parts = [
        f"{len(days) - corrected} new" if len(days) > corrected else "",
        f"{corrected} corrected" if corrected else "",
    ]
    what = f"{' and '.join(filter(None, parts))} of {days[0] if len(days) == 1 else f'{days[0]} to {days[-1]}'}"
    facts = _digest([written(marks), sorted({it for it in failed if it})])
    over = {} if len(days) == 1 else range_tags(days)
    return dg.RunRequest(
        run_key=f"{NAME}/{name}/{days[0]}..{days[-1]}/{facts}",
        partition_key=days[0] if len(days) == 1 else None,
        asset_selection=table.selection,
        tags={CAUSE: NAME, TABLE: name, DAYS: written(marks), WHAT: what, **over},
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
    return f"{', '.join(names[:_EXAMPLES])}{more}"
