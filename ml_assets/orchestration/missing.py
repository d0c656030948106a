"""Finds the days that cannot be materialized because raw files are missing, before a run starts.

Not here: what waits in the lake for the sensors (see `ml_assets.orchestration.planner`).
"""

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from ml_assets.adapters.dagster import AssetGraph
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.days import days_by_asset, merge_days
from ml_assets.lake.store import Lake
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.landing.listing import list_files
from ml_assets.orchestration.planner import Lacks
from ml_assets.orchestration.scope import Partitions, Scope
from ml_assets.orchestration.staleness import LakeView, Wanted


def landable(lake: Lake, declared: Declared, keys: Iterable[dg.AssetKey]) -> Partitions:
    """Return the days of raw tables with files by day that were landed or have a file.

    Raises:
        SourceError: a folder cannot be listed.
    """
    requested = {*keys}
    found: Partitions = {}
    for name, table in ((name, table) for raw in declared.raw for name, table in raw.tables.items()):
        key = dg.AssetKey(["raw", name])
        if table.files is not None and key in requested:
            listed = list_files(DayPattern.of(table.files), lake.access, declared.calendar).periods
            found[key] = {*listed, *declared.calendar.current(lake.partitions(key.to_user_string()))}
    return found


def without_missing(
    graph: AssetGraph,
    lake: Lake,
    model: ModelDeclaration,
    wanted: Mapping[dg.AssetKey, Sequence[str]],
    there: Mapping[dg.AssetKey, set[str]],
) -> dict[dg.AssetKey, list[str]]:
    """Return the wanted partitions without days that cannot be materialized, if the declarations allow gaps.

    Args:
        graph: the assets.
        lake: contains earlier artifacts.
        model: the model.
        wanted: partitions of features and labels, and of everything upstream.
        there: the existing days of raw tables; absent for those that are landed from one file.

    Raises:
        DataError: days are missing, and their readers do not allow gaps.
    """
    absent = {key: {*wanted[key]} - days for key, days in there.items() if key in wanted}
    if not any(absent.values()):
        return {key: [*keys] for key, keys in wanted.items()}
    lacks = Lacks(Scope(graph, {}, {}), LakeView(graph, lake, Wanted(wanted, {})))
    for key in (it for it in graph.toposorted_asset_keys if it in wanted):
        lacks.add(key, wanted[key], absent=absent.get(key, ()))
    own = merge_days(
        [{name: lacks.of(key)} for key in wanted if (name := key.to_user_string()).startswith(f"{model.name}/")]
    )
    if lacks.looks_back or not model.allow_gaps:
        missing = {key.to_user_string(): sorted(days) for key, days in absent.items()}
        names = {key.to_user_string() for key in lacks.looks_back}
        declared = ", ".join([*sorted(names - own.keys()), f"model {model.name}"])
        calendar = model.days.calendar
        raise DataError(
            f"{days_by_asset(missing, calendar)} has no file, so {days_by_asset(own, calendar)} cannot "
            "be materialized. Wait for the "
            "files, or start the declared days after them. If they never arrive, land files without rows instead, or "
            f"declare `allow_gaps: true` for {declared}."
        )
    return {key: sorted({*keys} - lacks.of(key)) for key, keys in wanted.items()}
