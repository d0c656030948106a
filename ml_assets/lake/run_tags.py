"""The tags of a run that name its range of days.

Not here: the tags that name its cause and its model (see `ml_assets.names`).
"""

from collections.abc import Mapping, Sequence

from ml_assets.adapters.dagster import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)


def range_tags(days: Sequence[str]) -> dict[str, str]:
    """Return the tags of a run over a range of days, from the first to the last; empty if there are no days."""
    return {ASSET_PARTITION_RANGE_START_TAG: days[0], ASSET_PARTITION_RANGE_END_TAG: days[-1]} if days else {}


def range_of(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the first and the last partition of a run; None if it has none."""
    if PARTITION_NAME_TAG in tags:
        return tags[PARTITION_NAME_TAG], tags[PARTITION_NAME_TAG]
    if ASSET_PARTITION_RANGE_START_TAG in tags:
        return tags[ASSET_PARTITION_RANGE_START_TAG], tags[ASSET_PARTITION_RANGE_END_TAG]
    return None
