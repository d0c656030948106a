"""Plans the runs that bring assets up to date: which assets over which days, why, and what must wait for what.

`ml-assets run` executes the plan's updates one after the other and plans again (see `ml_assets.orchestration.flow`).
The sensor requests them as runs (see `ml_assets.automation.updates`).
"""

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import dagster as dg
from pydantic import JsonValue

from ml_assets.adapters.dagster import AssetGraph
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.dagster_storage.code_versions import code_parts
from ml_assets.lake.days import days_by_asset, gaps_of, in_rows, span_of, split_into_runs
from ml_assets.lake.store import Lake
from ml_assets.orchestration.groups import CARD, INPUTS, SHADOW, TRAINING, Group, stage_of, update_groups, wanted_of
from ml_assets.orchestration.scope import Labelled, Partitions, Scope
from ml_assets.orchestration.staleness import (
    LakeView,
    Reason,
    Reasons,
    asset_allows_gaps,
    first_to_make,
    reads_of,
    required_of,
    with_upstream,
)

_LAST: Final = (*TRAINING, *SHADOW, *CARD)
"""Stages without days, which read days of the same run: the last of several runs materializes them."""
_FOR_RUN: Final = "waits for run "
Roots = frozenset[tuple[str, str]]
"""Missing partitions, each with its asset, without which something cannot be materialized."""
Fits = Callable[[dg.AssetKey, str], bool]
"""Returns whether a run may include a day of an asset that is up to date."""


@dataclass(frozen=True)
class Update:
    """One run that materializes what is out of date.

    Attributes:
        group: the group of its assets.
        assets: the assets, upstream first.
        days: the days, in order; none if the assets have no days.
        reasons: the distinct reasons.
    """

    group: Group
    assets: tuple[dg.AssetKey, ...]
    days: tuple[str, ...]
    reasons: tuple[Reason, ...]

    @property
    def span(self) -> str:
        """The days as a phrase; '' if there are none."""
        return span_of(self.days)


@dataclass(frozen=True)
class Facts:
    """The facts that an update follows from.

    Attributes:
        digest: a digest of what is out of date and why, with the versions and times of the inputs.
        code: a digest of the code and parameters of the whole group.
        made_from_at: when the newest input from outside the group was materialized.
    """

    digest: str
    code: str
    made_from_at: datetime

    def run_key(self, update: Update) -> str:
        """Return the run key, which is the same for the same facts."""
        group = f"{update.group.model}/{update.group.name}" if update.group.model else update.group.name
        return f"updates/{group}/{update.span or 'whole'}/{self.digest}"


