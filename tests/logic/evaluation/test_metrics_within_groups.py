"""Metrics within groups, against plain Python that shares no code with the project."""

import datetime as dt
from statistics import fmean

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.evaluation import GroupCount
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.measuring import daily_loss
from ml_assets.logic.evaluation.metrics import METRICS, expected_metric, find_metric, groups_of
from ml_assets.logic.evaluation.report import Opponent
from tests.logic.gate import auc, jackknife_error
from tests.logic.parcels import evaluation, parcels, scores

AUC = METRICS["roc_auc"]
WITHIN_DAY = find_metric("roc_auc within day", "binary")


def by_day(rows: pl.DataFrame, given: pl.Series) -> list[float]:
    """The ROC AUC of each day that has both classes."""
    days = rows.select("day", "target").with_columns(score=given).partition_by("day")
    return [auc(it["target"], it["score"]) for it in days if it["target"].n_unique() == 2]


def test_it_is_the_unweighted_mean_over_groups_of_the_metric_inside_each() -> None:
    truth = [1, 0, 1, 0, 0, 0, 1, 1]
    given = [0.9, 0.8, 0.1, 0.2, 0.05, 0.05, 0.7, 0.6]
    groups = ["a", "a", "b", "b", "b", "b", "c", "c"]

    # a: 1 of 1 pair; b: 2 of 3 pairs; c has no negative and is left out. Over all rows, 12 of 16 pairs.
    assert pytest.approx((1 + 2 / 3) / 2) == WITHIN_DAY.function(truth, given, groups=groups)
    assert pytest.approx(12 / 16) == AUC.function(truth, given)


def test_a_model_that_only_distinguishes_days_does_not_rank_within_a_day() -> None:
    days = np.repeat(np.arange(20), 50)
    truth = np.random.default_rng(1).random(1_000) < days / 20

    assert 0.5 == WITHIN_DAY.function(truth, days / 20, groups=days)
    assert AUC.function(truth, days / 20) > 0.75


def test_a_weight_by_day_counts_its_value_so_often() -> None:
    rows = parcels(600, seed=5, days=12)
    truth, given = rows["target"].to_list(), scores(rows)["score"]
    days = rows["day"].rank("dense").to_numpy()
    counts = np.random.default_rng(2).integers(0, 3, 12)

    measured = WITHIN_DAY.measure(truth, given, days)(counts[days - 1].astype(float))

    alone = by_day(rows, given)
    assert pytest.approx(np.average(alone, weights=counts)) == measured


def test_where_rows_of_a_group_weigh_differently_it_is_measured_again() -> None:
    truth, given, groups = [1, 0, 0, 1, 0], [0.6, 0.7, 0.1, 0.9, 0.2], [1, 1, 1, 2, 2]
    weights = np.array([1.0, 2.0, 0.0, 1.0, 1.0])

    # Group 1: one positive below two copies of a negative, 0; a weight of 1 a row on average. Group 2: 1.
    assert pytest.approx((1 * 0.0 + 1 * 1.0) / 2) == WITHIN_DAY.measure(truth, given, groups)(weights)


def test_a_metric_within_groups_requires_groups_and_one_with_both_classes() -> None:
    with pytest.raises(DataError, match="'roc_auc within day' got no groups; expected column 'day'"):
        WITHIN_DAY.function([0, 1], [0.1, 0.2])
    with pytest.raises(DataError, match="'roc_auc within day' is not defined"):
        WITHIN_DAY.function([0, 1], [0.1, 0.2], groups=[1, 2])
    with pytest.raises(DataError, match=r"needs column 'day'; the rows have score\."):
        groups_of(WITHIN_DAY, pl.DataFrame({"score": [0.1]}))
    with pytest.raises(DataError, match="metric 'r2 within day' is not one of task 'binary'"):
        find_metric("r2 within day", "binary")


def test_the_evaluation_shows_both_and_judges_by_the_one_within_days() -> None:
    one_class = pl.DataFrame({"day": [dt.date(2013, 3, 1)] * 5, "target": [True] * 5})
    rows = parcels(1_500, seed=2)
    rows = pl.concat([rows, rows.head(5).with_columns(one_class["day"], one_class["target"])])
    given = scores(rows)["score"]

    found = evaluation(rows=rows, scores=scores(rows), metric="roc_auc within day")
    report = found.summary

    assert pytest.approx(fmean(by_day(rows, given))) == report.metrics["roc_auc within day"].value
    assert pytest.approx(auc(rows["target"], given)) == report.metrics["roc_auc"].value
    assert GroupCount(column="day", measured=20, undefined=1) == report.groups
    assert {"roc_auc within day"} == {each.metric for each in report.against_baselines}
    assert 0.5 == report.baselines[0].metrics["roc_auc within day"]
    north = rows["depot"] == "north"
    expected = fmean(by_day(rows.filter(north), given.filter(north)))
    judged = found.slices.filter(pl.col("value") == "north", pl.col("metric") == "roc_auc within day")
    assert pytest.approx(expected) == judged["score"].item()
    assert judged["low"].item() < expected < judged["high"].item()


def test_champion_and_challenger_are_compared_within_the_same_days() -> None:
    rows = parcels(1_500, seed=2)
    better, worse = scores(rows), scores(rows, skill=0.3)

    compared = evaluation(
        rows=rows, scores=better, champion=Opponent("old", worse), metric="roc_auc within day"
    ).summary.against_champion

    assert compared is not None
    differences = np.array(by_day(rows, better["score"])) - np.array(by_day(rows, worse["score"]))
    assert pytest.approx(differences.mean()) == compared.difference.value
    error = jackknife_error(differences.mean(), [(differences.sum() - it) / 19 for it in differences])
    reach = 2.093024 * error  # Student's 97.5 % of 19 degrees of freedom
    low, high = differences.mean() - reach, differences.mean() + reach
    assert pytest.approx((low, high)) == (compared.difference.low, compared.difference.high)
    assert pytest.approx(error) == compared.standard_error
    assert (19, 20, "days") == (compared.degrees_of_freedom, compared.clusters, compared.unit)


def test_expectation_and_loss_of_a_day_within_groups_are_those_of_its_rows() -> None:
    rows = parcels(1_000, seed=4, days=10)
    truth, given = rows["target"].cast(pl.Float64).to_numpy(), scores(rows)["score"].to_numpy()
    days, number = rows["day"].to_numpy(), rows["day"].rank("dense").to_numpy()

    overall = daily_loss(truth, given, days, metric=AUC, promised=0.7)
    within = daily_loss(truth, given, days, metric=WITHIN_DAY, promised=0.7, groups=number)

    assert overall == within
    each = [expected_metric(AUC, given[number == day]) for day in range(1, 11)]
    assert pytest.approx(np.mean([it for it in each if it])) == expected_metric(WITHIN_DAY, given, number)


def test_rows_without_any_group_of_both_classes_do_not_define_it() -> None:
    measure = WITHIN_DAY.measure([0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], [1, 1, 2, 2])

    assert 1.0 == measure(np.array([1.0, 1, 0, 0]))
    with pytest.raises(DataError, match="is not defined"):
        measure(np.array([0.0, 0, 1, 1]))
