"""Finds the newest day for which a model has predictions, or its raw tables have data."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

import dagster as dg

from ml_assets.adapters.dagster import AssetGraph
from ml_assets.contracts.periods import BY_DAY
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.store import Lake
from ml_assets.orchestration.groups import INPUTS
from ml_assets.orchestration.missing import landable
from ml_assets.orchestration.staleness import with_upstream
from ml_assets.stages.raw_source import RawSource


def newest_predicted_day(lake: Lake, model: ModelDeclaration) -> date | None:
    """Return the last day that a model has predicted; None if there is none."""
    calendar = model.days.calendar
    keys = lake.partitions(f"{model.name}/predictions")
    return max((calendar.last_day(key) for key in keys if calendar.has_form(key)), default=None)


def newest_day_of_data(
    graph: AssetGraph, lake: Lake, declared: Declared, model: ModelDeclaration, contracts: Mapping[str, TableContract]
) -> date | None:
    """Return the newest day for which the raw tables of a model have data; None if nothing limits it.

    A table with files by day must have the file or have landed it. For tables with one file for all days, the newest
    day with rows in any of them counts, because a day without rows may be correct.

    Raises:
        SourceError: a source cannot be listed or read.
    """
    needed = with_upstream(graph, (dg.AssetKey([model.name, stage]) for stage in INPUTS))
    days, calendar = model.days, model.days.calendar
    newest = calendar.last_key(days.newest(datetime.now(tz=UTC)))
    there = landable(lake, declared, needed).values()
    listed = [calendar.newest_day(max(keys)) if keys else days.first for keys in there]
    whole = {
        dg.AssetKey(["raw", name]): RawSource(name, table, contracts[f"raw/{name}"], model.days)
        for raw in declared.raw
        for name, table in raw.tables.items()
        if table.file is not None and table.partition_by is not None and dg.AssetKey(["raw", name]) in needed
    }
    landed = [ref for key in whole for ref in lake.newest(key.to_user_string(), [newest]).values()]
    # Of a longer period only the file says which of its days have rows.
    is_newest_landed = days.grain == BY_DAY and any(lake.manifest(ref).rows for ref in landed)
    if whole and not is_newest_landed:
        read = [source.newest_day(lake.access) for source in whole.values()]
        listed.append(max([day for day in read if day], default=days.first))
    return min(listed) if listed else None
