"""What new features would add to a model."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.lake.store import Lake
from ml_assets.models.plan import ModelPlan
from ml_assets.notebook.candidate import trial_of
from tests.builders import files_of
from tests.stages.shop import feature_rows, label_rows, plan_of


def hints() -> pl.DataFrame:
    """Return a noisy copy of the label, by the features' key."""
    noise = np.random.default_rng(3).random(label_rows().height) < 0.05
    return label_rows().select("order_id", hint=(pl.col("is_returned") ^ pl.Series(noise)).cast(pl.Int64))


def shares(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("order_id", share=pl.col("items") / pl.col("items").sum())


def test_a_frame_that_helps_is_compared_on_the_same_test_rows(shop_lake: Lake, plan: ModelPlan) -> None:
    before = files_of(shop_lake)

    found = trial_of(shop_lake, plan, hints())

    assert (True, ("hint",), None) == (found.helps, found.columns, found.leak_test)
    assert found.comparison.difference.value == found.comparison.challenger - found.comparison.other > 0.01
    assert found.comparison.difference.low is not None
    assert found.comparison.difference.low > 0
    assert {"hint": 1.0} == found.filled
    assert "returns with 'hint': roc_auc 0." in repr(found)
    assert "They help." in repr(found)
    assert before == files_of(shop_lake)


def test_a_column_without_information_changes_nothing(shop_lake: Lake, plan: ModelPlan) -> None:
    found = trial_of(shop_lake, plan, feature_rows().select("order_id", constant=pl.lit(1.0)))

    assert 0 == found.comparison.difference.value
    assert found.helps is None


def test_noise_is_not_shown_to_help_and_rows_without_a_value_are_counted(shop_lake: Lake, plan: ModelPlan) -> None:
    noise = feature_rows().select("order_id", noise=pl.Series(np.random.default_rng(1).normal(size=2000)))

    found = trial_of(shop_lake, plan, noise.filter(pl.col("order_id").str.slice(1).cast(pl.Int64) % 4 > 0))

    assert found.helps is not True
    assert 0.75 == pytest.approx(found.filled["noise"], abs=0.02)


def test_a_function_over_the_rows_of_a_day_that_reads_later_rows_leaks(shop_lake: Lake, plan: ModelPlan) -> None:
    found = trial_of(shop_lake, plan, shares, samples=6)

    [leak] = found.leak_test.leaks
    assert ("share", 6) == (leak.column, found.leak_test.samples)
    assert "it changes if the rows with a later prediction time are removed or replaced" in repr(found)


def test_sql_over_each_row_alone_does_not_leak(shop_lake: Lake, plan: ModelPlan) -> None:
    sql = (
        'select order_id, items * "weight kg" as load, case when items > 5 then shop else null end as big from features'
    )

    found = trial_of(shop_lake, plan, sql, samples=6)

    assert ((), ("load", "big")) == (found.leak_test.leaks, found.columns)
    assert "Leak test: no leak; 6 prediction times on 2 days" in repr(found)


def test_a_function_of_earlier_rows_does_not_leak(shop_lake: Lake, plan: ModelPlan) -> None:
    def so_far(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.sort("prediction_at").select("order_id", so_far=pl.col("items").cum_sum())

    assert () == trial_of(shop_lake, plan, so_far, samples=6).leak_test.leaks


def test_a_tuning_of_another_estimator_than_the_declared_one_is_not_used(shop_lake: Lake) -> None:
    linear = "ml_assets.estimators.linear.Linear"

    found = trial_of(shop_lake, plan_of(training={"estimator": linear, "threads": 1}, tuning={"trials": 3}), hints())

    assert (f"the defaults of {linear}", True) == (found.parameters, found.helps)


def broken(_: pl.DataFrame) -> pl.DataFrame:
    raise KeyError("nothing")


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (lambda rows: rows.lazy(), r"returned LazyFrame; expected a polars DataFrame .* Call collect\(\)"),
        (lambda rows: rows.select("items"), r"returned the key column 'order_id' as missing instead of String"),
        (lambda rows: rows.head(3), r"returned 3 rows with 3 different keys for 40 rows"),
        (lambda rows: rows, "returned no new column, only 'order_id', 'day'"),
        (hints().rename({"hint": "items"}), "column 'items' is in the training set already; rename it"),
        (hints().select("order_id"), "there is no column beside the key"),
        (hints().with_columns(pl.col("hint").cast(pl.Date)), "feature 'hint' is Date; expected a number or Boolean"),
        (pl.concat([hints(), hints()]), r"the key \(order_id\) repeats"),
    ],
)
def test_what_cannot_be_used_is_reported(shop_lake: Lake, plan: ModelPlan, candidate: Any, expected: str) -> None:
    with pytest.raises(ContractError, match=expected):
        trial_of(shop_lake, plan, candidate)


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (broken, r"feature function broken failed: KeyError: 'nothing' \(.*test_candidate.py, line \d+\)"),
        ("select nothing from features", r"the SQL of the new features cannot be evaluated: .*nothing"),
    ],
)
def test_what_fails_is_reported(shop_lake: Lake, plan: ModelPlan, candidate: Any, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        trial_of(shop_lake, plan, candidate)
