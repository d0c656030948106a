"""Plans the runs that update what is out of date: which assets over which days, and which must wait.

Not here: which requests were made before (see `ml_assets.automation.updates`).
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph  # public through Definitions
from pydantic import JsonValue

from ml_assets.dagster_storage.code_versions import code_parts
from ml_assets.lake.days import OPTIONAL_LOOK_BACK, days_by_asset, gaps_of, in_rows, span_of, split_into_runs
from ml_assets.lake.store import Lake
from ml_assets.models.plan import days_between
from ml_assets.orchestration.groups import INPUTS, Group, artifacts_beside, is_managed, update_groups
from ml_assets.orchestration.staleness import (
    LakeView,
    Reason,
    Wanted,
    asset_allows_gaps,
    declared_days,
    first_to_make,
    loaded_parents,
    readers_of,
    reads_of,
    required_of,
    window_of,
)  # fmt: skip

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
Partitions = dict[dg.AssetKey, set[str]]
Groups = Mapping[dg.AssetKey, Group]
Roots = frozenset[tuple[str, str]]
"""Missing partitions, each with its asset, without which something cannot be materialized."""
Busy = Mapping[dg.AssetKey, Mapping[str, str]]
"""By asset and partition, the run that is materializing it or one of its inputs."""


@dataclass(frozen=True)
class Update:
    """One run to request.

    Attributes:
        group: the group of its assets.
        assets: the assets, upstream first.
        days: the days, in order; none if the assets have no days.
        reasons: the distinct reasons.
        facts: a digest of what is out of date and why, with the versions and times of the inputs.
        code: a digest of the code and parameters of the whole group.
        made_from_at: when the newest input from outside the group was materialized.
    """

    group: Group
    assets: tuple[dg.AssetKey, ...]
    days: tuple[str, ...]
    reasons: tuple[Reason, ...]
    facts: str
    code: str
    made_from_at: datetime

    @property
    def span(self) -> str:
        """The days as a phrase; '' if there are none."""
        return span_of(self.days)

    @property
    def run_key(self) -> str:
        """The run key, which is the same for the same facts."""
        group = f"{self.group.model}/{self.group.name}" if self.group.model else self.group.name
        return f"updates/{group}/{self.span or 'whole'}/{self.facts}"


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


def sources_of(graph: AssetGraph) -> list[dg.AssetKey]:
    """Return the assets by day that have no parents: the raw tables whose days arrive."""
    return [
        key
        for key in graph.toposorted_asset_keys
        if is_managed(graph, key) and graph.get(key).is_partitioned and not graph.get(key).parent_keys
    ]


def day_names(lake: Lake, key: dg.AssetKey) -> list[str]:
    """Return the days of an asset that have a folder in the lake, from one listing of names."""
    return [name for name in lake.names(lake.path("artifacts", *key.path)) if _DAY.fullmatch(name)]


def newest_days(graph: AssetGraph, lake: Lake) -> dict[dg.AssetKey, str]:
    """Return the newest day of each source that has any in the lake."""
    return {key: max(names) for key in sources_of(graph) if (names := day_names(lake, key))}


def horizon(
    graph: AssetGraph, groups: Groups, newest: Mapping[dg.AssetKey, str], *, yesterday: date, count: int
) -> dict[dg.AssetKey, set[str]]:
    """Return the partitions of each asset that are kept up to date: the newest days with data.

    For each asset these are `count` days up to the newest day that all of its sources have, all later days that any of
    them has, and the days that its readers need, as far back as they look. A source that has reached its last declared
    day does not limit the others.

    Args:
        graph: the assets.
        groups: the groups that are kept up to date.
        newest: by source, the newest day in the lake; absent if there is none.
        yesterday: the newest day that is over.
        count: the number of days.
    """
    spans: dict[dg.AssetKey, tuple[date, date]] = {}
    sources: dict[dg.AssetKey, frozenset[dg.AssetKey]] = {}
    declared = {key: days for key in graph.toposorted_asset_keys if (days := declared_days(graph, key))}
    for key in graph.toposorted_asset_keys:
        parents = graph.get(key).parent_keys
        own = frozenset([key] if key in declared and not parents else [])
        sources[key] = own.union(*(sources[it] for it in parents))
        there = {it: date.fromisoformat(newest[it]) for it in sources[key] if it in newest}
        if key in groups and key in declared and there:
            last = min(declared[key][1], yesterday, max(there.values()))
            waited_for = [day for it, day in there.items() if day < declared[it][1]]
            first = max(declared[key][0], min([last, *waited_for]) - timedelta(days=count - 1))
            spans |= {key: (first, last)} if first <= last else {}
    for key in reversed(graph.toposorted_asset_keys):
        for parent in loaded_parents(graph, key) if key in spans else ():
            if parent in groups and parent in declared:
                back = 0 if OPTIONAL_LOOK_BACK in graph.get(key).metadata else window_of(graph, key, parent)[0]
                first = max(declared[parent][0], spans[key][0] + timedelta(days=back))
                before = spans.get(parent, spans[key])
                spans[parent] = (min(before[0], first), before[1])
    days_of = {span: set(map(str, days_between(*span))) for span in set(spans.values())}
    return {key: (days_of[spans[key]] if key in spans else set()) if key in declared else {""} for key in groups}


def readers(
    graph: AssetGraph, groups: Groups, changed: Mapping[dg.AssetKey, set[str]], within: Mapping[dg.AssetKey, set[str]]
) -> Partitions:
    """Return the automatically updated partitions that read any of the changed ones."""
    found: Partitions = {}
    for key, partitions in changed.items():
        for child in graph.get(key).child_keys & groups.keys():
            for partition in partitions:
                keys = readers_of(graph, child, key, partition)
                found.setdefault(child, set()).update(
                    within[child] if keys is None else within[child].intersection(keys)
                )
    return {key: partitions for key, partitions in found.items() if partitions}


def with_the_rest_of_their_groups(
    graph: AssetGraph, groups: Groups, opened: Partitions, within: Mapping[dg.AssetKey, set[str]]
) -> Partitions:
    """Return partitions with those of the same groups that depend on them, upstream first."""
    found = {key: set(partitions) for key, partitions in opened.items()}
    for key in graph.toposorted_asset_keys:
        if key in found:
            for child, partitions in readers(graph, groups, {key: found[key]}, within).items():
                if groups[child] == groups[key]:
                    found.setdefault(child, set()).update(partitions)
    return {key: found[key] for key in graph.toposorted_asset_keys if key in found}


def busy_with(
    graph: AssetGraph,
    groups: Groups,
    running: Mapping[dg.AssetKey, Mapping[str, str]],
    within: Mapping[dg.AssetKey, set[str]],
) -> dict[dg.AssetKey, dict[str, str]]:
    """Return what running runs materialize and everything that depends on it, each partition with its run."""
    found = {key: dict(partitions) for key, partitions in running.items()}
    for key in graph.toposorted_asset_keys if found else ():
        for child in graph.get(key).child_keys & groups.keys() if key in found else ():
            if key not in _waits_on(graph, groups, child):
                continue
            for partition, run in found[key].items():
                keys = readers_of(graph, child, key, partition)
                for name in within[child] if keys is None else within[child].intersection(keys):
                    found.setdefault(child, {}).setdefault(name, run)
    return found


def runs_held_up(
    graph: AssetGraph,
    groups: Groups,
    late: Mapping[dg.AssetKey, Iterable[str]],
    within: Mapping[dg.AssetKey, set[str]],
) -> dict[dg.AssetKey, dict[str, str]]:
    """Return what depends on an out-of-date partition of another group, directly or not, each with that partition."""
    found: dict[dg.AssetKey, dict[str, str]] = {}
    for key in graph.toposorted_asset_keys if late else ():
        mine = {part: f"{key.to_user_string()}{f' of {part}' if part else ''}" for part in late.get(key, ())}
        inherited = found.get(key, {})
        if not mine and not inherited:
            continue
        for child in graph.get(key).child_keys & groups.keys():
            if key not in _waits_on(graph, groups, child):
                continue
            handed = inherited if groups.get(key) == groups[child] else mine | inherited
            for partition, origin in handed.items():
                keys = readers_of(graph, child, key, partition)
                for name in within[child] if keys is None else within[child].intersection(keys):
                    found.setdefault(child, {}).setdefault(name, origin)
    return found


def _waits_on(graph: AssetGraph, groups: Groups, key: dg.AssetKey) -> list[dg.AssetKey]:
    """Return the parents that must be up to date first: an asset's inputs or, for a card, what it shows.

    Predictions come after the champion, but do not wait for a training.
    """
    return sorted({*loaded_parents(graph, key), *(graph.get(key).parent_keys & groups.keys())})


class Planner:
    """Plans the updates of the open partitions of a lake."""

    def __init__(
        self,
        graph: AssetGraph,
        lake: Lake,
        groups: Groups,
        wanted: Wanted,
        *,
        busy: Busy,
        within: Mapping[dg.AssetKey, set[str]],
    ) -> None:
        self.graph = graph
        self.groups = groups
        self.look = LakeView(graph, lake, wanted)
        self.busy = busy
        self.stale: dict[dg.AssetKey, dict[str, Reason]] = {}
        self.lacking: dict[dg.AssetKey, dict[str, Roots]] = {}
        self._there: Partitions = {}
        self._made: Partitions = {}
        for key, found in self.look.out_of_date().items():
            self.stale[key] = {part: why for part, why in found.items() if why != "parent" or self._is_late(key, part)}
            self.lacking[key] = {part: roots for part in self.stale[key] if (roots := self._roots(key, part))}
        late = {key: parts for key in self.stale if (parts := self._late(key))}
        self.elsewhere = runs_held_up(graph, groups, late, within)

    def plan(self) -> Plan:
        """Return what to request, what waits, and what to check again."""
        updates, waiting = [], [*self._blocked()]
        for group in dict.fromkeys(self.groups[key] for key in self.stale):
            for assets, days in self._runs(group):
                update = self._update(group, assets, days)
                why = self._why_not(update)
                if why is None:
                    updates.append(update)
                else:
                    waiting.append(Waiting(group, days, why))
        still_open = {
            key: {part for part in found if part not in self.lacking.get(key, {})} for key, found in self.stale.items()
        }
        return Plan(tuple(updates), tuple(waiting), {key: parts for key, parts in still_open.items() if parts})

    def _late(self, parent: dg.AssetKey) -> set[str]:
        """Return the partitions of an asset that are out of date and can be materialized."""
        return self.stale.get(parent, {}).keys() - self.lacking.get(parent, {}).keys()

    def _is_late(self, key: dg.AssetKey, partition: str) -> bool:
        """Return whether an input of a partition is out of date and can be materialized."""
        return any(name in self._late(parent) for parent, name in self.look.reads(key, partition))

    def _roots(self, key: dg.AssetKey, partition: str) -> Roots:
        """Return the missing partitions that must come before a partition can be materialized; none if it can."""
        found: set[tuple[str, str]] = set()
        reads: dict[str, list[str]] = {}
        parents = {it.to_user_string(): it for it in _waits_on(self.graph, self.groups, key)}
        for name, parent in parents.items():
            if reads_of(self.graph, key, parent, partition) is not None:
                reads[name] = required_of(self.graph, key, parent, partition)
            elif not self._available(parent):
                found.add(self._first_lack(parent, ""))
        there = {name: self._available(parents[name]) for name in reads}
        gaps = gaps_of(partition, reads, there, allow_gaps=asset_allows_gaps(self.graph, key))
        for name, days in gaps.blocking.items():
            lacking = self.lacking.get(parents[name], {})
            for day in days:
                found |= lacking[day] if day in lacking else {self._first_lack(parents[name], day)}
        return frozenset(found)

    def _available(self, key: dg.AssetKey) -> AbstractSet[str]:
        """Return the partitions of an asset that exist, or can be materialized and need not wait."""
        if key not in self._made:
            lacking = self.lacking.get(key, {}).keys()
            self._made[key] = (self.look.newest(key).keys() | self.stale.get(key, {}).keys()) - lacking
        return self._made[key]

    def _first_lack(self, key: dg.AssetKey, partition: str) -> tuple[str, str]:
        """Return the first missing partition: of an asset, or of the source that it is built from."""
        for parent in _waits_on(self.graph, self.groups, key):
            keys = reads_of(self.graph, key, parent, partition)
            if keys is None or partition not in keys:
                continue
            if parent not in self._there:
                self._there[parent] = {*self.look.lake.partitions(parent.to_user_string())}
            if partition not in self._there[parent]:
                return self._first_lack(parent, partition)
        return key.to_user_string(), partition

    def _blocked(self) -> Iterator[Waiting]:
        """Yield the updates that wait for missing partitions: one for each group and missing asset."""
        days: dict[tuple[Group, str], set[str]] = {}
        missing: dict[tuple[Group, str], set[str]] = {}
        for key, partitions in self.lacking.items():
            for partition, roots in partitions.items():
                for asset, day in sorted(roots):
                    days.setdefault((self.groups[key], asset), set()).add(partition)
                    missing.setdefault((self.groups[key], asset), set()).add(day)
        for (group, asset), its in days.items():
            names = tuple(sorted(missing[group, asset]))
            why = f"waits for {days_by_asset({asset: names})}, which is missing"
            yield Waiting(group, tuple(sorted(its - {""})), why, asset, names)

    def _runs(self, group: Group) -> Iterator[tuple[tuple[dg.AssetKey, ...], tuple[str, ...]]]:
        """Yield the assets and days of each run: consecutive days, without any that cannot be materialized."""
        can = {
            key: {part: why for part, why in found.items() if part not in self.lacking.get(key, {})}
            for key, found in self.stale.items()
            if self.groups[key] == group
        }
        chosen = {key: set(parts) for key, parts in first_to_make({k: v for k, v in can.items() if v}).items()}
        whole = tuple(key for key, parts in chosen.items() if "" in parts)
        rows = in_rows(sorted(set().union(*chosen.values()) - {""}))
        runs = [run for row in rows for run in split_into_runs(row, chosen, functools.partial(self._may, group))]
        for assets, days in runs or [((), ())]:
            together = tuple(key for key in chosen if key in assets or key in whole)
            whole = ()
            if together:
                yield together, days

    def _may(self, group: Group, key: dg.AssetKey, day: str) -> bool:
        """Return whether a run may include a day of an asset that is up to date: it exists and can be rebuilt."""
        return not group.is_exact and day in self.look.newest(key) and day not in self.lacking.get(key, {})

    def _update(self, group: Group, assets: tuple[dg.AssetKey, ...], days: tuple[str, ...]) -> Update:
        facts: list[JsonValue] = []
        times = []
        reasons: dict[Reason, None] = {}
        covered = {"", *days}
        for key in assets:
            for partition, why in self.stale[key].items():
                if partition not in covered:
                    continue
                reasons[why] = None
                if why == "parent":
                    continue
                inputs: list[JsonValue] = []
                for parent, name in self.look.reads(key, partition):
                    ref = self.look.newest(parent).get(name)
                    if ref is None or (parent in assets and name in self.stale.get(parent, {}) and name in covered):
                        continue
                    manifest = self.look.manifest(ref)
                    inputs.append([str(ref), manifest.number])
                    times.append(manifest.created_at)
                beside = [str(ref) for ref in self.look.wanted.beside.get(key, {}).get(partition, ())]
                facts.append([key.to_user_string(), partition, why, inputs, *beside])
        code = parameters_digest(
            self.graph, [key for key in self.groups if self.groups[key] == group], self.look.parameters
        )
        return Update(
            group=group,
            assets=assets,
            days=days,
            reasons=tuple(reasons),
            facts=_digest([facts, code]),
            code=code,
            made_from_at=max(times, default=datetime.min.replace(tzinfo=UTC)),
        )

    def _why_not(self, update: Update) -> str | None:
        """Return what an update waits for: a run, or an out-of-date input from outside its group."""
        covered = {"", *update.days}
        parts = [(key, part) for key in update.assets for part in self.stale[key] if part in covered]
        for key, partition in parts:
            if (run := self.busy.get(key, {}).get(partition)) is not None:
                return f"waits for run {run[:8]}, which is queued or in progress"
        for key, partition in parts:
            if (origin := self.elsewhere.get(key, {}).get(partition)) is not None:
                return f"waits for {origin}, which is also out of date"
        for key, partition in parts:
            for parent in _waits_on(self.graph, self.groups, key):
                late = self._late(parent)
                keys = reads_of(self.graph, key, parent, partition)
                for name in sorted(late) if keys is None else [it for it in keys if it in late]:
                    if parent not in update.assets or name not in covered:
                        late_input = f"{parent.to_user_string()}{f' of {name}' if name else ''}"
                        return f"waits for {late_input}, which is also out of date"
        return None


def blocked(graph: AssetGraph, lake: Lake, model: str, *, yesterday: date, count: int) -> list[Waiting]:
    """Return which of a model's features, labels and upstream tables wait for missing days."""
    wanted = {dg.AssetKey([model, stage]) for stage in INPUTS}
    for key in reversed(graph.toposorted_asset_keys):
        wanted |= graph.get(key).parent_keys if key in wanted else set()
    groups = {key: group for key, group in update_groups(graph, [model]).items() if key in wanted}
    within = horizon(graph, groups, newest_days(graph, lake), yesterday=yesterday, count=count)
    partitions = {key: sorted(days) for key, days in within.items()}
    given = Wanted(partitions, {}, beside=artifacts_beside(graph, lake, partitions))
    return [it for it in Planner(graph, lake, groups, given, busy={}, within=within).plan().waiting if it.lack]


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
