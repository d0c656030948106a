"""Metrics of rankings, compared with all orders of rows with equal scores, in plain Python."""

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from statistics import fmean

import numpy as np
import pytest

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import Objective
from ml_assets.logic.evaluation.formulas import Vector
from ml_assets.logic.evaluation.jackknife import Clusters
from ml_assets.logic.evaluation.metrics import expected_metric, find_metric, metrics_of, named

NDCG = find_metric("ndcg at 3 within search", "ranking")
MAP = find_metric("mean_average_precision within search", "ranking")
MRR = find_metric("mean_reciprocal_rank within search", "ranking")


def ndcg(grades: Sequence[int]) -> float:
    def dcg(ordered: Sequence[int]) -> float:
        return sum((2**grade - 1) / math.log2(place + 2) for place, grade in enumerate(ordered[:3]))

    return dcg(grades) / dcg(sorted(grades, reverse=True))


def average_precision(grades: Sequence[int]) -> float:
    places = [place for place, grade in enumerate(grades, 1) if grade > 0]
    return fmean(found / place for found, place in enumerate(places, 1))


def reciprocal_rank(grades: Sequence[int]) -> float:
    return 1 / next(place for place, grade in enumerate(grades, 1) if grade > 0)


def over_all_orders(measure: Callable[[Sequence[int]], float], grades: Vector, scores: Vector) -> float:
    """Return the mean over all orders of the rows in which no score is above an earlier one."""
    orders = [it for it in permutations(range(len(grades))) if (np.diff(scores[list(it)]) <= 0).all()]
    return fmean(measure([int(grades[row]) for row in order]) for order in orders)


@pytest.mark.parametrize(("name", "measure"), [(NDCG, ndcg), (MAP, average_precision), (MRR, reciprocal_rank)])
def test_a_metric_is_the_mean_over_queries_of_its_mean_over_all_orders_of_equal_scores(
    name: object, measure: Callable[[Sequence[int]], float]
) -> None:
    draw = np.random.default_rng(3)
    query = np.repeat(np.arange(40), draw.integers(1, 7, 40))
    grades, scores = draw.integers(0, 4, len(query)), draw.integers(0, 3, len(query)) / 2
    grades[query % 3 == 0] = grades[query % 3 == 0] > 1
    shuffle = draw.permutation(len(query))

    found = name.function(grades[shuffle], scores[shuffle], groups=query[shuffle])  # type: ignore[attr-defined]

    each = [(grades[query == it], scores[query == it]) for it in range(40)]
    differ = [(g, s) for g, s in each if len({*g}) > 1 and (measure is ndcg or min(g) == 0)]
    assert pytest.approx(fmean(over_all_orders(measure, *it) for it in differ), abs=1e-12) == found
    assert len(differ) < 40


def test_values_by_hand() -> None:
    # Grades 2, 0, 1 in the order of the scores: gains 3, 0, 1 against the best 3, 1, 0.
    best, got = 3 + 1 / math.log2(3), 3 + 1 / math.log2(4)
    one = {"truth": [1, 2, 0], "scores": [0.1, 0.9, 0.5], "groups": ["a"] * 3}

    assert pytest.approx(got / best) == NDCG.function(**one)
    assert pytest.approx((1 / 1 + 2 / 3) / 2) == MAP.function(**one)
    assert pytest.approx(1.0) == MRR.function(**one)
    assert pytest.approx(1 / 3) == MRR.function([0, 0, 3], [3, 2, 1], groups=[7] * 3)


def test_a_constant_score_has_the_value_of_a_random_order_whatever_the_order_of_the_rows() -> None:
    grades, same = np.array([3, 0, 0, 0]), np.zeros(4)
    expected = {NDCG: (1 + 1 / math.log2(3) + 1 / math.log2(4)) / 4, MAP: (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4}

    for metric, value in (expected | {MRR: expected[MAP]}).items():
        for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
            assert pytest.approx(value) == metric.function(grades[order], same, groups=np.ones(4))


def test_queries_on_which_every_order_is_equal_are_left_out_and_an_error_if_there_are_no_others() -> None:
    grades, scores, queries = [2, 2, 0, 0, 1, 0, 3], [1, 2, 1, 2, 2, 1, 0], ["a", "a", "b", "b", "c", "c", "d"]

    assert 1.0 == NDCG.function(grades, scores, groups=queries)
    assert [False, False, True, False] == np.isfinite(NDCG.by_group(grades, scores, queries).alone).tolist()
    assert [-1, -1, -1, -1, 0, 0, -1] == NDCG.kinds_of(grades, scores, queries).tolist()
    with pytest.raises(DataError, match="'ndcg at 3 within search' is not defined: no 'search' has rows of which one"):
        NDCG.function([1, 1, 0], [3, 2, 1], groups=["a", "a", "b"])


def test_a_query_of_a_left_out_row_is_measured_on_its_other_rows_and_counts_by_their_share() -> None:
    grades, scores, queries = [0, 2, 1, 1, 0], [3, 2, 1, 1, 2], [1, 1, 1, 2, 2]
    weights = np.array([0.0, 1.0, 1.0, 1.0, 1.0])

    found = NDCG.measure(grades, scores, queries)(weights)

    assert pytest.approx((2 / 3 * 1.0 + 1 / math.log2(3)) / (2 / 3 + 1)) == found


def test_the_clusters_of_a_metric_are_the_queries_that_contribute() -> None:
    queries = np.repeat(np.arange(12), 3)
    grades = np.where(queries < 8, np.tile([0, 1, 2], 12), 1)
    clusters = Clusters.of_groups(queries, column="search")

    assert "8 search groups" == clusters.evidence(NDCG, grades, np.arange(36.0), queries).words


@pytest.mark.parametrize("wrong", [[0.5, 1], [-1, 0], [31, 0], [float("nan"), 1]])
def test_grades_are_whole_numbers_that_lightgbm_has_a_gain_for(wrong: list[float]) -> None:
    with pytest.raises(DataError, match="metric 'ndcg'"):
        NDCG.function(wrong, [1, 2], groups=[1, 1])


def test_scores_lead_to_no_expectation_and_metrics_have_titles_and_are_found_by_name() -> None:
    metrics = metrics_of("ranking", Objective(loss="lambdarank", query="search", at=3))

    assert expected_metric(NDCG, np.array([0.1, 0.2]), np.array([0, 0])) is None
    assert ["NDCG at 3 within search", "MAP within search", "MRR within search"] == [it.title for it in metrics]
    assert [it.name for it in metrics] == [getattr(named(it.name), "name", None) for it in metrics]
    with pytest.raises(DataError, match=r"expected one of .*ndcg at ROWS within QUERY"):
        find_metric("rmse", "ranking")
