"""Which assets one run materializes together, and what their manifests must contain.

Not here: when they are materialized (see `ml_assets.orchestration.flow` and `ml_assets.automation.updates`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg
from pydantic import JsonValue

from ml_assets.adapters.dagster import AssetGraph
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.partitions import calendar_of
from ml_assets.lake.promotion_log import HEAD, PromotionLog
from ml_assets.lake.quarantine import QUARANTINE, releases
from ml_assets.lake.request_files import files_by_period, newest_settled
from ml_assets.lake.store import Lake
from ml_assets.models.plan import TABLES, quarantine_key
from ml_assets.names import MANAGED
from ml_assets.orchestration.staleness import Wanted

INPUTS = ("features", "labels")
TRAINING = ("training_set", "importances", "tuning", "model", "evaluation", "champion")
MONITORING = ("predictions", "drift", "performance")
SHADOW = ("shadow_predictions", "shadow")
"""The stages of models that declare `challengers: {shadow: true}`."""
SERVED = ("requests", "served_drift", "served_performance")
"""The stages of models that declare `serving`."""
CARD = ("card",)
COMBINED: Final = "combined_predictions"
"""The predictions of the model of all rows together with the models of single values."""

_BESIDE: Final[Mapping[str, Sequence[str]]] = {
    "card": ("drift", "performance", "shadow"),
    "shadow": ("shadow_predictions", "performance", "served_performance"),
}
"""The stages that a stage reads itself, all periods of them, although they only determine its order in the graph."""


@dataclass(frozen=True)
class Group:
    """Assets that one run materializes together.

    Attributes:
        name: the name of the group.
        model: the model of the assets; '' for tables.
        is_exact: whether only out-of-date days may be materialized. A day that was predicted once is not predicted
            again by a later champion.
    """

    name: str
    model: str = ""
    is_exact: bool = False

    def __str__(self) -> str:
        """Return the name of the group for messages."""
        return f"{self.name} of {self.model}" if self.model else self.name


def is_managed(graph: AssetGraph, key: dg.AssetKey) -> bool:
    """Return whether an asset is one of the engine's; a host project's may be in the same graph."""
    return MANAGED[0] in graph.get(key).tags


def stage_of(key: dg.AssetKey) -> str:
    """Return the stage of a model's asset; '' for a raw table or a table."""
    return "" if key.path[0] in {TABLES, "raw"} else key.path[-1]


def update_groups(graph: AssetGraph, models: Iterable[str]) -> dict[dg.AssetKey, Group]:
    """Return the assets that are updated automatically, each with its group: all but sources and training."""
    tables = Group(TABLES)
    found = {
        key: tables
        for key in graph.toposorted_asset_keys
        if key.path[0] == TABLES and not key.path[-1].endswith(QUARANTINE) and is_managed(graph, key)
    }
    for model in models:
        for stages, group in (
            (INPUTS, Group("features and labels", model)),
            (MONITORING, Group("monitoring", model, is_exact=True)),
            (SERVED, Group("served", model, is_exact=True)),
            (SHADOW, Group("shadow", model, is_exact=True)),
            (CARD, Group("card", model)),
            ((COMBINED,), Group("combined predictions", model, is_exact=True)),
        ):
            found |= {key: group for stage in stages if graph.has(key := dg.AssetKey([model, stage]))}
    return found


def with_quarantines(graph: AssetGraph, keys: Iterable[dg.AssetKey]) -> list[dg.AssetKey]:
    """Return assets with their quarantines, which the same step materializes."""
    return [it for key in keys for it in (key, quarantine_key(key)) if graph.has(it)]


def serving(lake: Lake, model: str) -> dict[str, JsonValue]:
    """Return what a manifest records about the current champion."""
    last = PromotionLog(lake, model).last()
    return {"champion": last.champion if last else None}


def newest_entry(lake: Lake, model: str) -> dict[str, JsonValue]:
    """Return what a manifest records about the promotion log, which decides what challengers there are."""
    head = PromotionLog(lake, model).inspect(manifests=0).head
    return {HEAD: None if head is None else head.model_dump()}


def serving_each(lake: Lake, models: Iterable[str]) -> dict[str, JsonValue]:
    """Return what a manifest of combined predictions records about the current champions."""
    found = {model: serving(lake, model)["champion"] for model in models}
    return {"champions": {model: champion for model, champion in found.items() if champion is not None}}


