from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.logic.evaluation.metrics import METRICS
from ml_assets.logic.evaluation.report import Opponent
from ml_assets.logic.evaluation.slices import failing_slices, slice_level
from ml_assets.logic.promotion.gate import GateLimits, judge
from tests.logic.gate import comparison, report, slices
from tests.logic.parcels import evaluation, parcels, scores


def figures(slices: pl.DataFrame, value: str, metric: str = "roc_auc") -> dict[str, Any]:
    return slices.row(by_predicate=(pl.col("value") == value) & (pl.col("metric") == metric), named=True)


def test_every_value_of_a_slice_column_is_shown_with_its_own_figures() -> None:
    test = parcels(1_500, seed=2)
    slices = evaluation(slices=["depot", "is_express"]).slices.filter(pl.col("metric") == "roc_auc")

    assert slices["column"].to_list() == ["depot"] * 3 + ["is_express"] * 2
    assert slices["rows"].sum() == 2 * 1_500
    north = figures(slices, "north")
    members = test.filter(pl.col("depot") == "north")
    assert members.height == north["rows"]
    assert pytest.approx(members["target"].mean()) == north["target_mean"]
    alone = scores(test).filter(test["depot"] == "north")
    assert pytest.approx(METRICS["roc_auc"].function(members["target"], alone["score"])) == north["score"]
    assert north["low"] < north["score"] < north["high"]


def test_a_small_slice_is_shown_with_the_reason_why_it_is_not_judged() -> None:
    west = figures(evaluation(size=600).slices, "west")

    assert (False, f"{west['rows']} rows, fewer than 200") == (west["is_judged"], west["reason"])
    assert (True, None) == (west["score"] is not None, west["low"])


def test_a_slice_with_positives_on_four_days_is_not_judged_and_the_reason_counts_these_days() -> None:
    test = parcels(3_000, seed=2, days=20)
    four = test["day"].unique().sort().head(4)
    test = test.with_columns(pl.col("target") & ((pl.col("depot") != "south") | pl.col("day").is_in(four.implode())))
    champion = Opponent("old", scores(test, skill=0.4))
    for metric in ("roc_auc", "roc_auc within day"):
        slices = evaluation(rows=test, metric=metric, champion=champion).slices
        south, north = (figures(slices, value, metric) for value in ("south", "north"))

        assert "cannot decide with 4 days that have both classes; at least 5 are needed" == south["reason"]
        assert (False, None, None) == (south["is_judged"], south["low"], south["difference_low"])
        assert (19, 20, "days") == (north["degrees_of_freedom"], north["clusters"], north["unit"])


def test_a_slice_of_one_class_is_shown_and_not_judged() -> None:
    test = parcels(1_500, seed=2).with_columns(pl.col("target") & (pl.col("depot") != "south"))
    south = figures(evaluation(rows=test).slices, "south")

    assert (False, None, "0 positives, fewer than 10") == (south["is_judged"], south["score"], south["reason"])


def test_a_slice_without_some_class_is_not_judged_by_a_metric_that_needs_it() -> None:
    test = parcels(1_500, seed=2, task="multiclass").filter((pl.col("depot") != "south") | (pl.col("target") != "late"))
    south = figures(evaluation("multiclass", rows=test, metric="macro_f1").slices, "south", "macro_f1")

    assert not south["is_judged"]
    assert "class number 2 is absent" in south["reason"]


def test_missing_values_are_a_slice_of_their_own() -> None:
    test = parcels(1_500, seed=2).with_columns(
        region=pl.when(pl.col("depot") == "north").then(pl.lit("upper")).otherwise(None)
    )

    assert {"upper", "(missing)"} == set(evaluation(rows=test, slices=["region"]).slices["value"])


def test_a_slice_where_the_champion_is_better_has_a_difference_below_zero() -> None:
    test = parcels(1_500, seed=2)
    north = (test["depot"] == "north").to_numpy()
    worse_in_north = pl.DataFrame({"score": np.where(north, 0.3, scores(test)["score"].to_numpy())})
    slices = evaluation(scores=worse_in_north, champion=Opponent("old", scores(test))).slices
    north, south = (figures(slices, value) for value in ("north", "south"))

    assert north["difference_high"] < 0
    assert (0.0, 0.0) == (south["difference_low"], south["difference_high"])


def test_one_slice_in_twenty_may_look_worse_by_chance() -> None:
    equal = [(f"depot {number}", -0.02, 0.02) for number in range(19)]
    doubtful = ("north", -0.041, -0.001)  # outside zero at 95 %, but not among twenty

    assert failing_slices(slices(doubtful), metric="roc_auc", margin=0.0)["value"].to_list() == ["north"]
    assert failing_slices(slices(doubtful, *equal), metric="roc_auc", margin=0.0).is_empty()


def test_slices_that_surely_lose_are_named_worst_first() -> None:
    found = failing_slices(
        slices(("south", -0.1, -0.05), ("west", -0.01, 0.02), ("north", -0.3, -0.2)), metric="roc_auc", margin=0.0
    )

    assert found["value"].to_list() == ["north", "south"]


@pytest.mark.parametrize(("days", "count"), [(6, 5), (6, 20), (20, 20)])
def test_a_challenger_worse_by_the_margin_everywhere_fails_on_any_slice_in_at_most_five_percent_of_cases(
    days: int, count: int
) -> None:
    random = np.random.default_rng(3)
    trials = 400
    refused = 0
    for _ in range(trials):
        daily = random.normal(-0.01, 0.02, (count, days))
        means, errors = daily.mean(axis=1), daily.std(axis=1, ddof=1) / days**0.5
        frame = slices(*((f"{number}", it, it) for number, it in enumerate(means))).with_columns(
            difference_standard_error=errors, degrees_of_freedom=pl.lit(days - 1)
        )
        refused += not failing_slices(frame, metric="roc_auc", margin=0.01).is_empty()

    assert refused / trials <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5
    assert refused / trials >= 0.02  # it is a test: not everything passes


def test_the_worst_slice_is_tested_at_the_error_rate_divided_by_how_many_there_are() -> None:
    assert [0.05, 0.05, 0.0025] == [slice_level(count) for count in (0, 1, 20)]
    sentence = judge(
        report(champion=comparison(0.01, 0.03)), GateLimits(), slices=slices(*[("a", -0.01, 0.05)] * 20)
    ).reasons[-1]
    assert "by Holm's rule, the worst of 20 at 99.75 % confidence" in sentence
