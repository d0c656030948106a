"""The grain of an artifact's partition, as its manifest names it. Light to import.

Not here: the grain of Dagster's partitions (see `ml_assets.lake.partitions`).
"""

from collections.abc import Mapping
from typing import Final, get_args

from pydantic import JsonValue

from ml_assets.contracts.periods import BY_DAY, Calendar, Grain

_GRAIN: Final = "grain"
"""The parameter in a manifest that names the grain of its partition; by day if absent."""


def grain_parameter(grain: Grain) -> dict[str, JsonValue]:
    """Return the parameter of manifests that names the grain of their partitions.

    The first day of a month is also the key of a day and of a week, so that an artifact of another grain has the same
    name. It counts as out of date.
    """
    return {} if grain == BY_DAY else {_GRAIN: grain}


def is_of_grain(parameters: Mapping[str, JsonValue], grain: Grain) -> bool:
    """Return whether a manifest with these parameters is of a partition of a grain."""
    return grain_in(parameters) == grain


def grain_in(parameters: Mapping[str, JsonValue]) -> Grain:
    """Return the grain of the partition of a manifest with these parameters."""
    return next((grain for grain in get_args(Grain) if grain == parameters.get(_GRAIN)), BY_DAY)


def calendar_in_manifest(parameters: Mapping[str, JsonValue]) -> Calendar:
    """Return the calendar of the partition of a manifest with these parameters, in UTC."""
    return Calendar(grain_in(parameters))
