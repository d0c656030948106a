"""Assets of a small shop, and runs of them over a lake on disk.

Not here: expectations, which are in the tests.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from tests.builders import dated, frame
from tests.event_logs import ephemeral_instance

BY_DAY: dict[str, Any] = {
    "partitions_def": dg.DailyPartitionsDefinition(start_date="2013-01-01", end_date="2013-01-06"),
    "backfill_policy": dg.BackfillPolicy.single_run(),
}


@dg.asset(code_version="n1")
def numbers() -> pl.DataFrame:
    return frame(1, 2, 3)


@dg.asset(**BY_DAY)
def daily(context: dg.AssetExecutionContext) -> pl.DataFrame:
    return dated(*(date.fromisoformat(key) for key in context.partition_keys))


@dg.asset(**BY_DAY)
def copied(daily: pl.DataFrame) -> pl.DataFrame:
    return daily


def shop(lake: LakeResource, *assets: dg.AssetsDefinition) -> dg.Definitions:
    """Return a code location of a few assets."""
    return dg.Definitions(
        [*assets],
        resources={"io_manager": LakeIOManager(lake=lake), "ml_assets_lake": lake},
        executor=dg.in_process_executor,
    )


def materialize(
    lake: Lake | Path,
    *assets: dg.AssetsDefinition,
    only: list[str] | None = None,
    over: tuple[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialize assets over a lake, in a run over a range of days if one is given."""
    days = {} if over is None else {"dagster/asset_partition_range_start": over[0],
                                    "dagster/asset_partition_range_end": over[1]}  # fmt: skip
    ops = {name: {"config": dict(values)} for name, values in (config or {}).items()}
    resource = LakeResource(url=lake.url if isinstance(lake, Lake) else str(lake))
    with ephemeral_instance() as instance:
        return (
            shop(resource, *assets)
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                asset_selection=None if only is None else [dg.AssetKey(name) for name in only],
                tags={**days, **(tags or {})},
                run_config={"ops": ops, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        )
