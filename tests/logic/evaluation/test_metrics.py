from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import level_of
from ml_assets.logic.evaluation.formulas import equal_mass_bins
from ml_assets.logic.evaluation.metrics import METRICS, OPERATING, Metric, find_metric, metric_among, metrics_of
from tests.logic.gate import auc

# Known values below come from scikit-learn 1.9.1 on the same arrays; ties included.
TRUTH = np.array([1, 0, 1, 1, 0, 0, 1, 0, 0, 1])
SCORES = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.5, 0.3, 0.3, 0.1])
VALUES = np.array([3.0, -0.5, 2.0, 7.0, 4.0])
ESTIMATES = np.array([2.5, 0.0, 2.0, 8.0, 5.5])
CLASSES = np.array([0, 1, 2, 2, 1, 0])
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1], [0.5, 0.25, 0.25]]
)

a_law = settings(deadline=None, max_examples=60)


@st.composite
def binary_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """At least one row of each class; scores on a coarse grid, so that ties are common."""
    rows = draw(st.integers(2, 40))
    truth = np.array([True, False, *draw(st.lists(st.booleans(), min_size=rows - 2, max_size=rows - 2))])
    grid = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 12)))
    return truth, grid / 12


BINARY, REGRESSION, MULTICLASS = (TRUTH, SCORES), (VALUES, ESTIMATES), (CLASSES, PROBABILITIES)


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        ("roc_auc", BINARY, 0.64), ("average_precision", BINARY, 0.6976190476190476),
        ("log_loss", BINARY, 0.7613136997210426), ("brier", BINARY, 0.263), ("accuracy", BINARY, 0.6),
        ("rmse", REGRESSION, 0.8660254037844386), ("mae", REGRESSION, 0.7), ("r2", REGRESSION, 0.8758278145695364),
        ("multi_log_loss", MULTICLASS, 0.7290097441707841), ("macro_f1", MULTICLASS, 0.6555555555555556),
        ("accuracy", MULTICLASS, 4 / 6),
    ],
)  # fmt: skip
def test_metrics_have_scikit_learns_values(name: str, rows: tuple[np.ndarray, np.ndarray], expected: float) -> None:
    assert pytest.approx(expected, abs=1e-12) == METRICS[name].function(*rows)


COUNTS, MEANS = np.array([0.0, 1.0, 4.0, 0.0]), np.array([0.5, 2.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        ("poisson_deviance", (COUNTS, MEANS), 2 * (0.5 + (np.log(0.5) + 1) + (4 * np.log(4 / 3) - 1) + 1.0) / 4),
        # For a power of 1.5, a unit deviance is 4 (sqrt(y) - sqrt(p))^2 / sqrt(p): the same formula, factorized.
        ("tweedie_deviance at 1.5", (COUNTS, MEANS), np.mean(4 * (COUNTS**0.5 - MEANS**0.5) ** 2 / MEANS**0.5)),
        ("pinball_loss at 0.9", (VALUES, ESTIMATES), (0.9 * 0.5 + 0.1 * (0.5 + 0.0 + 1.0 + 1.5)) / 5),
        ("pinball_loss at 0.5", (VALUES, ESTIMATES), 0.7 / 2),
    ],
)
def test_metrics_of_an_objective_follow_their_formulas(
    name: str, rows: tuple[np.ndarray, np.ndarray], expected: float
) -> None:
    metric = find_metric(name, "regression")

    assert (name, pytest.approx(expected, abs=1e-12)) == (metric.name, metric.function(*rows))
    assert pytest.approx(0, abs=1e-12) == metric.function(rows[0] + 1, rows[0] + 1)


def test_a_constant_at_the_level_of_a_metric_is_the_best_one() -> None:
    truth = np.random.default_rng(1).gamma(0.5, 4.0, 999)
    for name in ("mae", "pinball_loss at 0.2", "poisson_deviance", "tweedie_deviance at 1.2", "rmse"):
        level, metric = level_of(name), find_metric(name, "regression")
        best = truth.mean() if level is None else np.quantile(truth, level, method="inverted_cdf")
        near = [metric.function(truth, np.full(999, best * change)) for change in (0.95, 1.0, 1.05)]
        assert near[1] == min(near)


