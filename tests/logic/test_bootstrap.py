import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_assets.contracts.errors import DataError
from ml_assets.logic.bootstrap import (
    bootstrap_interval,
    interval_of,
    lower_bound,
    paired_bootstrap,
    resample,
    student_quantile,
)
from ml_assets.logic.delong import delong
from ml_assets.logic.metrics import METRICS

a_law = settings(deadline=None, max_examples=60)


@st.composite
def binary_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """At least one row of each class; scores on a coarse grid, so that ties are common."""
    rows = draw(st.integers(2, 40))
    truth = np.array([True, False, *draw(st.lists(st.booleans(), min_size=rows - 2, max_size=rows - 2))])
    grid = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 12)))
    return truth, grid / 12


def noisy_scores(rows: int, seed: int, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    signal = generator.normal(size=rows)
    truth = generator.random(rows) < 1 / (1 + np.exp(-signal))
    return truth, 1 / (1 + np.exp(-skill * signal - (1 - skill) * generator.normal(size=rows)))


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "log_loss", "brier", "calibration_error"])
def test_an_interval_holds_its_value_and_is_repeatable(name: str) -> None:
    truth, scores = noisy_scores(600, seed=1)

    first = bootstrap_interval(METRICS[name], truth, scores, seed=7, replicates=200)

    assert first.low < first.value < first.high
    assert first == bootstrap_interval(METRICS[name], truth, scores, seed=7, replicates=200)
    assert first != bootstrap_interval(METRICS[name], truth, scores, seed=8, replicates=200)
    assert METRICS[name].function(truth, scores) == first.value


def test_the_interval_of_the_calibration_error_is_moved_back_by_its_bias() -> None:
    interval = interval_of(METRICS["calibration_error"], 0.02, np.linspace(0.03, 0.05, 1_001))

    assert pytest.approx((0.0105, 0.0295)) == (interval.low, interval.high)
    assert interval_of(METRICS["calibration_error"], 0.002, np.linspace(0.0, 0.02, 1_001)).low == 0


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    errors = np.random.default_rng(3).exponential(size=2_000)
    interval = bootstrap_interval(METRICS["mae"], np.zeros(2_000), errors, seed=1, replicates=1_000)

    assert pytest.approx(2 * 1.96 * errors.std() / 2_000**0.5, rel=0.1) == interval.high - interval.low


def test_rows_that_vary_by_day_get_a_wider_interval_when_days_are_drawn() -> None:
    generator = np.random.default_rng(5)
    days = np.repeat(np.arange(40), 50)
    errors = np.abs(generator.normal(size=40))[days] + np.abs(generator.normal(size=2_000))

    by_row = bootstrap_interval(METRICS["mae"], np.zeros(2_000), errors, seed=1)
    by_day = bootstrap_interval(METRICS["mae"], np.zeros(2_000), errors, seed=1, groups=days)

    assert by_day.high - by_day.low > 2 * (by_row.high - by_row.low)


def test_with_fewer_than_ten_groups_rows_are_drawn() -> None:
    truth, scores = noisy_scores(300, seed=2)
    few = np.arange(300) % 9

    by_few = bootstrap_interval(METRICS["brier"], truth, scores, seed=1, groups=few, replicates=100)

    assert bootstrap_interval(METRICS["brier"], truth, scores, seed=1, replicates=100) == by_few


def test_groups_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="one group a row"):
        bootstrap_interval(METRICS["brier"], [1, 0], [0.9, 0.8], seed=1, groups=[1])


def test_a_metric_that_few_resamples_define_has_no_interval() -> None:
    truth = np.zeros(50)
    truth[0] = 1
    with pytest.raises(DataError, match="a class has too few rows"):
        bootstrap_interval(METRICS["roc_auc"], truth, np.linspace(0, 1, 50), seed=1)


def test_an_undefined_resample_is_marked_and_left_out() -> None:
    truth, scores = np.array([1, 1, 1, 0, 0, 0]), np.array([0.9, 0.2, 0.8, 0.3, 0.1, 0.4])
    measure = METRICS["roc_auc"].prepare(truth, scores)
    values = resample({"auc": measure}, rows=6, groups=None, replicates=400, seed=1)["auc"]

    assert 0 < np.isnan(values).sum() < 40
    assert 0 <= interval_of(METRICS["roc_auc"], measure(np.ones(6)), values).low <= 1


