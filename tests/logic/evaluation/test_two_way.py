"""Tests of windows of time with a declared group: rows are alike within days and within groups."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ml_assets.contracts.artifacts.evaluation import EvaluationSummary
from ml_assets.contracts.artifacts.training import HashSplit
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.jackknife import MAXIMUM_CLUSTERS, Clusters, leave_one_out, spread
from ml_assets.logic.evaluation.report import Opponent
from ml_assets.logic.promotion.gate import GateLimits, judge
from tests.logic.gate import auc
from tests.logic.parcels import evaluation, parcels, scores, summary

DAYS, CUSTOMERS = 10, 15


def of_customers(rows: int, *, seed: int, first: int = 0) -> pl.DataFrame:
    """Parcels of ten days and some customers, from the customer `first` on."""
    drawn = np.random.default_rng(seed).integers(first, first + CUSTOMERS, rows)
    return parcels(rows, seed=seed, days=DAYS).with_columns(customer=pl.Series(drawn))


TEST = of_customers(900, seed=2, first=5)  # customers 5 to 19
TRAIN = of_customers(3_000, seed=1)  # customers 0 to 14


def by_time(group: str | None, test: pl.DataFrame = TEST, **changes: Any) -> EvaluationSummary:
    known = {
        "rows": test, "train": TRAIN, "scores": scores(test), "champion": Opponent("old", scores(test, skill=0.6)),
        "slices": [], "summary": summary().model_copy(update={"group": group}),
    }  # fmt: skip
    return evaluation(**known | changes).summary


def test_the_variance_is_that_of_days_plus_that_of_groups_minus_that_of_rows_of_one_group_in_one_day() -> None:
    ours, theirs = scores(TEST)["score"], scores(TEST, skill=0.6)["score"]
    cells = TEST.select(cell=pl.format("{} {}", "day", "customer"))["cell"]
    assert cells.n_unique() <= MAXIMUM_CLUSTERS  # more would be pooled

    def figure(among: pl.Series) -> float:
        truth = TEST["target"].filter(among)
        return auc(truth, ours.filter(among)) - auc(truth, theirs.filter(among))

    def variance(unit: pl.Series) -> float:
        whole, names = figure(unit.is_not_null()), unit.unique(maintain_order=True)
        return (len(names) - 1) / len(names) * sum((figure(unit != it) - whole) ** 2 for it in names)

    alone, both = by_time(None).against_champion, by_time("customer").against_champion

    assert alone is not None
    assert both is not None
    assert alone.standard_error is not None
    days = alone.standard_error**2  # with the correlation of neighbouring days that is allowed for
    expected = max(days + variance(TEST["customer"]) - variance(cells), days, variance(TEST["customer"]))
    assert pytest.approx(expected**0.5) == both.standard_error
    assert (DAYS, "days", "15 customer groups") == (both.clusters, both.unit, both.crossed)
    assert (DAYS - 1, alone.correlation) == (both.degrees_of_freedom, both.correlation)
    reach = stats.t.ppf(0.975, DAYS - 1) * expected**0.5
    assert pytest.approx(both.difference.value - reach) == both.difference.low


def test_the_error_is_at_least_the_larger_one_of_a_single_way() -> None:
    rows = np.arange(100)  # each is a day and a group of its own, so the cells have all variance of both
    values = np.random.default_rng(1).normal(size=100)
    days, groups = Clusters.of_days(rows), Clusters.of_groups(rows, column="customer")
    both = days.crossed_with(groups)

    def error(clusters: Clusters) -> float:
        left_out = leave_one_out({"mean": lambda it: float(it @ values / it.sum())}, clusters)["mean"]
        return spread(float(values.mean()), left_out, clusters.everything).error or 0.0

    assert pytest.approx(max(error(days), error(groups))) == error(both)
    assert max(error(days), error(groups)) > 0


def covered(seed: int, *, of_day: float, of_group: float) -> list[bool]:
    """Return whether the interval of a mean contains the true one: for days, for groups, and for both ways.

    Rows have an effect of their day, an effect of their group, and noise, each with a mean of 0.
    """
    draw = np.random.default_rng(seed)
    day, group = draw.integers(0, 28, 600), draw.integers(0, 40, 600)
    values = of_day * draw.normal(size=28)[day] + of_group * draw.normal(size=40)[group] + draw.normal(size=600)
    days, groups = Clusters.of_days(day), Clusters.of_groups(group, column="customer")
    found = []
    for clusters in (days, groups, days.crossed_with(groups)):
        left_out = leave_one_out({"mean": lambda it: float(it @ values / it.sum())}, clusters)["mean"]
        interval = spread(float(values.mean()), left_out, clusters.everything).interval(0.0)
        assert interval.high is not None
        found.append(abs(values.mean()) <= interval.high)
    return found


@pytest.mark.parametrize(("of_day", "of_group"), [(0.0, 1.0), (1.0, 0.0), (0.5, 1.0)])
def test_intervals_cover_the_true_mean_if_rows_of_a_day_or_of_a_group_are_alike(of_day: float, of_group: float) -> None:
    runs = 100
    days, groups, both = np.sum([covered(it, of_day=of_day, of_group=of_group) for it in range(runs)], axis=0)

    assert both >= stats.binom.ppf(0.01, runs, 0.95)
    if not of_day:
        assert days < 0.75 * runs  # what leaving out days alone would claim
    if not of_group:
        assert groups < 0.75 * runs


def test_rows_of_groups_that_were_seen_in_training_are_counted_and_measured_apart() -> None:
    found = by_time("customer").known_groups

    seen = (TEST["customer"] < CUSTOMERS).to_numpy()
    assert found is not None
    assert pytest.approx(seen.mean()) == found.share
    assert (10, 5) == (found.seen.groups, found.unseen.groups)
    for part, among in ((found.seen, seen), (found.unseen, ~seen)):
        assert part.metric is not None
        expected = auc(TEST["target"].filter(among), scores(TEST)["score"].filter(among))
        assert (among.sum(), pytest.approx(expected)) == (part.rows, part.metric.value)
        assert part.metric.low is not None
        assert part.metric.low < expected
    assert "66.3% of the test rows have a customer that was seen in training (10 of 15 groups)" == found.words


def test_groups_of_too_few_rows_are_not_judged() -> None:
    found = by_time("customer", min_slice_rows=400).known_groups

    assert found is not None
    assert found.seen.metric is not None
    assert "not judged (303 rows, fewer than 400)" == found.unseen.words


def test_without_a_row_of_an_unseen_group_there_is_nothing_to_judge() -> None:
    found = by_time("customer", train=of_customers(3_000, seed=1, first=5)).known_groups

    assert found is not None
    assert (1.0, 0, None) == (found.share, found.unseen.rows, found.unseen.metric)


def test_a_slice_of_a_single_group_is_judged_by_its_days() -> None:
    found = evaluation(
        rows=TEST, train=TRAIN, scores=scores(TEST), slices=["customer", "depot"], min_slice_rows=40,
        summary=summary().model_copy(update={"group": "customer"}),
    ).slices.filter(pl.col("metric") == "roc_auc", pl.col("is_judged"))  # fmt: skip

    units = dict(found.select("column", "unit").unique().iter_rows())
    assert {"customer": "days", "depot": "days"} == units


def test_a_window_of_a_single_group_is_judged_by_its_days_and_says_so() -> None:
    one = TEST.with_columns(customer=7)
    found, days = by_time("customer", one), by_time(None, one)

    assert days.metrics == found.metrics
    assert ("", "one day at a time") == (found.resampled_by, found.left_out)


def test_a_window_of_few_groups_cannot_be_decided_and_the_gate_says_so() -> None:
    test = TEST.with_columns(customer=pl.col("customer") % 3)
    found = by_time("customer", test, champion=None)

    rules = {rule.name: rule.sentence for rule in judge(found, GateLimits(min_rows=50)).rules}
    assert "Measured on 900 rows, resampled by day and customer, at least the 50 required." == rules["rows"]
    assert (
        "Cannot be compared with the baseline 'constant': cannot decide with 3 customer groups that have both "
        "classes; at least 5 are needed. Use a longer test_days, or a later as-of day."
    ) == rules["baseline constant"]


def test_train_rows_without_the_column_of_the_group_are_refused() -> None:
    with pytest.raises(DataError, match="the train rows lack customer, which target, slices, baselines, features or"):
        by_time("customer", train=TRAIN.drop("customer"))


def test_groups_of_a_split_by_group_are_left_out_without_days() -> None:
    split = HashSplit(by="group", columns=("customer",), validation_share=0.2, test_share=0.2)
    found = evaluation(rows=TEST, scores=scores(TEST), summary=summary().model_copy(update={"split": split})).summary

    assert {("customer groups", "")} == {(it.unit, it.crossed) for it in found.against_baselines}
    assert found.known_groups is None
