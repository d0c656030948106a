"""The champion without the project and without Dagster."""

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.models.plan import ModelPlan
from ml_assets.notebook.champion import load_champion
from ml_assets.stages.predictions import predictions
from tests.builders import promotion
from tests.stages.shop import DAYS, FIRST, context_of, feature_rows

LAST = FIRST + timedelta(days=DAYS - 1)


def test_its_scores_are_those_of_the_batch_predictions(shop_lake: Lake, plan: ModelPlan) -> None:
    rows = feature_rows().filter(pl.col("day") == LAST)
    *_, batch = predictions(plan)(context_of(LAST), rows, ml_assets_lake=LakeResource(url=shop_lake.url))

    champion = load_champion("returns", lake=shop_lake)

    assert_frame_equal(batch.value[str(LAST)].select("score"), champion.predict(rows), check_exact=True)
    assert {champion.version} == set(batch.value[str(LAST)]["model_version"])


def test_one_row_without_the_key_is_enough(shop_lake: Lake) -> None:
    champion = load_champion("returns", lake=shop_lake)
    row = feature_rows().head(1)

    assert_frame_equal(champion.predict(row), champion.predict(row.select(champion.contract.names)), check_exact=True)


def test_every_broken_rule_of_the_rows_is_reported_at_once(shop_lake: Lake) -> None:
    champion = load_champion("returns", lake=shop_lake)
    rows = feature_rows().head(2).with_columns(items=pl.lit(-1, pl.Int64)).drop("weight kg")

    with pytest.raises(ContractError) as raised:
        champion.predict(rows)

    for expected in (
        "column 'weight kg' of table 'order_features' is missing; the contract requires Float64",
        "rule 'items is at least 0' of table 'order_features' is broken in 2 of 2 rows",
    ):
        assert expected in str(raised.value)


def test_nothing_is_converted(shop_lake: Lake) -> None:
    rows = feature_rows().head(2).with_columns(pl.col("items").cast(pl.Float64))

    with pytest.raises(ContractError, match=r"column 'items' of table 'order_features' is Float64; .* requires Int64"):
        load_champion("returns", lake=shop_lake).predict(rows)


@pytest.mark.parametrize(("table", "is_found"), [("[tool.ml-assets]", True), ("[project]", False)])
def test_within_a_project_the_module_of_its_estimator_can_be_imported(
    shop_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, *, is_found: bool
) -> None:
    (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
    (tmp_path / "module_of_the_project.py").write_text("", encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr("ml_assets.project._built", None)
    monkeypatch.setattr("sys.path", [*sys.path])

    load_champion("returns", lake=shop_lake)

    assert is_found == (importlib.util.find_spec("module_of_the_project") is not None)


def test_a_model_without_a_champion_is_reported(empty_lake: Lake) -> None:
    with pytest.raises(DataError, match=r"model 'returns' has no champion .* ml-assets run returns"):
        load_champion("returns", lake=empty_lake)

    PromotionLog(empty_lake, "returns").append(promotion(1, champion=None, model="returns"), number=1)
    with pytest.raises(DataError, match="the gate rejected the challenger, see its card"):
        load_champion("returns", lake=empty_lake)