@dataclass(frozen=True)
class Waiting:
    """An update that must wait, and why.

    Attributes:
        group: the group of its assets.
        days: its days; none if it has no days.
        why: what it waits for, as a phrase.
        lack: the missing asset; '' if it waits for something else.
        missing: the missing days of that asset; '' for an asset without days.
    """

    group: Group
    days: tuple[str, ...]
    why: str
    lack: str = ""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The result of planning.

    Attributes:
        updates: what can run now, upstream first.
        waiting: what must wait.
        still_open: what to check again: everything out of date, except what waits for missing partitions.
    """

    updates: tuple[Update, ...]
    waiting: tuple[Waiting, ...]
    still_open: Partitions


class Lacks:
    """The partitions that cannot be materialized now, because inputs that they require are missing.

    Assets are added upstream first.
    """

    def __init__(self, scope: Scope, look: LakeView) -> None:
        self.scope = scope
        self.look = look
        self.roots: dict[dg.AssetKey, dict[str, Roots]] = {}
        self.looks_back: set[dg.AssetKey] = set()
        """The assets that lack an earlier day of an input."""
        self._added: Partitions = {}
        self._available: Partitions = {}
        self._there: Partitions = {}

    def add(self, key: dg.AssetKey, partitions: Iterable[str], *, absent: Collection[str] = ()) -> None:
        """Add the partitions of an asset that are to be materialized. Those that are `absent` have no source."""
        self._added[key] = {*partitions}
        own = key.to_user_string()
        found = {part: frozenset({(own, part)}) if part in absent else self._roots(key, part) for part in partitions}
        self.roots[key] = {part: roots for part, roots in found.items() if roots}

    def of(self, key: dg.AssetKey) -> AbstractSet[str]:
        """Return the partitions of an asset that cannot be materialized."""
        return self.roots.get(key, {}).keys()

    def _roots(self, key: dg.AssetKey, partition: str) -> Roots:
        """Return the missing partitions that must come before a partition can be materialized; none if it can."""
        graph = self.scope.graph
        found: set[tuple[str, str]] = set()
        reads: dict[str, list[str]] = {}
        parents = {it.to_user_string(): it for it in self.scope.waits_on(key)}
        for name, parent in parents.items():
            if reads_of(graph, key, parent, partition) is not None:
                reads[name] = required_of(graph, key, parent, partition)
            elif not self._available_of(parent):
                found.add(self._first_lack(parent, ""))
        there = {name: self._available_of(parents[name]) for name in reads}
        for name, days in gaps_of(partition, reads, there, allow_gaps=asset_allows_gaps(graph, key)).blocking.items():
            lacking = self.roots.get(parents[name], {})
            if any(day != partition for day in days):
                self.looks_back.add(key)
            for day in days:
                found |= lacking[day] if day in lacking else {self._first_lack(parents[name], day)}
        return frozenset(found)

    def _available_of(self, key: dg.AssetKey) -> AbstractSet[str]:
        """Return the partitions of an asset that exist, or can be materialized and need not wait."""
        if key not in self._available:
            self._available[key] = (self.look.newest(key).keys() | self._added.get(key, set())) - self.of(key)
        return self._available[key]

    def _first_lack(self, key: dg.AssetKey, partition: str) -> tuple[str, str]:
        """Return the first missing partition: of an asset, or of the source that it is built from."""
        for parent in self.scope.waits_on(key):
            keys = reads_of(self.scope.graph, key, parent, partition)
            if keys is None or partition not in keys:
                continue
            if parent not in self._there:
                self._there[parent] = {*self.look.lake.partitions(parent.to_user_string())}
            if partition not in self._there[parent]:
                return self._first_lack(parent, partition)
        return key.to_user_string(), partition


def runs_of(
    due: Mapping[dg.AssetKey, Collection[str]], fits: Fits, *, is_bridging: bool = False, calendar: Calendar = DAILY
) -> Iterator[tuple[tuple[dg.AssetKey, ...], tuple[str, ...]]]:
    """Yield the assets and days of each run: few runs, each over consecutive days.

    Args:
        due: by asset, the partitions to materialize.
        fits: returns whether a run may include a day of an asset that is up to date.
        is_bridging: whether a run may include days on which nothing is due.
        calendar: of the partitions.
    """
    days = sorted({part for parts in due.values() for part in parts if part})
    whole = [key for key, parts in due.items() if "" in parts]
    rows = in_rows(days, calendar=calendar)
    if is_bridging and days:
        rows = [tuple(calendar.between(days[0], days[-1]))]
    by_day = {key: {*parts} for key, parts in due.items()}
    runs = [run for row in rows for run in split_into_runs(row, by_day, fits)] or [((), ())]
    for number, (assets, its) in enumerate(runs, 1):
        also = {key for key in whole if number == (len(runs) if stage_of(key) in _LAST else 1)}
        if together := tuple(key for key in due if key in assets or key in also):
            yield together, its


class Planner:
    """Plans the updates of what is out of date.

    Args:
        scope: the assets and their groups.
        look: the lake, with what should be up to date in it.
        running: by asset and partition, the run that is materializing it.
    """

    def __init__(self, scope: Scope, look: LakeView, *, running: Labelled | None = None) -> None:
        self.scope = scope
        self.look = look
        self.running = running or {}
        self.behind_running = scope.waiting_for(self.running, groups=False)
        self.stale: Reasons = {}
        self.lacks = Lacks(scope, look)
        for key, found in look.out_of_date().items():
            self.stale[key] = {part: why for part, why in found.items() if why != "parent" or self._is_late(key, part)}
            self.lacks.add(key, self.stale[key])
        late = {
            key: {part: f"{key.to_user_string()}{f' of {part}' if part else ''}" for part in parts}
            for key in self.stale
            if (parts := self._late(key))
        }
        self.elsewhere = scope.waiting_for(late, groups=True)

    def plan(self) -> Plan:
        """Return what to materialize now, what waits, and what to check again.

        Of an update that must wait, the days that need not wait are materialized: otherwise days that arrive faster
        than a group is built would keep all of its days waiting.
        """
        updates, waiting = [], [*self._blocked()]
        for group in dict.fromkeys(self.scope.groups[key] for key in self.stale):
            mine = {key: self._possible(key) for key in self.stale if self.scope.groups[key] == group}
            for update in self._updates(group, mine):
                why = self._why_not(update)
                if why is None:
                    updates.append(update)
                    continue
                ready = [it for it in self._updates(group, self._ready(update)) if self._why_not(it) is None]
                updates += ready
                made = {(key, part) for it in ready for key, part, _ in self._parts(it.assets, it.days)}
                left = {part for key, part, _ in self._parts(update.assets, update.days) if (key, part) not in made}
                waiting.append(Waiting(group, tuple(day for day in update.days if day in left), why))
        still_open = {key: parts for key in self.stale if (parts := {*self._late(key)})}
        return Plan(tuple(updates), tuple(waiting), still_open)

    def _updates(self, group: Group, stale: Mapping[dg.AssetKey, Mapping[str, Reason]]) -> Iterator[Update]:
        """Yield the updates of a group that materialize what is out of date."""
        due = first_to_make({key: parts for key, parts in stale.items() if parts})
        if not due:
            return
        for assets, days in runs_of(due, functools.partial(self._fits, group), calendar=self.scope.calendar):
            yield Update(group, assets, days, self._reasons(assets, days))

    def _ready(self, update: Update) -> dict[dg.AssetKey, dict[str, Reason]]:
        """Return what is out of date on the days of an update on which nothing must wait: a day is built as a whole."""
        parts = [*self._parts(update.assets, update.days)]
        waiting = {part for key, part, _ in parts if self._waits_for(key, part) is not None}
        found: dict[dg.AssetKey, dict[str, Reason]] = {}
        for key, part, why in parts:
            if not waiting.intersection({"", part}):
                found.setdefault(key, {})[part] = why
        return found

    def facts_of(self, update: Update) -> Facts:
        """Return the facts that an update follows from."""
        facts: list[JsonValue] = []
        times = []
        covered = {"", *update.days}
        for key, partition, why in self._parts(update.assets, update.days):
            if why == "parent":
                continue
            inputs: list[JsonValue] = []
            for parent, name in self.look.reads(key, partition):
                ref = self.look.newest(parent).get(name)
                is_made_too = parent in update.assets and name in self.stale.get(parent, {}) and name in covered
                if ref is None or is_made_too:
                    continue
                manifest = self.look.manifest(ref)
                inputs.append([str(ref), manifest.number])
                times.append(manifest.created_at)
            beside = [str(ref) for ref in self.look.wanted.beside.get(key, {}).get(partition, ())]
            files = self.look.wanted.files.get(key, {}).get(partition, ())
            facts.append([key.to_user_string(), partition, why, inputs, *beside, *files])
        group = [key for key, its in self.scope.groups.items() if its == update.group]
        code = parameters_digest(self.scope.graph, group, self.look.parameters)
        return Facts(_digest([facts, code]), code, max(times, default=datetime.min.replace(tzinfo=UTC)))

    def _late(self, key: dg.AssetKey) -> AbstractSet[str]:
        """Return the partitions of an asset that are out of date and can be materialized."""
        return self.stale.get(key, {}).keys() - self.lacks.of(key)

    def _possible(self, key: dg.AssetKey) -> dict[str, Reason]:
        return {part: why for part, why in self.stale[key].items() if part not in self.lacks.of(key)}

    def _is_late(self, key: dg.AssetKey, partition: str) -> bool:
        """Return whether an input of a partition is out of date and can be materialized."""
        return any(name in self._late(parent) for parent, name in self.look.reads(key, partition))

    def _fits(self, group: Group, key: dg.AssetKey, day: str) -> bool:
        """Return whether a run may include a day of an asset that is up to date: it exists and can be rebuilt."""
        return not group.is_exact and day in self.look.newest(key) and day not in self.lacks.of(key)

    def _blocked(self) -> Iterator[Waiting]:
        """Yield the updates that wait for missing partitions: one for each group and missing asset."""
        days: dict[tuple[Group, str], set[str]] = {}
        missing: dict[tuple[Group, str], set[str]] = {}
        for key, partitions in self.lacks.roots.items():
            for partition, roots in partitions.items():
                for asset, day in sorted(roots):
                    days.setdefault((self.scope.groups[key], asset), set()).add(partition)
                    missing.setdefault((self.scope.groups[key], asset), set()).add(day)
        for (group, asset), its in days.items():
            names = tuple(sorted(missing[group, asset]))
            why = f"waits for {days_by_asset({asset: names}, self.scope.calendar)}, which is missing"
            yield Waiting(group, tuple(sorted(its - {""})), why, asset, names)

    def _parts(self, assets: Iterable[dg.AssetKey], days: Collection[str]) -> Iterator[tuple[dg.AssetKey, str, Reason]]:
        """Yield what is out of date of the assets and days of a run."""
        for key in assets:
            yield from ((key, part, why) for part, why in self.stale[key].items() if part in {"", *days})

    def _reasons(self, assets: Iterable[dg.AssetKey], days: Collection[str]) -> tuple[Reason, ...]:
        return tuple(dict.fromkeys(why for _, _, why in self._parts(assets, days)))

    def _waits_for(self, key: dg.AssetKey, partition: str) -> str | None:
        """Return what a partition waits for: a run, or an out-of-date asset of another group."""
        run = self.running.get(key, {}).get(partition) or self.behind_running.get(key, {}).get(partition)
        if run is not None:
            return f"{_FOR_RUN}{run[:8]}, which is queued or in progress"
        origin = self.elsewhere.get(key, {}).get(partition)
        return None if origin is None else f"waits for {origin}, which is also out of date"

    def _why_not(self, update: Update) -> str | None:
        """Return what an update waits for: a run, or an out-of-date input from outside its group."""
        parts = [(key, part) for key, part, _ in self._parts(update.assets, update.days)]
        waits = [why for key, part in parts if (why := self._waits_for(key, part)) is not None]
        if waits:
            return next((why for why in waits if why.startswith(_FOR_RUN)), waits[0])
        covered = {"", *update.days}
        for key, partition in parts:
            for parent in self.scope.waits_on(key):
                late = self._late(parent)
                keys = reads_of(self.scope.graph, key, parent, partition)
                for name in sorted(late) if keys is None else [it for it in keys if it in late]:
                    if parent not in update.assets or name not in covered:
                        late_input = f"{parent.to_user_string()}{f' of {name}' if name else ''}"
                        return f"waits for {late_input}, which is also out of date"
        return None


def blocked(graph: AssetGraph, lake: Lake, model: str, *, over: str, count: int) -> list[Waiting]:
    """Return which of a model's features, labels and upstream tables wait for missing days."""
    wanted = with_upstream(graph, (dg.AssetKey([model, stage]) for stage in INPUTS))
    groups = {key: group for key, group in update_groups(graph, [model]).items() if key in wanted}
    scope = Scope.newest(graph, groups, lake, over=over, count=count)
    given = wanted_of(graph, lake, {key: sorted(days) for key, days in scope.within.items()})
    return [it for it in Planner(scope, LakeView(graph, lake, given)).plan().waiting if it.lack]


def parameters_digest(
    graph: AssetGraph,
    keys: Iterable[dg.AssetKey],
    parameters: Callable[[dg.AssetKey], Mapping[str, JsonValue]] = lambda _: {},
) -> str:
    """Return the digest of the code versions of assets, and of their parameters if given."""
    return _digest(
        [[key.to_user_string(), code_parts(graph.get(key).code_version)[0], {**parameters(key)}] for key in keys]
    )


def _digest(facts: JsonValue) -> str:
    text = json.dumps(facts, sort_keys=True, default=str).encode()
    return hashlib.blake2b(text, digest_size=8, usedforsecurity=False).hexdigest()
