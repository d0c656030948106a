"""A feature function: its columns are features with a contract, computed period by period."""

from datetime import timedelta

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.from_pandera import columns_from_pandera
from ml_assets.contracts.table import Column
from ml_assets.lake.resource import LakeResource
from ml_assets.models.plan import ModelPlan
from ml_assets.provenance.code import covered
from ml_assets.stages.features import features
from tests.own_steps import loads
from tests.stages.shop import DAYS, FIRST, context_of, feature_rows, plan_of

LAST = FIRST + timedelta(days=DAYS - 1)


def with_function(name: str, contract: str = "Loads", **given: object) -> ModelPlan:
    own = {"name": f"tests.own_steps.{name}", "contract": f"tests.own_steps.{contract}"}
    return plan_of(
        features={
            "table": "order_features", "key": ["order_id"], "event_time": "ordered_at",
            "prediction_time": "prediction_at", "function": own, **given,
        }
    )  # fmt: skip


def built(plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource) -> pl.DataFrame:
    first, last = rows["day"].min(), rows["day"].max()
    *_, out = features(plan)(context_of(first, last), rows, ml_assets_lake=lake, ml_assets_warehouse=None)
    assert isinstance(out, dg.Output)
    return out.value


def test_its_contract_is_read_from_pandera() -> None:
    assert (
        Column("weight_per_item", pl.Float64(), "Weight of one item.", "feature", unit="kg", minimum=0),
        Column("size", pl.String(), role="feature", is_categorical=True, is_nullable=False,
               accepted_values=("large", "small")),
    ) == columns_from_pandera("tests.own_steps.Loads")  # fmt: skip


def test_its_columns_are_features_beside_those_of_the_table(lake: LakeResource) -> None:
    plan = with_function("loads")

    found = built(plan, feature_rows(), lake)

    assert ["shop", "items", "weight kg", "weight_per_item", "size"] == [it.name for it in plan.features]
    expected = feature_rows().join(loads(feature_rows()), on="order_id", maintain_order="left")
    assert_frame_equal(expected.select(plan.features_columns), found)
    assert "size is one of large, small" in {rule.name for rule in plan.features_contract.rules}


def test_values_do_not_depend_on_the_days_that_are_materialized_together(lake: LakeResource) -> None:
    plan = with_function("loads", exclude=["size"])
    whole = built(plan, feature_rows(), lake)
    day = built(plan, feature_rows().filter(pl.col("day") == LAST), lake)

    assert "size" not in whole.columns
    assert_frame_equal(whole.filter(pl.col("day") == LAST), day)


def test_a_function_that_changes_its_frame_in_place_changes_no_column_of_the_table(lake: LakeResource) -> None:
    found, expected = (built(with_function(it), feature_rows(), lake) for it in ("loads_in_place", "loads"))

    assert_frame_equal(expected, found)


def test_a_day_without_rows_has_its_columns(lake: LakeResource) -> None:
    plan = with_function("loads")
    *_, out = features(plan)(context_of(FIRST), feature_rows().clear(), ml_assets_lake=lake, ml_assets_warehouse=None)

    assert (0, list(plan.features_columns)) == (out.value.height, out.value.columns)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("negative_loads", r"negative_loads break their contract.*than_or_equal_to\(0\): broken in 2000 rows.*by huge"),
        ("nan_loads", "break their contract and are not stored:\n- is_plausible: broken in 2000 rows, .*by NaN"),
        ("text_loads", "column 'weight_per_item' is String; expected Float64.\nCorrect the function, or its contract"),
        ("lazy_loads", r"returned LazyFrame; expected a polars DataFrame .* Call collect\(\) on a lazy frame"),
        ("loads_and_items", "returned 'items' with other values than it got; expected a polars DataFrame"),
        ("half_of_loads", "returned the new columns 'weight_per_item'; its contract tests.own_steps.Loads has"),
        ("ratio_of_row", "feature function tests.own_steps.ratio_of_row failed: ColumnNotFoundError: .*own_steps.py"),
    ],
)  # fmt: skip
def test_a_wrong_result_is_reported(lake: LakeResource, function: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){expected}"):
        built(with_function(function), feature_rows(), lake)


def test_broken_rows_of_the_table_are_reported_as_without_the_function(lake: LakeResource) -> None:
    rows = feature_rows().with_columns(items=pl.lit(-1, pl.Int64))

    with pytest.raises(ContractError, match="rule 'items is at least 0' of table 'order_features' is broken") as raised:
        built(with_function("loads"), rows, lake)

    assert "weight_per_item" not in str(raised.value)


@pytest.mark.parametrize(
    ("function", "contract", "expected"),
    [
        ("load", "Loads", r"tests.own_steps.load: module tests.own_steps has no 'load' \(did you mean 'loads'\?\)"),
        (
            "loads",
            "loads",
            "tests.own_steps.loads is no pandera model; expected a subclass of pandera",
        ),
        ("loads", "Redefined", "Redefined has 'items', which the table 'order_features' has, too. Rename them"),
        ("loads", "Unsuitable", "column 'spent' is Duration.*, which contracts do not support; expected one of Int8"),
    ],
)
def test_what_cannot_be_used_is_reported_when_the_project_loads(function: str, contract: str, expected: str) -> None:
    with pytest.raises(ContractError, match=f"features.function: .*{expected}"):
        with_function(function, contract)


def test_the_function_its_helpers_and_its_contract_belong_to_the_code_version() -> None:
    plan = with_function("negative_loads")

    found = covered(plan.own_functions("features"))

    assert {("tests.own_steps", name) for name in ("negative_loads", "loads", "Loads")} <= found
    assert plan.own_functions("labels") == []
    [with_it] = features(plan).code_versions_by_key.values()
    [without] = features(plan_of()).code_versions_by_key.values()
    assert with_it != without


def test_a_declaration_without_one_is_hashed_as_before() -> None:
    assert "function" not in plan_of().declaration.features.model_dump()
