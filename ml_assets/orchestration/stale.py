"""Explains what is out of date for a model, in sentences for `ml-assets explain`.

Not here: what is updated automatically (see `ml_assets.orchestration.planner`).
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import dagster as dg

from ml_assets.adapters.dagster import AssetGraph
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.lake.days import in_rows, span_of
from ml_assets.lake.store import Lake
from ml_assets.orchestration.groups import CARD, TRAINING, update_groups, wanted_of
from ml_assets.orchestration.scope import Scope
from ml_assets.orchestration.staleness import Reason, Reasons, loaded_parents, out_of_date, reads_of, with_upstream


@dataclass(frozen=True)
class Stale:
    """Partitions of an asset that are out of date for the same reason.

    Attributes:
        asset: the asset.
        days: its days; none if it has no days.
        reason: a `Reason`.
        why: the reason as a sentence.
        calendar: of the days or periods.
    """

    asset: str
    days: tuple[str, ...]
    reason: str
    why: str
    calendar: Calendar = DAILY

    @property
    def line(self) -> str:
        """The asset, its days and the reason in one line."""
        over = ", ".join(span_of(row) for row in in_rows([*self.days], calendar=self.calendar))
        return f"{self.asset}{f' ({over})' if over else ''}: {self.why}"


def stale_of(
    graph: AssetGraph, lake: Lake, model: str, *, over: str, count: int, calendar: Calendar = DAILY
) -> list[Stale]:
    """Return what is out of date for a model and its tables, upstream first.

    For assets by day, only the newest existing days are checked. What was never materialized is not out of date.
    """
    card, training_set = (dg.AssetKey([model, stage]) for stage in (*CARD, "training_set"))
    groups = update_groups(graph, [model])
    scope = Scope.newest(graph, groups, lake, over=over, count=count)
    partitions = {key: sorted(days) for key, days in scope.within.items()}
    partitions |= {dg.AssetKey([model, stage]): [""] for stage in TRAINING}
    trained = lake.newest(training_set.to_user_string(), [""]).get("")
    as_of = None if trained is None else lake.manifest(trained).parameters.get("as_of")
    up_to = {} if as_of is None else {training_set: calendar.last_key(date.fromisoformat(str(as_of)))}
    late = _without_missing(graph, out_of_date(graph, lake, wanted_of(graph, lake, partitions, up_to=up_to)))
    behind = with_upstream(graph, [training_set, card])
    return [
        it
        for key, found in late.items()
        if key in behind
        for it in _by_reason(graph, key, found, late, model, calendar=calendar)
    ]


def _without_missing(graph: AssetGraph, late: Reasons) -> Reasons:
    """Return what is out of date without what was never materialized and what is so only because of that."""
    found: Reasons = {}
    for key, reasons in late.items():
        own: dict[str, Reason] = {}
        for partition, why in reasons.items():
            if why == "parent":
                parents = [it for it in loaded_parents(graph, key) if it in found]
                is_out_of_date = any(_reads_any(graph, key, it, partition, found[it]) for it in parents)
            else:
                is_out_of_date = why != "missing"
            own |= {partition: why} if is_out_of_date else {}
        found |= {key: own} if own else {}
    return found


def _reads_any(
    graph: AssetGraph, key: dg.AssetKey, parent: dg.AssetKey, partition: str, partitions: Collection[str]
) -> bool:
    """Return whether a partition of an asset reads any of some partitions of a parent."""
    keys = reads_of(graph, key, parent, partition)
    return keys is None or not {*partitions}.isdisjoint(keys)


def _by_reason(
    graph: AssetGraph, key: dg.AssetKey, found: Mapping[str, Reason], late: Reasons, model: str, *, calendar: Calendar
) -> Iterator[Stale]:
    for reason in dict.fromkeys(found.values()):
        days = tuple(sorted(day for day, why in found.items() if why == reason and day))
        yield Stale(key.to_user_string(), days, reason, _why(graph, key, reason, late, model), calendar)


def _why(graph: AssetGraph, key: dg.AssetKey, reason: Reason, late: Reasons, model: str) -> str:
    if reason == "training":
        other = [stage for stage in TRAINING if "code" in late.get(dg.AssetKey([model, stage]), {}).values()]
        who = "the champion" if key.path[-1] == "champion" else "its champion"
        return f"the code that trained or judged {who} has changed{': ' if other else ''}{', '.join(other)}"
    if reason == "parent":
        parents = [it.to_user_string() for it in loaded_parents(graph, key) if it in late]
        return f"its inputs are out of date: {', '.join(parents)}"
    return {
        "code": "its code has changed",
        "parameters": "its parameters have changed",
        "inputs": "its inputs have changed",
    }[reason]