def test_calibration_error_is_the_mean_gap_over_bins_of_equal_mass() -> None:
    scores = np.repeat([0.1, 0.5, 0.9], [4, 4, 4])
    truth = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1])

    assert pytest.approx((0.15 + 0.0 + 0.1) / 3) == METRICS["calibration_error"].function(truth, scores)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_perfect_score_is_at_least_as_good_as_any_other(metric: Metric) -> None:
    truth, perfect, other = {
        "binary": (TRUTH, TRUTH.astype(float), SCORES),
        "regression": (VALUES, VALUES, ESTIMATES),
        "multiclass": (CLASSES, np.eye(3)[CLASSES], PROBABILITIES),
    }[metric.tasks[0]]
    best = metric.function(truth, perfect)

    assert pytest.approx(1.0 if metric.higher_is_better else 0.0, abs=1e-12) == best
    assert metric.gain(best, metric.function(truth, other)) > 0


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("brier", ([], []), "no rows"),
        ("poisson_deviance", ([-1.0, 0.0, 2.0], [1.0, 1.0, 1.0]), "1 of 3 labels outside its range.*0 or more"),
        ("tweedie_deviance at 1.5", ([1.0, 0.0], [0.0, -1.0]), "2 of 2 scores outside its range.*above 0"),
        ("brier", ([0, 1], [0.5]), "one row of score for each row of truth"),
        ("brier", ([0, 1], [0.5, np.nan]), "1 of 2 scores are missing"),
        ("brier", ([0, np.nan], [0.5, 0.5]), "1 of 2 truth are missing"),
        ("brier", ([0, 2], [0.5, 0.5]), "expected 0 and 1 only"),
        ("brier", ([0, 1], [0.5, 1.5]), "expected probabilities"),
        ("brier", (TRUTH, SCORES, [1.0]), "not negative, not all zero"),
        ("brier", (TRUTH, SCORES, [0.0] * 10), "not negative, not all zero"),
        ("brier", (TRUTH, SCORES, [-1.0] * 10), "not negative, not all zero"),
        ("multi_log_loss", (CLASSES, PROBABILITIES * 0.5), "not class probabilities"),
        ("multi_log_loss", (CLASSES + 1, PROBABILITIES), "class indices 0 to 2"),
        ("macro_f1", (CLASSES[[0, 1]], PROBABILITIES[[0, 1]]), "class number 2 is absent"),
        ("r2", ([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]), "every row has the same target"),
        ("roc_auc", ([1, 1], [0.2, 0.4]), "the negative class is absent"),
        ("roc_auc", ([0, 0], [0.2, 0.4]), "the positive class is absent"),
        ("average_precision", ([1, 1], [0.2, 0.4]), "the negative class is absent"),
        ("average_precision", ([0, 0], [0.2, 0.4]), "the positive class is absent"),
        ("lift", ([0, 0], [1.0, 0.0]), "the positive class is absent"),
    ],
)
def test_unusable_rows_are_an_error_with_the_culprit_and_not_a_number(
    name: str, rows: tuple[Any, ...], message: str
) -> None:
    metric = metric_among(name, METRICS | OPERATING)
    assert metric is not None
    with pytest.raises(DataError, match=message):
        metric.function(*rows)


def test_an_unknown_metric_is_reported_with_a_suggestion() -> None:
    with pytest.raises(DataError, match=r"'roc_auk' is not one of task 'binary'.*Did you mean 'roc_auc'\?"):
        find_metric("roc_auk", "binary")
    with pytest.raises(DataError, match="expected one of rmse, mae, r2"):
        find_metric("roc_auc", "regression")
    with pytest.raises(
        DataError, match=r"'pinball_loss at nine' is not one of task 'regression'.*pinball_loss at QUANT"
    ):
        find_metric("pinball_loss at nine", "regression")
    with pytest.raises(DataError, match="'poisson_deviance' is not one of task 'binary'"):
        find_metric("poisson_deviance", "binary")


@a_law
@given(binary_rows())
def test_roc_auc_is_the_share_of_ordered_pairs(rows: tuple[np.ndarray, np.ndarray]) -> None:
    assert pytest.approx(auc(*rows)) == METRICS["roc_auc"].function(*rows)


@a_law
@given(binary_rows())
def test_ranks_are_all_that_the_rank_metrics_see(rows: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = rows

    for name in ("roc_auc", "average_precision"):
        assert METRICS[name].function(truth, scores) == METRICS[name].function(truth, np.exp(3 * scores) - 7)


@a_law
@given(st.data())
def test_a_whole_weight_is_a_row_repeated(data: st.DataObject) -> None:
    truth, scores = data.draw(binary_rows())
    weights = data.draw(hnp.arrays(np.int64, len(truth), elements=st.integers(0, 3)))
    weights[:2] = np.maximum(weights[:2], 1)

    for metric in metrics_of("binary"):
        if metric.name != "calibration_error":  # its bins are those of the rows as given
            repeated = metric.function(np.repeat(truth, weights), np.repeat(scores, weights))
            assert pytest.approx(repeated) == metric.function(truth, scores, weights)


@pytest.mark.parametrize("metric", [*metrics_of("regression"), *metrics_of("multiclass")], ids=lambda each: each.name)
def test_a_whole_weight_is_a_row_repeated_in_the_other_tasks(metric: Metric) -> None:
    truth, scores = (VALUES, ESTIMATES) if "regression" in metric.tasks else (CLASSES, PROBABILITIES)
    weights = np.arange(len(truth)) % 3 + 1

    repeated = metric.function(np.repeat(truth, weights), np.repeat(scores, weights, axis=0))

    assert pytest.approx(repeated) == metric.function(truth, scores, weights)


@a_law
@given(binary_rows(), st.integers(1, 12))
def test_bins_have_equal_mass_undivided_ties_and_ascending_edges(
    rows: tuple[np.ndarray, np.ndarray], bins: int
) -> None:
    _, scores = rows
    index = equal_mass_bins(scores, bins)

    assert list(range(index.max() + 1)) == sorted(set(index.tolist()))
    assert index.max() < bins
    assert all(len(set(index[scores == score].tolist())) == 1 for score in scores)
    assert (np.diff(index[np.argsort(scores, kind="stable")]) >= 0).all()
