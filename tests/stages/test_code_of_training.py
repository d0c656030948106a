"""Other code of training makes all that uses its champion stale: in the lake and in Dagster, until a run ends."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.assembly import model_assets
from ml_assets.dagster_storage.event_log import BatchingSqliteEventLogStorage
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.orchestration.groups import (
    CARD,
    INPUTS,
    MONITORING,
    TRAINING,
    artifacts_beside,
    on_card,
    serving,
)
from ml_assets.orchestration.staleness import Wanted, first_to_make, out_of_date
from tests.adapters.dagster import CachingStaleStatusResolver, LoadingContextForTest, StaleStatus
from tests.builders import days, put
from tests.dagster_storage.test_event_log import instance_with
from tests.edited import PART_INVERTED, edited
from tests.stages.shop import DAYS, FIRST, feature_rows, label_rows, plan_of

PREDICTED = ("2024-02-17", "2024-02-18")
NEW_DAY = "2024-02-19"
BEHIND = {"champion", *MONITORING, *CARD}
CODE_OF = {"training_set", "importances", "tuning", "model", "evaluation"}


@dataclass(frozen=True)
class Shop:
    """A lake and an instance, and the code that is there now."""

    lake: Lake
    instance: dg.DagsterInstance
    defs: dg.Definitions

    @classmethod
    def of(cls, lake: Lake, instance: dg.DagsterInstance, **changes: object) -> "Shop":
        plan = plan_of(**{"leak_test": {"samples": 0, "acknowledged": ["items"]}, **changes})
        own = LakeResource(url=lake.url)
        inputs = [
            dg.AssetSpec(plan.asset(stage), partitions_def=plan.partitions).with_io_manager_key("ml_assets_io_manager")
            for stage in INPUTS
        ]
        stages = [it for it in model_assets(plan) if it.key.path[-1] not in INPUTS]
        resources = {"ml_assets_lake": own, "ml_assets_io_manager": LakeIOManager(lake=own)}
        return cls(lake, instance, dg.Definitions([*inputs, *stages], resources=resources))

    @property
    def graph(self) -> Any:
        return self.defs.resolve_asset_graph()

    def land(self) -> None:
        """Put features and labels of all days into the lake."""
        for stage, rows in zip(INPUTS, (feature_rows(), label_rows()), strict=True):
            for day in days(FIRST, DAYS):
                put(self.lake, rows.filter(pl.col("day") == day), asset=f"returns/{stage}", partition=str(day))

    def stale(self, stages: Sequence[str], over: Sequence[str] = PREDICTED, **wanted: Any) -> dict[str, dict[str, str]]:
        keys = [dg.AssetKey(["returns", stage]) for stage in stages]
        partitions = {key: [*over] if self.graph.get(key).is_partitioned else [""] for key in keys}
        card, predictions = dg.AssetKey(["returns", "card"]), dg.AssetKey(["returns", "predictions"])
        parameters = {card: on_card(self.lake, "returns"), predictions: serving(self.lake, "returns")}
        beside = artifacts_beside(self.graph, self.lake, partitions)
        found = out_of_date(self.graph, self.lake, Wanted(partitions, parameters, beside=beside, **wanted))
        return {key.path[-1]: dict(its) for key, its in found.items()}

    def make(self, stages: Sequence[str], over: Sequence[str] = PREDICTED) -> None:
        keys = [dg.AssetKey(["returns", stage]) for stage in stages]
        by_day = [key for key in keys if self.graph.get(key).is_partitioned]
        job = self.defs.resolve_implicit_global_asset_job_def()
        for chosen in (part for part in ([it for it in keys if it not in by_day], by_day) if part):
            tags = {"dagster/asset_partition_range_start": over[0], "dagster/asset_partition_range_end": over[-1]}
            assert job.execute_in_process(
                instance=self.instance, asset_selection=chosen, tags=tags if chosen is by_day else {}
            ).success

    def run(self) -> list[list[str]]:
        """Make what is out of date, group by group as `ml-assets run` does, and return the stages of each run."""
        made = []
        for group in (TRAINING, MONITORING, CARD):
            while found := self.stale(group):
                first = first_to_make({dg.AssetKey(["returns", stage]): its for stage, its in found.items()})  # type: ignore[misc,arg-type] # reasons
                made.append([key.path[-1] for key in first])
                assert len(made) < 9, f"it never ends: {made}"
                self.make(made[-1])
        return made

    def stale_in_dagster(self, day: str = PREDICTED[0]) -> set[str]:
        resolver = CachingStaleStatusResolver(self.instance, self.graph, LoadingContextForTest(self.instance))
        status = {
            stage: resolver.get_status(key, day if self.graph.get(key).is_partitioned else None)
            for stage in (*TRAINING, *MONITORING, *CARD)
            for key in [dg.AssetKey(["returns", stage])]
        }
        return {stage for stage, its in status.items() if its is StaleStatus.STALE}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Shop]]:
    """A shop whose whole flow ran once, and the same with other declarations."""
    folder: Path = tmp_path_factory.mktemp("shop")
    with instance_with(BatchingSqliteEventLogStorage, folder / "home") as instance:
        lake = Lake(str(folder / "lake"))
        shop = Shop.of(lake, instance)
        shop.land()
        shop.run()
        yield lambda **changes: Shop.of(lake, instance, **changes)


def test_with_unchanged_code_nothing_is_stale(made: Callable[..., Shop]) -> None:
    assert {} == made().stale((*TRAINING, *MONITORING, *CARD))
    assert set() == made().stale_in_dagster()


def test_with_training_set_part_inverted_the_nine_assets_and_the_card_are_stale(made: Callable[..., Shop]) -> None:
    with edited(**PART_INVERTED):
        shop = made()

    found = shop.stale((*TRAINING, *MONITORING, *CARD))
    assert {*TRAINING, *MONITORING, *CARD} == {*found} == shop.stale_in_dagster()
    assert {stage: {"": "code"} for stage in CODE_OF} == {stage: found[stage] for stage in CODE_OF}
    assert {"training"} == {why for stage in BEHIND for why in found[stage].values()}
    assert {} == shop.stale((*MONITORING, *CARD), keeps_champion=True), "the updates sensor makes none of it again"


def test_a_new_day_predicted_by_the_champion_of_other_code_is_stale_until_a_run_ends(made: Callable[..., Shop]) -> None:
    with edited(**PART_INVERTED):
        shop = made()
    shop.make(MONITORING, [NEW_DAY])

    assert {*MONITORING} == {*shop.stale(MONITORING, [NEW_DAY])}
    assert {*BEHIND} <= shop.stale_in_dagster(NEW_DAY)
    assert {} == shop.stale(MONITORING, [NEW_DAY], keeps_champion=True)

    before = shop.lake.newest("returns/predictions")
    assert [*MONITORING] in shop.run()

    assert {} == shop.stale((*TRAINING, *MONITORING, *CARD))
    assert set() == shop.stale_in_dagster()
    assert before == shop.lake.newest("returns/predictions"), "the same champion predicts the same"


def test_after_changed_code_has_trained_a_rejected_challenger_nothing_is_stale(made: Callable[..., Shop]) -> None:
    [(module, (old, _))] = PART_INVERTED.items()
    with edited(**{module: (old, old.replace("==", ">"))}):
        shop = made(gate={"min_rows": 10**6}, seed=7)

    before = serving(shop.lake, "returns")
    shop.run()

    last = PromotionLog(shop.lake, "returns").last()
    assert last is not None
    assert ("reject", before) == (last.action, serving(shop.lake, "returns"))
    assert {} == shop.stale((*TRAINING, *MONITORING, *CARD))
    assert set() == shop.stale_in_dagster()
    assert [] == shop.run()
