"""The grain of Dagster's partitions by time, and of the artifacts of a partition."""

from collections.abc import Mapping
from typing import Final

import dagster as dg
from pydantic import JsonValue

from ml_assets.contracts.periods import BY_DAY, Grain

CRON: Final[dict[Grain, str]] = {"day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *", "year": "0 0 1 1 *"}
"""When a period begins. Weeks begin on Monday."""
_GRAIN: Final = "grain"
"""The parameter in a manifest that names the grain of its partition; by day if absent."""
_BY_CRON: Final = {cron: grain for grain, cron in CRON.items()}


def grain_of(definition: dg.PartitionsDefinition[str] | None) -> Grain:
    """Return the grain of partitions; `day` for those that are not periods of a known grain."""
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return BY_DAY
    return _BY_CRON.get(definition.cron_schedule, BY_DAY)


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
    return next((grain for grain in CRON if grain == parameters.get(_GRAIN)), BY_DAY)
