"""The grain of Dagster's partitions by time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ml_assets.contracts.periods import BY_DAY, Grain

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
