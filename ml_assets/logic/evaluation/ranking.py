"""The formulas of ranking metrics on numpy arrays: one value per query, from grades and scores.

A grade is a whole number from 0; rows with a higher one belong further up. Rows of a query with equal scores have no
order. Each metric is its expected value over all orders of such rows (McSherry and Najork 2008, «Computing information
retrieval performance measures efficiently in the presence of tied scores»). A constant score therefore has the expected
value of a random order, whatever the order of the rows.

A query on which every order has the same value says nothing about a model. Its value is NaN, and the mean over queries
ignores it. LightGBM counts such a query as 1, others count it as 0.

Not here: the means over queries, and their names (see `ml_assets.logic.evaluation.metrics`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import HIGHEST_GRADE
from ml_assets.logic.evaluation.formulas import Vector, checked

ByQuery = Callable[[ArrayLike, ArrayLike, NDArray[np.int64]], Vector]
"""A function from (n,) grades, scores and queries, numbered from 0 without gaps, to the metric of each query."""


class _Ranked:
    """Rows by query and score, the best first, and the runs of rows with equal scores.

    Attributes:
        grades: (n,) by query and score.
        query: (n,) the query of each row, in ascending order.
        starts: (queries,) the first row of each query.
        place: (n,) rows of the same query before each row, with ties in any order.
        run: (n,) the run of each row, from 0.
        first: (n,) the first row of the run of each row.
        size: (n,) rows of the run of each row.
    """

    def __init__(self, name: str, truth: ArrayLike, scores: ArrayLike, queries: NDArray[np.int64]) -> None:
        """Sort the rows.

        Raises:
            DataError: Grades or scores are missing, or a grade is not a whole number from 0 to `HIGHEST_GRADE`.
        """
        grades, given = checked(name, truth, scores, 1)
        if not ((grades == np.floor(grades)) & (grades >= 0) & (grades <= HIGHEST_GRADE)).all():
            raise DataError(
                f"the truth of metric '{name}' has values other than whole numbers from 0 to {HIGHEST_GRADE}. Declare "
                "another task."
            )
        order = np.lexsort((-given, queries))
        self.grades, self.query, ordered = grades[order], queries[order], given[order]
        is_first = np.concatenate(([True], self.query[1:] != self.query[:-1]))
        is_run = is_first | np.concatenate(([True], ordered[1:] != ordered[:-1]))
        self.starts, runs = np.flatnonzero(is_first), np.flatnonzero(is_run)
        self.place = np.arange(len(order)) - self.starts[self.query]
        self.run = np.cumsum(is_run) - 1
        self.first = runs[self.run]
        self.size = np.diff(np.append(runs, len(order)))[self.run]

    def sum(self, values: Vector) -> Vector:
        """Return the sum over the rows of each query."""
        return np.bincount(self.query, weights=values).astype(np.float64)

    def sum_of_run(self, values: Vector) -> Vector:
        """Return for each row the sum over its run."""
        total: Vector = np.bincount(self.run, weights=values)[self.run]
        return total


def ndcg(truth: ArrayLike, scores: ArrayLike, queries: NDArray[np.int64], *, at: int) -> Vector:
    """Return the normalized discounted cumulative gain of the first `at` rows of each query.

    The gain of a row is 2^grade - 1, and the discount of place p, counted from 1, is 1 / log2(p + 1): DCG of Burges and
    others (2005, «Learning to rank using gradient descent»), divided by that of the best order (Järvelin and Kekäläinen
    2002, «Cumulated gain-based evaluation of IR techniques»). LightGBM's `lambdarank` optimizes it. NaN if all rows of
    the query have the same grade.
    """
    ranked = _Ranked("ndcg", truth, scores, queries)
    gains = np.exp2(ranked.grades) - 1
    discounts = np.where(ranked.place < at, 1 / np.log2(ranked.place + 2.0), 0.0)
    found = ranked.sum(ranked.sum_of_run(gains) / ranked.size * discounts)
    best = ranked.sum(gains[np.lexsort((-ranked.grades, ranked.query))] * discounts)
    highest, lowest = (it.reduceat(ranked.grades, ranked.starts) for it in (np.maximum, np.minimum))
    values: Vector = np.divide(found, best, out=np.full(len(best), np.nan), where=highest > lowest)
    return values


def average_precisions(truth: ArrayLike, scores: ArrayLike, queries: NDArray[np.int64]) -> Vector:
    """Return the average precision of each query: the mean, over relevant rows, of the share of relevant rows so far.

    A row with a grade above 0 is relevant. With R relevant rows among the n of a run of equal scores, after c rows of
    which b are relevant, the j-th row of the run adds R / n (b + 1 + (j - 1) (R - 1) / (n - 1)) / (c + j) in the mean
    of all orders (McSherry and Najork 2008). NaN if no row of the query is relevant, or every row.
    """
    ranked = _Ranked("mean_average_precision", truth, scores, queries)
    relevant = (ranked.grades > 0).astype(np.float64)
    total = ranked.sum(relevant)
    so_far = np.cumsum(relevant) - relevant
    earlier = so_far[ranked.first] - so_far[ranked.starts][ranked.query]
    in_run, position = ranked.sum_of_run(relevant), np.arange(len(relevant)) - ranked.first
    others = position * (in_run - 1) / np.maximum(ranked.size - 1, 1)
    added = in_run / ranked.size * (earlier + 1 + others) / (ranked.place + 1)
    is_used = (total > 0) & (total < ranked.sum(np.ones(len(relevant))))
    values: Vector = np.divide(ranked.sum(added), total, out=np.full(len(total), np.nan), where=is_used)
    return values


def reciprocal_ranks(truth: ArrayLike, scores: ArrayLike, queries: NDArray[np.int64]) -> Vector:
    """Return 1 / place of the first relevant row of each query.

    A row with a grade above 0 is relevant. In a run of n equal scores after c rows, with R relevant rows, the first of
    them is the j-th with probability C(n - j, R - 1) / C(n, R) (McSherry and Najork 2008). NaN if no row of the query
    is relevant, or every row.
    """
    ranked = _Ranked("mean_reciprocal_rank", truth, scores, queries)
    relevant = (ranked.grades > 0).astype(np.float64)
    total, rows = ranked.sum(relevant), ranked.sum(np.ones(len(relevant)))
    is_used = (total > 0) & (total < rows)
    in_run = ranked.sum_of_run(relevant)
    hits = np.flatnonzero(in_run > 0)
    of_query, first = np.unique(ranked.query[hits], return_index=True)
    row = hits[first]
    size, found = ranked.size[row].astype(np.float64), in_run[row]
    before = ranked.place[ranked.first[row]]
    probability, mean = found / size, np.zeros(len(row))
    for j in range(1, int((size - found).max(initial=0)) + 2):
        mean += probability / (before + j)
        left = size - j
        probability = np.divide(probability * (left - found + 1), left, out=np.zeros_like(left), where=left > 0)
    values = np.full(len(total), np.nan)
    values[of_query] = mean
    return np.where(is_used, values, np.nan)
