"""Dagster's partitions by time: their grain and their days."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Final

from ml_assets.contracts.periods import BY_DAY, Grain, last_day_of

if TYPE_CHECKING:
    import dagster as dg

CRON: Final[dict[Grain, str]] = {"day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *", "year": "0 0 1 1 *"}
"""When a period begins. Weeks begin on Monday."""
_BY_CRON: Final = {cron: grain for grain, cron in CRON.items()}


def grain_of(definition: dg.PartitionsDefinition[str] | None) -> Grain:
    """Return the grain of partitions; `day` for those that are not periods of a known grain."""
    import dagster as dg

    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return BY_DAY
    return _BY_CRON.get(definition.cron_schedule, BY_DAY)


def day_of(key: str) -> date:
    """Return the day of a partition key: the first day of its period."""
    return date.fromisoformat(key)


def day_range(context: dg.AssetExecutionContext, grain: Grain) -> tuple[date, date]:
    """Return the first and the last day of a step's partitions."""
    keys = context.partition_keys
    return day_of(keys[0]), last_day_of(day_of(keys[-1]), grain)