@a_law
@given(binary_rows(), st.sampled_from(["log_loss", "brier", "accuracy", "calibration_error"]))
def test_a_score_does_not_differ_from_itself(rows: tuple[np.ndarray, np.ndarray], name: str) -> None:
    truth, scores = rows
    same = paired_bootstrap(METRICS[name], truth, scores, scores.copy(), against="itself", seed=1, replicates=20)

    assert (same.difference.low, same.difference.value, same.difference.high) == (0, 0, 0)


@pytest.mark.parametrize("name", ["roc_auc", "log_loss"])
def test_swapping_the_sides_turns_the_difference_around(name: str) -> None:
    truth, good = noisy_scores(500, seed=4)
    bad = noisy_scores(500, seed=4, skill=0.3)[1]

    forth = paired_bootstrap(METRICS[name], truth, good, bad, against="bad", seed=1, replicates=200)
    back = paired_bootstrap(METRICS[name], truth, bad, good, against="good", seed=1, replicates=200)

    assert forth.difference.value > 0
    assert pytest.approx(forth.difference.low) == -back.difference.high
    assert ("bad", name, 500) == (forth.against, forth.metric, forth.rows)


def test_pairing_makes_the_interval_of_a_difference_narrow() -> None:
    truth, scores = noisy_scores(1_000, seed=6)
    nearly = np.clip(scores + np.random.default_rng(1).normal(scale=0.02, size=1_000), 0, 1)

    paired = paired_bootstrap(METRICS["roc_auc"], truth, scores, nearly, against="nearly", seed=1, replicates=200)
    alone = bootstrap_interval(METRICS["roc_auc"], truth, scores, seed=1, replicates=200)

    assert (paired.difference.high - paired.difference.low) * 4 < alone.high - alone.low


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    for trial in range(60):
        interval = bootstrap_interval(METRICS["roc_auc"], *noisy_scores(250, seed=100 + trial), seed=1, replicates=150)
        covered += interval.low <= 0.7393 <= interval.high  # of two million rows of this score

    assert 51 <= covered <= 60


# ---------------------------------------------------------------- the one-sided bound


@pytest.mark.parametrize(
    ("level", "degrees", "expected"), [(0.95, 9, 1.8331), (0.95, 29, 1.6991), (0.975, 60, 2.0003), (0.5, 9, 0.0)]
)
def test_students_quantiles_are_those_of_the_tables(level: float, degrees: int, expected: float) -> None:
    assert pytest.approx(expected, abs=5e-5) == student_quantile(level, degrees)


@given(st.floats(0.0005, 0.9995))
def test_students_quantiles_of_one_two_and_four_degrees_are_those_that_have_a_closed_form(level: float) -> None:
    a = 4 * level * (1 - level)
    q = math.cos(math.acos(math.sqrt(a)) / 3) / math.sqrt(a)
    four = math.copysign(2 * math.sqrt(max(q - 1, 0.0)), level - 0.5)

    assert math.tan(math.pi * (level - 0.5)) == pytest.approx(student_quantile(level, 1), rel=1e-6, abs=1e-6)
    assert 2 * (level - 0.5) * math.sqrt(2 / a) == pytest.approx(student_quantile(level, 2), rel=1e-6, abs=1e-6)
    assert four == pytest.approx(student_quantile(level, 4), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(3, 3.481909), (5, 2.756509), (6, 2.612242), (7, 2.516752), (8, 2.448985), (41, 2.12117)]
)
def test_students_quantiles_of_the_watch_are_exact_for_the_few_days_that_it_looks_at(
    degrees: int, expected: float
) -> None:
    assert pytest.approx(expected, abs=1e-6) == student_quantile(0.98, degrees)


@given(st.floats(0.5, 0.9995), st.integers(1, 400))
def test_students_quantiles_fall_with_the_degrees_and_mirror_at_the_middle(level: float, degrees: int) -> None:
    found = student_quantile(level, degrees)

    assert student_quantile(level, degrees + 1) <= found + 1e-7 * found
    assert -found == pytest.approx(student_quantile(1 - level, degrees), rel=1e-6, abs=1e-9)


