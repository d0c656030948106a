"""Jackknife intervals and comparisons, against plain loops that leave the rows out and count again."""

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_assets.contracts.artifacts.evaluation import Interval, OperatingPoint
from ml_assets.logic.evaluation.jackknife import (
    Clusters,
    confidence_words,
    interval_of,
    leave_one_out,
    lower_bound,
    p_value,
    spread_of_days,
    student_probability,
    student_quantile,
)
from ml_assets.logic.evaluation.metrics import METRICS, Metric, operating_metrics
from tests.logic.gate import auc, compared, jackknife_error

a_law = settings(deadline=None, max_examples=60)
AUC, MAE = METRICS["roc_auc"], METRICS["mae"]
T4, T19 = 2.776445, 2.093024
"""Student's 97.5 % of 4 and 19 degrees of freedom, from tables."""


def interval(metric: Metric, truth: np.ndarray, scores: np.ndarray, clusters: Clusters) -> Interval:
    measure = metric.measure(truth, scores)
    left_out = leave_one_out({"it": measure}, clusters)["it"]
    value = measure(np.ones(len(truth)))
    return interval_of(
        metric, truth, scores, value=value, left_out=left_out, evidence=clusters.evidence(metric, truth, scores)
    )


def unordered(clusters: np.ndarray) -> Clusters:
    """Clusters that are not alike because they are neighbours."""
    return replace(Clusters.of_days(clusters), is_in_order=False)


