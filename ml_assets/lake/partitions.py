"""Dagster's partitions by time: their calendar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ml_assets.contracts.periods import DAILY, Calendar, Grain

if TYPE_CHECKING:
    import dagster as dg

CRON: Final[dict[Grain, str]] = {
    "hour": "0 * * * *",
    "day": "0 0 * * *",
    "week": "0 0 * * 1",
    "month": "0 0 1 * *",
    "year": "0 0 1 1 *",
}
"""When a period begins. Weeks begin on Monday."""
_BY_CRON: Final = {cron: grain for grain, cron in CRON.items()}


def calendar_of(definition: dg.PartitionsDefinition[str] | None) -> Calendar:
    """Return the calendar of partitions; days for those that are not periods of a known grain.

    Hours are in UTC, so their calendar does not know which days they belong to.
    """
    import dagster as dg

    if not isinstance(definition, dg.TimeWindowPartitionsDefinition) or definition.cron_schedule not in _BY_CRON:
        return DAILY
    return Calendar(_BY_CRON[definition.cron_schedule], definition.timezone)


def key_range(context: dg.AssetExecutionContext) -> tuple[str, str]:
    """Return the first and the last partition of a step."""
    keys = context.partition_keys
    return keys[0], keys[-1]
