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
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.quarantine import QUARANTINE, releases
from ml_assets.lake.store import Lake
from ml_assets.models.plan import TABLES, quarantine_key
from ml_assets.names import MANAGED
from ml_assets.orchestration.staleness import Wanted

INPUTS = ("features", "labels")
TRAINING = ("training_set", "importances", "tuning", "model", "evaluation", "champion")
MONITORING = ("predictions", "drift", "performance")
CARD = ("card",)
COMBINED: Final = "combined_predictions"
"""The predictions of the model of all rows together with the models of single values."""


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
            (CARD, Group("card", model)),
        ):
            found |= {dg.AssetKey([model, stage]): group for stage in stages}
        if graph.has(combined := dg.AssetKey([model, COMBINED])):
            found[combined] = Group("combined predictions", model, is_exact=True)
    return found


def with_quarantines(graph: AssetGraph, keys: Iterable[dg.AssetKey]) -> list[dg.AssetKey]:
    """Return assets with their quarantines, which the same step materializes."""
    return [it for key in keys for it in (key, quarantine_key(key)) if graph.has(it)]


def serving(lake: Lake, model: str) -> dict[str, JsonValue]:
    """Return what a manifest records about the current champion."""
    last = PromotionLog(lake, model).last()
    return {"champion": last.champion if last else None}


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
    cards = {key: on_card(lake, key.path[0]) for key in partitions if stage_of(key) in CARD}
    beside = artifacts_beside(graph, lake, partitions)
    return Wanted(partitions, {**(parameters or {}), **cards}, up_to or {}, beside, keeps_champion)


def artifacts_beside(
    graph: AssetGraph, lake: Lake, partitions: Mapping[dg.AssetKey, Sequence[str]]
) -> dict[dg.AssetKey, Mapping[str, Sequence[ArtifactRef]]]:
    """Return further required inputs: rows that a person released, and the artifacts that a card shows."""
    found: dict[dg.AssetKey, Mapping[str, Sequence[ArtifactRef]]] = {}
    for key in partitions:
        if graph.has(quarantine_key(key)):
            found[key] = releases(lake, key.to_user_string())
        elif stage_of(key) in CARD:
            shown = [dg.AssetKey([*key.path[:-1], stage]) for stage in ("drift", "performance")]
            found[key] = {
                "": [
                    ref
                    for asset in shown
                    for partition, ref in lake.newest(asset.to_user_string()).items()
                    if calendar_of(graph.get(asset).partitions_def).has_form(partition)
                ]
            }
    return found