def noisy_scores(rows: int, seed: int, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    signal = generator.normal(size=rows)
    truth = generator.random(rows) < 1 / (1 + np.exp(-signal))
    return truth.astype(float), 1 / (1 + np.exp(-skill * signal - (1 - skill) * generator.normal(size=rows)))


def rmse(truth: np.ndarray, scores: np.ndarray) -> float:
    return fmean((it - other) ** 2 for it, other in zip(truth, scores, strict=True)) ** 0.5


def test_the_error_of_a_correlation_is_that_of_the_book() -> None:
    """Fifteen law schools, average LSAT and GPA: correlation 0.776, jackknife 0.142 (Efron 1982, tables 2.1, 3.2)."""
    lsat = [576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594]
    gpa = [3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]
    schools = unordered(np.arange(15))

    def correlation(weights: np.ndarray) -> float:
        return float(np.corrcoef(np.repeat([lsat, gpa], weights.astype(int), axis=1))[0, 1])

    found = interval_of(
        METRICS["r2"], np.array(lsat), np.array(gpa), value=correlation(np.ones(15)),
        left_out=leave_one_out({"": correlation}, schools)[""],
        evidence=schools.evidence(METRICS["r2"], lsat, gpa), level=0.5,
    )  # fmt: skip

    assert pytest.approx(0.776, abs=5e-4) == found.value
    assert found.low is not None
    assert pytest.approx(0.142, abs=1e-3) == (found.value - found.low) / 0.692417  # Student's 75 % of 14 degrees


@pytest.mark.parametrize(("name", "counted"), [("roc_auc", auc), ("rmse", rmse)])
def test_the_error_is_that_of_leaving_out_each_day_and_counting_again(
    name: str, counted: Callable[[np.ndarray, np.ndarray], float]
) -> None:
    truth, good = noisy_scores(240, seed=4)
    bad = noisy_scores(240, seed=4, skill=0.3)[1]
    days = np.random.default_rng(1).integers(0, 20, 240)  # of different sizes, and in no order
    sign = 1 if METRICS[name].higher_is_better else -1

    found = compared(METRICS[name], truth, good, bad, unordered(days))

    def lead(rows: np.ndarray) -> float:
        return sign * (counted(truth[rows], good[rows]) - counted(truth[rows], bad[rows]))

    whole = lead(days >= 0)
    error = (19 / 20 * sum((lead(days != day) - whole) ** 2 for day in range(20))) ** 0.5
    assert pytest.approx(whole) == found.difference.value
    assert pytest.approx(error) == found.standard_error
    assert pytest.approx([whole - T19 * error, whole + T19 * error]) == [found.difference.low, found.difference.high]
    assert ("champion", name, 240, 20, "days", 19) == (
        found.against, found.metric, found.rows, found.clusters, found.unit, found.degrees_of_freedom
    )  # fmt: skip


def test_with_fewer_than_five_days_there_is_no_interval_and_the_reason_is_given() -> None:
    truth, scores = noisy_scores(200, seed=1)
    few = Clusters.of_days(np.arange(200) % 4)
    found = compared(AUC, truth, scores, scores[::-1].copy(), few)
    reason = "cannot decide with 4 days that have both classes; at least 5 are needed"

    assert Interval(value=AUC.function(truth, scores), low=None, high=None, reason=reason) == interval(
        AUC, truth, scores, few
    )
    assert (reason, None, None, None) == (
        found.difference.reason, found.standard_error, found.degrees_of_freedom, lower_bound(found)
    )  # fmt: skip


def test_days_may_have_any_order_and_number() -> None:
    days = np.array(["2024-03-02", "2024-03-01", "2024-03-02", "2024-01-09"], dtype="datetime64[D]")
    many = Clusters.of_days(np.arange(1_000)[::-1])

    assert [2, 1, 2, 0] == Clusters.of_days(days).index.tolist()
    assert (200, "blocks of days") == (many.count, many.unit)
    assert [5] * 200 == np.bincount(many.index).tolist()
    assert (np.diff(many.index) <= 0).all()  # neighbours stay together


@given(st.integers(0, 300), st.integers(0, 9))
def test_rows_without_a_day_are_left_out_by_random_folds_of_equal_size(rows: int, seed: int) -> None:
    folds = Clusters.of_rows(rows, seed=seed)

    assert min(rows, 40) == folds.count
    assert {*np.bincount(folds.index, minlength=folds.count)} <= {rows // 40, rows // 40 + 1}
    assert np.array_equal(folds.index, Clusters.of_rows(rows, seed=seed).index)


@a_law
@given(
    st.integers(5, 40).flatmap(lambda rows: hnp.arrays(np.int64, rows, elements=st.integers(0, 12))),
    st.sampled_from(["log_loss", "brier", "accuracy", "calibration_error"]),
)
def test_a_score_does_not_differ_from_itself(grid: np.ndarray, name: str) -> None:
    truth = (np.arange(len(grid)) % 2).astype(float)
    same = compared(METRICS[name], truth, grid / 12, grid / 12, Clusters.of_days(np.arange(len(grid)) % 5))

    assert (0, 0, 0, 0, 0) == (
        same.difference.low, same.difference.value, same.difference.high, same.standard_error, lower_bound(same)
    )  # fmt: skip


@pytest.mark.parametrize("name", ["roc_auc", "log_loss"])
def test_swapping_the_sides_turns_the_difference_around(name: str) -> None:
    truth, good = noisy_scores(500, seed=4)
    bad, days = noisy_scores(500, seed=4, skill=0.3)[1], Clusters.of_days(np.arange(500) % 20)

    forth, back = compared(METRICS[name], truth, good, bad, days), compared(METRICS[name], truth, bad, good, days)

    assert forth.difference.value > 0
    assert [forth.difference.low, forth.standard_error] == pytest.approx(
        [-(back.difference.high or 0), back.standard_error]
    )


def test_an_interval_is_within_the_range_of_the_metric() -> None:
    truth, scores = np.tile([0.0, 1.0], 30), np.tile([0.2, 0.8], 30)
    truth[0] = 1
    found = interval(METRICS["accuracy"], truth, scores, Clusters.of_days(np.repeat(np.arange(6), 10)))

    assert 1.0 == found.high
    assert pytest.approx(59 / 60) == found.value


def test_days_that_may_be_alike_get_a_larger_error() -> None:
    values = np.random.default_rng(4).normal(size=12)
    found = spread_of_days(values)

    assert found.error is not None
    assert pytest.approx(jackknife_error(values.mean(), (values.sum() - values) / 11)) == found.error
    assert found.error > values.std(ddof=1) / 12**0.5
    assert 0 < found.correlation < 1


def test_days_that_take_turns_are_no_surer_than_independent_ones() -> None:
    values = [1.0, 0.0] * 10
    found = spread_of_days(values)

    assert (0.0, pytest.approx(stdev(values) / 20**0.5)) == (found.correlation, found.error)


def test_the_order_of_rows_is_not_the_order_of_days() -> None:
    values = np.random.default_rng(4).normal(size=12)
    order = np.random.default_rng(5).permutation(120)
    rows, days = np.repeat(np.abs(values), 10), np.repeat(np.arange(12), 10)

    in_order = interval(MAE, np.zeros(120), rows, Clusters.of_days(days))
    shuffled = interval(MAE, np.zeros(120), rows[order], Clusters.of_days(days[order]))

    assert [in_order.low, in_order.high] == pytest.approx([shuffled.low, shuffled.high])


def test_days_that_are_very_much_alike_get_the_error_of_a_correlation_of_six_tenths() -> None:
    """The mean of five such days has a variance of 2.96 / 5, and their sample variance is 0.51 on average."""
    values = np.arange(5.0)
    found = spread_of_days(values)
    of_mean = 1 + 2 * (0.8 * 0.6 + 0.6 * 0.36 + 0.4 * 0.216 + 0.2 * 0.1296)

    assert 0.6 == found.correlation
    assert pytest.approx((values.var(ddof=1) / 5 * of_mean / (1 - (of_mean - 1) / 4)) ** 0.5) == found.error


@pytest.mark.parametrize(("days", "correlation"), [(5, 0.0), (8, 0.0), (15, 0.0), (8, 0.25), (15, 0.5), (30, 0.5)])
def test_a_true_difference_of_zero_is_seldom_below_the_bound_and_mostly_in_the_interval(
    days: int, correlation: float
) -> None:
    values = np.random.default_rng(3).normal(size=(2_000, days))
    for day in range(1, days):
        values[:, day] = correlation * values[:, day - 1] + (1 - correlation**2) ** 0.5 * values[:, day]
    two_sided, one_sided = (student_quantile(level, days - 1) for level in (0.975, 0.95))

    found = [(fmean(row), spread_of_days(row).error) for row in values]

    assert sum(abs(mean) < two_sided * (error or 0) for mean, error in found) >= 0.92 * len(found)  # 93 %, less chance
    assert sum(mean > one_sided * (error or 0) for mean, error in found) <= 0.07 * 2_000


def rare_days(days: int, mixed: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The truth of twenty rows a day with positives on some days only, and two models that are equally good."""
    random = np.random.default_rng(seed)
    truth = np.zeros((days, 20))
    truth[random.choice(days, mixed, replace=False), :5] = 1
    scales = np.exp(0.4 * random.normal(size=(2, days, 1)))  # each model reads some days better than others
    one, other = truth + scales * random.normal(size=(2, days, 20))
    return truth.ravel(), one.ravel(), other.ravel()


@pytest.mark.parametrize("metric", [AUC, AUC.inside("day"), METRICS["average_precision"]], ids=lambda it: it.name)
@pytest.mark.parametrize("mixed", [2, 4])
def test_with_both_classes_on_fewer_than_five_days_nothing_is_decided(metric: Metric, mixed: int) -> None:
    truth, one, other = rare_days(30, mixed, seed=1)
    days = np.repeat(np.arange(30), 20)

    found = compared(metric, truth, one, other, Clusters.of_days(days), groups=days)

    reason = f"cannot decide with {mixed} days that have both classes; at least 5 are needed"
    assert (reason, None, None) == (found.difference.reason, found.difference.low, lower_bound(found))
    assert mixed == found.clusters


@pytest.mark.parametrize("metric", [AUC, AUC.inside("day")], ids=lambda it: it.name)
@pytest.mark.parametrize("mixed", [5, 8])
def test_equal_models_seldom_win_where_few_of_the_days_have_both_classes(metric: Metric, mixed: int) -> None:
    days, runs = np.repeat(np.arange(30), 20), 120
    found = [compared(metric, *rare_days(30, mixed, seed), Clusters.of_days(days), groups=days) for seed in range(runs)]

    assert {mixed - 1} == {it.degrees_of_freedom for it in found}
    assert sum((lower_bound(it, 0.975) or 0) > 0 for it in found) <= 0.045 * runs
    assert sum((it.difference.low or 0) <= 0 <= (it.difference.high or 0) for it in found) >= 0.93 * runs


def test_the_class_on_the_fewest_days_counts_even_if_no_day_has_both() -> None:
    days = Clusters.of_days(np.repeat(np.arange(20), 3))
    truth = (days.index < 6).astype(float)

    assert 6 == days.evidence(AUC, truth, truth).count
    assert 6 == days.evidence(AUC, 1 - truth, truth).count
    assert 20 == days.evidence(METRICS["log_loss"], truth, truth).count


def test_an_interval_within_days_is_that_of_the_days_on_which_it_is_defined() -> None:
    days, (truth, one, other) = np.repeat(np.arange(30), 20), rare_days(30, 8, seed=1)
    has_both = np.isin(days, days[truth == 1])

    found = compared(AUC.inside("day"), truth, one, other, Clusters.of_days(days), groups=days)
    alone = compared(
        AUC.inside("day"), truth[has_both], one[has_both], other[has_both], Clusters.of_days(days[has_both]),
        groups=days[has_both],
    )  # fmt: skip

    assert [alone.difference.low, alone.standard_error, alone.degrees_of_freedom] == pytest.approx(
        [found.difference.low, found.standard_error, found.degrees_of_freedom]
    )


@pytest.mark.parametrize(
    ("name", "count"), [("precision", 2), ("recall", 3), ("lift", 3)], ids=["acted on", "positives", "both classes"]
)
def test_metrics_of_the_rows_acted_on_count_the_days_of_the_rows_they_need(name: str, count: int) -> None:
    days, truth, scores = np.arange(6), [1, 1, 1, 0, 0, 0], [0.9, 0.2, 0.2, 0.9, 0.1, 0.1]
    metric = next(it for it in operating_metrics(OperatingPoint(threshold=0.5)) if it.name == name)

    assert count == Clusters.of_days(days).evidence(metric, truth, scores).count


def test_the_calibration_error_of_a_calibrated_model_is_sampling_alone_and_its_interval_reaches_zero() -> None:
    random, metric = np.random.default_rng(2), METRICS["calibration_error"]
    days, added, found = np.arange(800) % 40, [], []
    for _ in range(100):
        scores = random.random(800)
        truth = (random.random(800) < scores).astype(float)
        found.append(interval(metric, truth, scores, Clusters.of_days(days)))
        added.append(metric.bias(truth, scores, days))  # type: ignore[misc]  # not None, or this fails

    assert pytest.approx(fmean(it.value for it in found), rel=0.1) == fmean(added)
    assert 97 <= sum(it.low == 0 < it.value < (it.high or 0) for it in found)


def test_the_bound_and_the_p_value_agree() -> None:
    truth, good = noisy_scores(600, seed=4)
    found = compared(AUC, truth, good, noisy_scores(600, seed=4, skill=0.8)[1], Clusters.of_days(np.arange(600) % 20))
    assert found.standard_error is not None
    assert found.degrees_of_freedom is not None

    bound = lower_bound(found, 0.99)

    assert bound is not None
    t99 = 2.539483  # Student's 99 % of 19 degrees of freedom
    assert pytest.approx(found.difference.value - t99 * found.standard_error) == bound
    assert pytest.approx(0.01) == 1 - p_value(
        found.difference.value - bound, found.standard_error, found.degrees_of_freedom
    )


@pytest.mark.parametrize(
    ("confidence", "words"), [(0.975, "97.5"), (1 - 0.05 / 6, "99.17"), (1 - 0.05 / 32 / 33, "99.995"), (0.99, "99")]
)
def test_no_confidence_below_one_is_written_as_100_percent(confidence: float, words: str) -> None:
    assert f"at {words} % confidence" == confidence_words(confidence)


@pytest.mark.parametrize(("difference", "expected"), [(-0.1, 0.0), (0.0, 1.0), (0.1, 1.0)])
def test_a_difference_without_an_error_is_taken_as_exact(difference: float, expected: float) -> None:
    assert expected == p_value(difference, 0.0, 7)


@pytest.mark.parametrize(
    ("level", "degrees", "expected"),
    [(0.95, 9, 1.8331), (0.95, 29, 1.6991), (0.975, 60, 2.0003), (0.98, 3, 3.4819), (0.98, 41, 2.1212), (0.5, 9, 0.0)],
)
def test_quantiles_and_probabilities_are_those_of_the_tables(level: float, degrees: int, expected: float) -> None:
    assert pytest.approx(expected, abs=5e-5) == student_quantile(level, degrees)
    assert pytest.approx(level, abs=5e-6) == student_probability(expected, degrees)


def test_an_infinite_value_has_probability_zero_or_one() -> None:
    assert (0.0, 1.0) == (student_probability(-math.inf, 7), student_probability(math.inf, 7))