def on_card(lake: Lake, model: str) -> dict[str, JsonValue]:
    """Return what a card's manifest must record about the version that it shows."""
    last = PromotionLog(lake, model).last()
    return {"champion": None, "shown": None} if last is None else {
        "champion": last.champion, "shown": last.champion or last.challenger,
    }  # fmt: skip


def wanted_of(
    graph: AssetGraph,
    lake: Lake,
    partitions: Mapping[dg.AssetKey, Sequence[str]],
    parameters: Mapping[dg.AssetKey, Mapping[str, JsonValue]] | None = None,
    *,
    up_to: Mapping[dg.AssetKey, str] | None = None,
    keeps_champion: bool = False,
) -> Wanted:
    """Return what should be up to date, with what must be recorded in manifests: on cards, and about released rows."""
    logged = files_of_requests(graph, lake, partitions)
    cards = {key: on_card(lake, key.path[0]) for key in partitions if stage_of(key) in CARD}
    shadows = {key: newest_entry(lake, key.path[0]) for key in partitions if stage_of(key) == SHADOW[-1]}
    beside = artifacts_beside(graph, lake, partitions)
    return Wanted(
        _without_requests(graph, lake, partitions, logged), {**(parameters or {}), **cards, **shadows}, up_to or {},
        beside, logged, keeps_champion,
    )  # fmt: skip


def files_of_requests(
    graph: AssetGraph, lake: Lake, partitions: Mapping[dg.AssetKey, Sequence[str]]
) -> dict[dg.AssetKey, Mapping[str, Sequence[str]]]:
    """Return the files of the request log for periods of requests that are settled, without those that have none."""
    found: dict[dg.AssetKey, Mapping[str, Sequence[str]]] = {}
    for key in (it for it in partitions if stage_of(it) == SERVED[0]):
        calendar = calendar_of(graph.get(key).partitions_def)
        newest = newest_settled(calendar, lake.now())
        found[key] = files_by_period(lake, key.path[0], calendar, [it for it in partitions[key] if it <= newest])
    return found


def _without_requests(
    graph: AssetGraph,
    lake: Lake,
    partitions: Mapping[dg.AssetKey, Sequence[str]],
    logged: Mapping[dg.AssetKey, Mapping[str, Sequence[str]]],
) -> Mapping[dg.AssetKey, Sequence[str]]:
    """Return the partitions without periods of requests that have no files, and what would be measured on them."""
    found = dict(partitions)
    for key in (it for it in partitions if stage_of(it) in SERVED):
        requests = dg.AssetKey([*key.path[:-1], SERVED[0]])
        there = {*logged.get(requests, ())}
        if key != requests:
            calendar = calendar_of(graph.get(key).partitions_def)
            there.update(calendar.current(lake.names(lake.path("artifacts", *requests.path))))
        found[key] = [it for it in partitions[key] if it in there]
    return found


def artifacts_beside(
    graph: AssetGraph, lake: Lake, partitions: Mapping[dg.AssetKey, Sequence[str]]
) -> dict[dg.AssetKey, Mapping[str, Sequence[ArtifactRef]]]:
    """Return further required inputs: rows that a person released, and what a card shows or challengers need."""
    found: dict[dg.AssetKey, Mapping[str, Sequence[ArtifactRef]]] = {}
    for key in partitions:
        if graph.has(quarantine_key(key)):
            found[key] = releases(lake, key.to_user_string())
        elif beside := _BESIDE.get(stage_of(key)):
            read = graph.get(key).parent_keys
            shown = [it for stage in beside if (it := dg.AssetKey([*key.path[:-1], stage])) in read]
            found[key] = {"": [ref for it in shown for ref in _current(graph, lake, it)]}
    return found


def _current(graph: AssetGraph, lake: Lake, key: dg.AssetKey) -> list[ArtifactRef]:
    """Return the current artifacts of an asset, without periods of a former grain."""
    refs, node = lake.newest(key.to_user_string()), graph.get(key)
    if not node.is_partitioned:
        return [*refs.values()]
    return [refs[partition] for partition in calendar_of(node.partitions_def).current(refs)]
