"""Which partitions are kept up to date automatically, and how a change spreads through the asset graph."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Self

import dagster as dg

from ml_assets.adapters.dagster import AssetGraph
from ml_assets.contracts.periods import DAILY, Calendar, is_key
from ml_assets.lake.days import OPTIONAL_LOOK_BACK
from ml_assets.lake.request_files import REQUESTS, newest_settled
from ml_assets.lake.store import Lake
from ml_assets.orchestration.groups import SERVED, Group, is_managed, stage_of
from ml_assets.orchestration.staleness import calendar_in, declared_keys, loaded_parents, readers_of, window_of

Partitions = dict[dg.AssetKey, set[str]]
Groups = Mapping[dg.AssetKey, Group]
Labelled = Mapping[dg.AssetKey, Mapping[str, str]]
"""By asset and partition, a phrase: the run that materializes it, or the partition that it waits for."""


def sources_of(graph: AssetGraph) -> list[dg.AssetKey]:
    """Return the assets by day that have no parents: the raw tables and requests, whose days arrive."""
    return [
        key
        for key in graph.toposorted_asset_keys
        if is_managed(graph, key) and graph.get(key).is_partitioned and not graph.get(key).parent_keys
    ]


def day_names(lake: Lake, key: dg.AssetKey, calendar: Calendar) -> list[str]:
    """Return the periods of an asset that have a folder in the lake, from one listing of names."""
    return calendar.current(lake.names(lake.path("artifacts", *key.path)))


def newest_days(graph: AssetGraph, lake: Lake) -> dict[dg.AssetKey, str]:
    """Return the newest day of each source that has any in the lake."""
    found = {key: _newest_day(lake, key, calendar_in(graph, key)) for key in sources_of(graph)}
    return {key: day for key, day in found.items() if day is not None}


def _newest_day(lake: Lake, key: dg.AssetKey, calendar: Calendar) -> str | None:
    """Return the newest day of a source; of requests, the newest settled one that the log may have."""
    if stage_of(key) != SERVED[0]:
        return max(day_names(lake, key, calendar), default=None)
    days = [it for it in lake.names(lake.path(REQUESTS, key.path[0])) if is_key(it)]
    if not days:
        return None
    # A day in UTC may be the next day in the time zone.
    last = calendar.last_key(date.fromisoformat(max(days)) + timedelta(days=1))
    return min(last, newest_settled(calendar, lake.now()))


def horizon(
    graph: AssetGraph, groups: Groups, newest: Mapping[dg.AssetKey, str], *, over: str, count: int
) -> Partitions:
    """Return the partitions of each asset that are kept up to date: the newest days with data.

    For each asset these are the periods of `count` days up to the newest period that all of its sources have, all later
    periods that any of them has, and those that its readers need, as far back as they look. A source that has reached
    its last declared period does not limit the others.

    Args:
        graph: the assets.
        groups: the groups that are kept up to date.
        newest: by source, the newest period in the lake; absent if there is none.
        over: the newest period that is over.
        count: the number of days, rounded outward to whole periods.
    """
    spans: dict[dg.AssetKey, tuple[str, str]] = {}
    sources: dict[dg.AssetKey, frozenset[dg.AssetKey]] = {}
    declared = {key: keys for key in graph.toposorted_asset_keys if (keys := declared_keys(graph, key))}
    for key in graph.toposorted_asset_keys:
        parents = graph.get(key).parent_keys
        own = frozenset([key] if key in declared and not parents else [])
        sources[key] = own.union(*(sources[it] for it in parents))
        there = {it: newest[it] for it in sources[key] if it in newest}
        if key in groups and key in declared and there:
            calendar = calendar_in(graph, key)
            last = min(declared[key][1], over, max(there.values()))
            waited_for = [it for source, it in there.items() if it < declared[source][1]]
            first = max(declared[key][0], calendar.moved(min([last, *waited_for]), 1 - calendar.periods_in(count)))
            spans |= {key: (first, last)} if first <= last else {}
    for key in reversed(graph.toposorted_asset_keys):
        for parent in loaded_parents(graph, key) if key in spans else ():
            if parent in groups and parent in declared:
                back = 0 if OPTIONAL_LOOK_BACK in graph.get(key).metadata else window_of(graph, key, parent)[0]
                first = max(declared[parent][0], calendar_in(graph, parent).moved(spans[key][0], back))
                before = spans.get(parent, spans[key])
                spans[parent] = (min(before[0], first), before[1])
    calendars = {key: calendar_in(graph, key) for key in spans}
    keys_of = {(span, its): {*its.between(*span)} for key, its in calendars.items() if (span := spans[key])}
    return {
        key: (keys_of[spans[key], calendars[key]] if key in spans else set()) if key in declared else {""}
        for key in groups
    }


@dataclass(frozen=True)
class Scope:
    """Assets in groups that each run materializes together, with the partitions to keep up to date.

    Attributes:
        graph: all assets.
        groups: the assets to keep up to date, each with its group.
        within: their partitions.
    """

    graph: AssetGraph
    groups: Groups
    within: Mapping[dg.AssetKey, set[str]]

    @property
    def calendar(self) -> Calendar:
        """The calendar of the partitions. All assets of a project have the same."""
        return next((calendar_in(self.graph, key) for key in self.groups if self.graph.get(key).is_partitioned), DAILY)

    @classmethod
    def newest(cls, graph: AssetGraph, groups: Groups, lake: Lake, *, over: str, count: int) -> Self:
        """Return the newest days with data in a lake; see `horizon`."""
        return cls(graph, groups, horizon(graph, groups, newest_days(graph, lake), over=over, count=count))

    def readers(self, changed: Mapping[dg.AssetKey, Iterable[str]]) -> Partitions:
        """Return the partitions that read any of the changed ones."""
        found: Partitions = {}
        for key, partitions in changed.items():
            for child in self.graph.get(key).child_keys & self.groups.keys():
                for partition in partitions:
                    found.setdefault(child, set()).update(self._readers(child, key, partition))
        return {key: partitions for key, partitions in found.items() if partitions}

    def with_the_rest_of_their_groups(self, opened: Partitions) -> Partitions:
        """Return partitions with those of the same groups that depend on them, upstream first."""
        found = {key: set(partitions) for key, partitions in opened.items()}
        for key in self.graph.toposorted_asset_keys:
            if key in found:
                for child, partitions in self.readers({key: found[key]}).items():
                    if self.groups[child] == self.groups[key]:
                        found.setdefault(child, set()).update(partitions)
        return {key: found[key] for key in self.graph.toposorted_asset_keys if key in found}

    def waits_on(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        """Return the parents that must be up to date first: an asset's inputs or, for a card, what it shows.

        Predictions come after the champion, but do not wait for a training.
        """
        parents = self.graph.get(key).parent_keys & self.groups.keys()
        return sorted({*loaded_parents(self.graph, key), *parents})

    def waiting_for(self, origins: Labelled, *, groups: bool) -> dict[dg.AssetKey, dict[str, str]]:
        """Return what depends on some partitions, directly or not, each with the phrase of the first of them.

        Args:
            origins: the partitions, with their phrases.
            groups: whether only other groups wait for them. The assets of one group are materialized together.
        """
        found: dict[dg.AssetKey, dict[str, str]] = {}
        for key in self.graph.toposorted_asset_keys if origins else ():
            inherited = found.get(key, {})
            everything = {**origins.get(key, {}), **inherited}
            for child in self.graph.get(key).child_keys & self.groups.keys() if everything else ():
                if key not in self.waits_on(child):
                    continue
                is_together = groups and self.groups.get(key) == self.groups[child]
                for partition, phrase in (inherited if is_together else everything).items():
                    for name in self._readers(child, key, partition):
                        found.setdefault(child, {}).setdefault(name, phrase)
        return found

    def _readers(self, child: dg.AssetKey, key: dg.AssetKey, partition: str) -> set[str]:
        keys = readers_of(self.graph, child, key, partition)
        return self.within[child] if keys is None else self.within[child].intersection(keys)