def test_the_bound_is_a_percentile_that_lies_further_out_the_fewer_units_are_drawn() -> None:
    drawn = np.random.default_rng(1).normal(size=20_000)

    assert pytest.approx(-1.645, abs=0.04) == lower_bound(drawn, units=100_000)
    assert pytest.approx(-1.833 * (10 / 9) ** 0.5, abs=0.05) == lower_bound(drawn, units=10)


def test_a_comparison_has_the_bound_of_its_days() -> None:
    truth, good = noisy_scores(600, seed=4)
    bad = noisy_scores(600, seed=4, skill=0.3)[1]
    days = np.arange(600) // 20

    def bound(groups: np.ndarray | None) -> float:
        found = paired_bootstrap(
            METRICS["roc_auc"], truth, good, bad, against="bad", seed=1, groups=groups, replicates=400
        )
        assert found.bound is not None
        assert found.difference.low < found.bound < found.difference.value
        return found.bound

    assert bound(days) != bound(None)


def test_a_true_difference_of_zero_lies_below_the_bound_in_about_one_of_twenty_trials() -> None:
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        days = random.normal(size=12)
        drawn = days[random.integers(0, 12, (300, 12))].mean(axis=1)
        wrong += lower_bound(drawn, units=12) > 0

    assert 8 <= wrong <= 34  # 20 of 400, and three standard errors for chance


# ---------------------------------------------------------------- DeLong's test


def pairs(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """One for each positive ranked above each negative, a half for a tie."""
    positives, negatives = scores[truth == 1][:, None], scores[truth == 0][None, :]
    ranked: np.ndarray = (positives > negatives) + (positives == negatives) / 2
    return ranked


@a_law
@given(st.integers(2, 9), st.integers(2, 9), st.randoms(use_true_random=False))
def test_delongs_figures_are_those_of_all_pairs(positives: int, negatives: int, random: Random) -> None:
    truth = np.array([1.0] * positives + [0.0] * negatives)
    one, other = (np.array([random.randint(0, 6) / 6 for _ in truth]) for _ in range(2))
    difference = pairs(truth, one) - pairs(truth, other)
    by_positive, by_negative = difference.mean(axis=1), difference.mean(axis=0)
    error = (by_positive.var(ddof=1) / positives + by_negative.var(ddof=1) / negatives) ** 0.5

    found = delong(truth, one, other)

    assert pytest.approx(difference.mean(), abs=1e-12) == found.difference
    assert pytest.approx(error, abs=1e-9) == found.error
    assert pytest.approx(METRICS["roc_auc"].function(truth, one) - METRICS["roc_auc"].function(truth, other)) == (
        found.difference
    )


def test_delongs_p_value_is_small_for_a_better_challenger_and_half_for_an_equal_one() -> None:
    truth, good = noisy_scores(2_000, seed=4)
    bad = noisy_scores(2_000, seed=4, skill=0.3)[1]
    actual = truth.astype(float)

    assert delong(actual, good, bad).p_value < 1e-6
    assert pytest.approx(1.0) == delong(actual, good, bad).p_value + delong(actual, bad, good).p_value
    assert (0.0, 0.0, 1.0) == tuple(delong(actual, good, good).model_dump().values())


def test_delongs_error_is_the_bootstraps_where_rows_are_independent() -> None:
    truth, good = noisy_scores(2_000, seed=5)
    bad = noisy_scores(2_000, seed=5, skill=0.5)[1]
    interval = paired_bootstrap(METRICS["roc_auc"], truth, good, bad, against="bad", seed=1).difference

    assert pytest.approx((interval.high - interval.low) / 3.92, rel=0.15) == (
        delong(truth.astype(float), good, bad).error
    )


def test_a_class_of_one_row_has_no_delong() -> None:
    with pytest.raises(DataError, match="got 1 positives and 3 negatives; expected two of each"):
        delong(np.array([1.0, 0, 0, 0]), np.arange(4.0), np.arange(4.0))
