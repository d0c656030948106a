"""The cost in the manifests of a step's artifacts: shared by its days, and never that of another step."""

import time
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl

from ml_assets.lake.manifest import Cost, PodResources
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from tests.builders import dated
from tests.lake.materialized import BY_DAY, materialize, numbers


def cost_of(lake: Lake, asset: str, partition: str | None = None) -> Cost:
    cost = lake.manifest(lake.find(asset, partition)).cost
    assert cost is not None
    return cost


def test_the_costs_of_the_days_of_a_step_add_up_to_the_cost_of_the_step(tmp_path: Path) -> None:
    @dg.asset(**BY_DAY)
    def slow(context: dg.AssetExecutionContext, ml_assets_lake: LakeResource) -> pl.DataFrame:
        ml_assets_lake.ledger()
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        return dated(*(date.fromisoformat(key) for key in context.partition_keys))

    assert materialize(tmp_path, slow, over=("2013-01-01", "2013-01-04")).success

    lake = Lake(str(tmp_path))
    costs = [cost_of(lake, "slow", f"2013-01-0{day}") for day in range(1, 5)]
    assert [costs[0]] * 4 == costs
    assert (4, PodResources()) == (costs[0].parts, costs[0].requested)
    assert 0.2 <= sum(it.cpu_seconds or 0.0 for it in costs) < 2.0
    assert sum(it.seconds for it in costs) >= 0.2


def test_the_cost_of_a_failed_attempt_is_in_no_other_step(tmp_path: Path) -> None:
    @dg.asset
    def fails(ml_assets_lake: LakeResource) -> pl.DataFrame:
        ml_assets_lake.ledger()
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
        raise ValueError("it fails")

    @dg.asset(deps=[fails])
    def after_it() -> None: ...

    @dg.asset
    def z_reads(numbers: pl.DataFrame) -> pl.DataFrame:
        return numbers

    materialize(tmp_path, numbers)
    result = materialize(tmp_path, numbers, fails, after_it, z_reads, only=["fails", "after_it", "z_reads"])

    order = [event.step_key for event in result.all_events if event.event_type_value == "STEP_START"]
    assert ["fails", "z_reads"] == order
    assert (cost_of(Lake(str(tmp_path)), "z_reads").cpu_seconds or 0.0) < 0.3
