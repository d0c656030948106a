"""The metrics: over all rows, within groups of rows, or at an operating point, and what scores lead to expect of them.

A metric within groups, for instance days, shows how well a model ranks the rows of one day. It does not reward
distinguishing a good day from a bad one.

Not here: the formulas (see `ml_assets.logic.evaluation.formulas`), intervals (see
`ml_assets.logic.evaluation.jackknife`), and baselines (see `ml_assets.logic.evaluation.baselines`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, get_args

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ml_assets.contracts.artifacts.evaluation import OperatingPoint
from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import AT, WITHIN, Objective
from ml_assets.contracts.own_metric import OwnName
from ml_assets.logic.evaluation import formulas, ranking
from ml_assets.logic.evaluation.formulas import Measure, Vector
from ml_assets.logic.evaluation.own_measure import own_measure
from ml_assets.logic.evaluation.ranking import ByQuery

LEAST_EXPECTED: Final = 1e-300
"""With fewer expected rows of a class, no metric is expected: products would underflow, and no ranking is defined."""


@dataclass(frozen=True)
class Metric:
    """One metric: its tasks, its direction, and how it is computed.

    Attributes:
        name: Name in declarations, records and frames.
        title: Name in plots and pages.
        tasks: The tasks for which it is defined.
        higher_is_better: Whether a larger value is better.
        prepare: Function from truth and scores to a function of row weights.
        is_binned: Whether `prepare` and `bias` take the declared weights of the rows too, which decide its bins.
        lowest: Lower limit of the metric.
        highest: Upper limit of the metric.
        bias: Function from truth, scores and the cluster of each row to the most that sampling error alone adds to the
            metric; None if it adds nothing on average.
        kinds: For a metric that needs rows of several kinds, such as both classes: a function that returns the kind of
            each row as a number from 0, or -1 for a row that the metric does not use. None for any other metric.
        needs: The kinds in words.
        within: The column of the groups, for a metric that is the mean over groups of the metric inside each; None for
            a metric over all rows. Groups count equally. Groups on which the metric is not defined are ignored.
        overall: The same metric over all rows, for a metric within groups.
        needs_positive_scores: Whether it is defined only for scores above 0.
        undefined: On which groups it is not defined, as text.
    """

    name: str
    title: str
    tasks: tuple[Task, ...]
    higher_is_better: bool
    prepare: Callable[..., Measure]
    lowest: float = 0.0
    highest: float = math.inf
    bias: Callable[[Vector, Vector, NDArray[np.int64], Vector | None], float] | None = None
    kinds: Callable[[ArrayLike, ArrayLike], NDArray[np.int64]] | None = None
    needs: str = ""
    within: str | None = None
    overall: Metric | None = None
    needs_positive_scores: bool = False
    is_binned: bool = False
    undefined: str = "with a single class"

    def inside(self, column: str) -> Metric:
        """Return the mean of this metric over the groups that share a value of a column."""
        return replace(
            self,
            name=f"{self.name}{WITHIN}{column}",
            title=f"{self.title}{WITHIN}{column}",
            within=column,
            overall=self,
            bias=None,
        )

    def measure(
        self, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None, weights: Vector | None = None
    ) -> Measure:
        """Return the metric as a function of how often each row counts; 0 leaves it out.

        Args:
            truth: See `function`.
            scores: See `function`.
            groups: (n,) the group of each row, for a metric within groups.
            weights: (n,) the declared weight of each row, above 0; None if all rows have the same.

        Raises:
            DataError: Truth, scores or groups are not valid for the metric.
        """
        if self.within is None:
            return self.prepared(truth, scores, weights)
        if groups is None:
            raise DataError(f"metric '{self.name}' got no groups; expected column '{self.within}' beside the scores.")
        within = self.by_group(truth, scores, groups, weights)

        def mean(counts: Vector) -> float:
            value = within.mean(counts)
            if np.isnan(value):
                raise self._undefined_everywhere()
            return value

        return mean

    def prepared(self, truth: ArrayLike, scores: ArrayLike, weights: Vector | None) -> Measure:
        """Return the metric over all rows as a function of how often each row counts."""
        if weights is None:
            return self.prepare(truth, scores)
        measure = self.prepare(truth, scores, weights) if self.is_binned else self.prepare(truth, scores)
        return lambda counts: measure(counts * weights)

    def by_group(self, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike, weights: Vector | None = None) -> Groups:
        """Return the metric on each group alone."""
        return Groups(self, truth, scores, groups, weights)

    def _undefined_everywhere(self) -> DataError:
        return formulas.absent_class(self.name, f"a class of every '{self.within}'")

    def kinds_of(
        self, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None, weights: Vector | None = None
    ) -> NDArray[np.int64]:
        """Return the kind of each row (see `kinds`); -1 for rows of a group on which the metric is not defined."""
        kinds = np.zeros(np.shape(truth)[0], dtype=np.int64) if self.kinds is None else self.kinds(truth, scores)
        if self.within is None or groups is None:
            return kinds
        members = np.unique(np.asarray(groups), return_inverse=True)[1]
        is_defined = np.isfinite(self.by_group(truth, scores, groups, weights).alone)
        return np.where(is_defined[members], kinds, -1)

    def function(
        self, truth: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> float:
        """Compute the metric.

        Args:
            truth: (n,) 0/1 or Boolean for binary, numbers for regression, class indices for multiclass, grades for
                ranking.
            scores: (n,) probabilities of the positive class or values; (n, classes) probabilities for multiclass.
            weights: (n,) not negative; a whole number w counts its row w times. Groups count equally nevertheless.
            groups: (n,) the group of each row, for a metric within groups.

        Raises:
            DataError: The metric is not defined on these rows: there are none, a class is absent, or a score is
                missing.
        """
        rows = int(np.asarray(truth).shape[0])
        if weights is None:
            return self.measure(truth, scores, groups)(np.ones(rows))
        given = np.asarray(weights, dtype=np.float64)
        if given.shape != (rows,) or not np.isfinite(given).all() or (given < 0).any() or given.sum() <= 0:
            raise DataError(
                f"the weights of metric '{self.name}' have shape {given.shape}; expected ({rows},), finite, "
                "not negative, not all zero. Pass one weight per row."
            )
        return self.measure(truth, scores, groups, given)(np.ones(rows))

    def gain(self, challenger: float, other: float) -> float:
        """Return how much better the challenger is; above zero is better, for metrics of both directions."""
        return challenger - other if self.higher_is_better else other - challenger


class Groups:
    """The rows of each group, and the metric on each group alone.

    Attributes:
        alone: (groups,) the metric on each group; NaN if it is not defined there (for instance, a single class).
    """

    def __init__(
        self,
        metric: Metric,
        truth: ArrayLike,
        scores: ArrayLike,
        groups: ArrayLike,
        weights: Vector | None = None,
    ) -> None:
        """Prepare the metric over all rows for each group; see `Metric.measure`."""
        actual, given = np.asarray(truth), np.asarray(scores)
        self._arrange(groups, len(actual), weights)
        self._parts = [
            metric.prepared(actual[rows], given[rows], None if weights is None else weights[rows])
            for rows in np.split(self._order, self._ends[:-1])
            if len(rows)
        ]
        self.alone = np.array(
            [_defined(part, np.ones(size)) for part, size in zip(self._parts, self._sizes, strict=True)]
        )

    def _arrange(self, groups: ArrayLike, rows: int, weights: Vector | None = None) -> NDArray[np.int64]:
        """Sort the rows by group; return the number of the group of each."""
        index = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
        if index.shape != (rows,):
            raise DataError(f"the groups have shape {index.shape}; expected ({rows},), one group per row.")
        self._order = np.argsort(index, kind="stable")
        self._sizes = np.bincount(index)
        self._ends = np.cumsum(self._sizes)
        self._weights = None if weights is None else weights[self._order]
        return index

    def _again(self, group: int, counts: Vector) -> float:
        """Return the metric of a group whose rows count differently often; NaN if it is not defined."""
        return _defined(self._parts[group], counts)

    def mean(self, counts: Vector) -> float:
        """Return the mean over the groups on which the metric is defined; NaN if there are none.

        A group counts by the mean of how often its rows count, however many it has. The metric of a group is measured
        again only if its rows count differently often.
        """
        ordered, starts = counts[self._order], self._ends - self._sizes
        shares = np.add.reduceat(ordered, starts) / self._sizes
        if self._weights is not None:
            shares = np.add.reduceat(ordered * self._weights, starts) / np.add.reduceat(self._weights, starts)
        values = self.alone.copy()
        is_mixed = np.minimum.reduceat(ordered, starts) < np.maximum.reduceat(ordered, starts)
        for group in np.flatnonzero(is_mixed):
            values[group] = self._again(int(group), ordered[starts[group] : self._ends[group]])
        shares = shares * np.isfinite(values)
        total = float(shares.sum())
        return float((shares * np.nan_to_num(values)).sum()) / total if total > 0 else float("nan")


def _defined(measure: Measure, counts: Vector) -> float:
    try:
        return measure(counts)
    except DataError:
        return float("nan")


class _Queries(Groups):
    """The rows of each query, and a ranking metric on each query alone. Rows that do not count are left out."""

    def __init__(self, by_query: ByQuery, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> None:
        """Measure each query."""
        self._by_query, self._truth, self._scores = by_query, np.asarray(truth), np.asarray(scores)
        self.alone = by_query(truth, scores, self._arrange(groups, len(self._truth)))

    def _again(self, group: int, counts: Vector) -> float:
        rows = self._order[self._ends[group] - self._sizes[group] : self._ends[group]][counts > 0]
        return float(self._by_query(self._truth[rows], self._scores[rows], np.zeros(len(rows), np.int64))[0])


@dataclass(frozen=True, kw_only=True)
class RankingMetric(Metric):
    """A metric of the order of the rows of each query. Over all rows, these are a single query.

    Attributes:
        by_query: the metric of each query.
    """

    by_query: ByQuery

    def by_group(self, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike, weights: Vector | None = None) -> Groups:
        """Return the metric on each query.

        Raises:
            DataError: Rows have weights. The order of a query has none.
        """
        if weights is not None:
            raise DataError(f"metric '{self.name}' got weights of rows, which a ranking does not have. Pass none.")
        return _Queries(self.by_query, truth, scores, groups)

    def _undefined_everywhere(self) -> DataError:
        return DataError(
            f"metric '{self.name}' is not defined: no '{self.within}' has rows of which one is better than another. "
            "Widen the window, or correct the grades."
        )


@dataclass(frozen=True, kw_only=True)
class OperatingMetric(Metric):
    """A metric of the rows that are acted on."""

    point: OperatingPoint

    def measure(
        self, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None, weights: Vector | None = None
    ) -> Measure:
        """Return the metric as a function of how often each row counts, which does not decide who is acted on."""
        return self.prepared(truth, formulas.acted_on(self.point, scores, groups, weights), weights)

    def kinds_of(
        self, truth: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None, weights: Vector | None = None
    ) -> NDArray[np.int64]:
        """Return the kind of each row. Groups and weights only decide which rows are acted on."""
        acted = formulas.acted_on(self.point, scores, groups, weights)
        return np.zeros(len(acted), dtype=np.int64) if self.kinds is None else self.kinds(truth, acted)


def groups_of(metric: Metric, rows: pl.DataFrame) -> NDArray[np.int64] | None:
    """Return the group of each row; None for a metric over all rows.

    Raises:
        DataError: The rows lack the column.
    """
    if metric.within is None:
        return None
    if metric.within not in rows.columns:
        message = f"metric '{metric.name}' needs column '{metric.within}'; the rows have {', '.join(rows.columns)}."
        raise DataError(message)
    return group_numbers(rows[metric.within])


def group_numbers(column: pl.Series) -> NDArray[np.int64]:
    """Return the group of each row as a number, in the order of the values; 0 for a missing value."""
    return column.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


def expected_metric(
    metric: Metric, scores: Vector, groups: NDArray[np.int64] | None = None, weights: Vector | None = None
) -> float | None:
    """Return the metric that is expected once labels arrive, if the scores are calibrated probabilities.

    Every row counts for each class with that class's probability: confidence-based performance estimation, as described
    in NannyML's documentation (How it works, Performance Estimation, CBPE). For losses it is the exact expectation. For
    rankings and F1 it is the metric of the expected counts, corrected for comparing a row with itself. Scores are (n,)
    probabilities of the positive class, or (n, classes); `groups` are (n,) for a metric within groups, and `weights`
    the declared weights of the rows.

    Returns:
        None if scores give no expectation: there are no rows, the task is regression or ranking, the metric is a
        ranking of two classes and there is a single row, the metric is a person's function, which is a metric of every
        task, or it is the calibration error, which is assumed to be zero.

    Raises:
        DataError: Scores are not probabilities.
    """
    given = np.ones(len(scores)) if weights is None else weights
    if metric.overall is None or groups is None:
        return _expected(metric, scores, given)
    parts = [groups == group for group in np.unique(groups)]
    inside = [_expected(metric.overall, scores[part], given[part]) for part in parts]
    there = [value for value in inside if value is not None]
    return float(np.mean(there)) if there else None


def _expected(metric: Metric, scores: Vector, weights: Vector) -> float | None:
    if len(scores) == 0 or {"regression", "ranking"} & {*metric.tasks} or metric.name == "calibration_error":
        return None
    wrong = ~((scores >= 0) & (scores <= 1)) if scores.ndim == 1 else ~(np.abs(scores.sum(axis=1) - 1) <= 1e-3)
    if wrong.any():
        expected = "probabilities in [0, 1]" if scores.ndim == 1 else "class probabilities that sum to 1"
        raise DataError(
            f"{wrong.sum()} of {len(scores)} scores are not {expected}. Materialize the predictions again, or "
            "declare another task."
        )
    shares = np.column_stack([1 - scores, scores]) if scores.ndim == 1 else scores / scores.sum(axis=1, keepdims=True)
    rows, classes = shares.shape
    own, shares = weights**2 * shares[:, 0] * shares[:, 1], shares * weights[:, np.newaxis]
    if metric.name in ("roc_auc", "average_precision") and shares.sum(axis=0).min() < LEAST_EXPECTED:
        return None
    truth = np.repeat(np.arange(classes, dtype=np.float64), rows)
    try:
        value = metric.function(truth, np.tile(scores, (classes, *[1] * (scores.ndim - 1))), shares.T.ravel())
    except DataError:
        # If all scores are exactly 0 or 1, a single class may be expected, on which the metric is not defined.
        return None
    if metric.name == "roc_auc":
        pairs = float(np.prod(shares.sum(axis=0)))
        return (value * pairs - own.sum() / 2) / (pairs - own.sum()) if rows > 1 and pairs > own.sum() else None
    if metric.name == "average_precision":
        order = np.argsort(scores, kind="stable")
        below = np.concatenate(([0.0], np.cumsum(weights[order])))
        flagged = below[-1] - below[np.searchsorted(scores[order], scores, side="left")]
        return float(value + (own / flagged).sum() / shares[:, 1].sum())
    return value


def find_metric(name: str, task: Task) -> Metric:
    """Return a metric by name.

    Raises:
        DataError: There is no such metric, or it is not a metric of this task.
    """
    metric = metric_among(name, METRICS)
    if metric is not None and task in metric.tasks:
        return metric
    known = [each.name for each in (*metrics_of(task), *_WITHOUT_PARAMETER.values()) if task in each.tasks]
    known += [f"{name}{AT}{it}" for name, (it, _) in _WITH_PARAMETER.items() if (name == "ndcg") == (task == "ranking")]
    known = [f"{each}{WITHIN}QUERY" for each in known] if task == "ranking" else known
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise DataError(f"metric '{name}' is not one of task '{task}'; expected one of {', '.join(known)}.{hint}")


def metric_among(name: str, known: Mapping[str, Metric]) -> Metric | None:
    """Return one of the known metrics by name, over all rows or within groups; None if there is no such metric."""
    overall, _, column = name.partition(WITHIN)
    metric = known.get(overall) or _of_objective(overall) or _own(overall)
    return metric.inside(column) if metric is not None and column else metric


def metrics_of(task: Task, objective: Objective | None = None) -> tuple[Metric, ...]:
    """Return the metrics of a task, in the order they are shown, then the one that fits the objective."""
    if objective is not None and objective.query is not None:
        names = [objective.metric, *(objective.full_metric(name) for name in _OTHERS_OF_RANKINGS)]
        return tuple(find_metric(name, task) for name in names)
    known = tuple(metric for metric in METRICS.values() if task in metric.tasks)
    own = None if objective is None else _of_objective(objective.metric)
    return known if own is None else (*known, own)


def _of_objective(name: str) -> Metric | None:
    """Return a metric that only some objectives or rankings have; None if there is no such metric."""
    if name in _WITHOUT_PARAMETER:
        return _WITHOUT_PARAMETER[name]
    family, _, parameter = name.partition(AT)
    if family not in _WITH_PARAMETER:
        return None
    try:
        return _WITH_PARAMETER[family][1](float(parameter))
    except ValueError:
        return None


def _own(name: str) -> Metric | None:
    """Return the metric that is a person's function; None for another name. The function is imported at its use."""
    found = OwnName.of(name)
    if found is None:
        return None
    return Metric(
        name, found.short, get_args(Task), found.direction == "higher",
        partial(own_measure, function=found.function), lowest=-math.inf,
    )  # fmt: skip


def _tweedie_deviance(power: float) -> Metric:
    return Metric(
        f"tweedie_deviance{AT}{power}", f"Tweedie deviance at {power:g}", ("regression",), False,
        partial(formulas.tweedie_deviance, power=power), needs_positive_scores=True,
    )  # fmt: skip


def _pinball_loss(alpha: float) -> Metric:
    return Metric(
        f"pinball_loss{AT}{alpha}", f"Pinball loss at {alpha:g}", ("regression",), False,
        partial(formulas.pinball_loss, alpha=alpha),
    )  # fmt: skip


def _ndcg(at: float) -> Metric:
    by_query = partial(ranking.ndcg, at=int(at))
    return _of_ranking(f"ndcg{AT}{at:g}", f"NDCG at {at:g}", by_query, undefined="whose grades are all equal")


def _of_ranking(name: str, title: str, by_query: ByQuery, *, undefined: str) -> Metric:
    return RankingMetric(
        name=name, title=title, tasks=("ranking",), higher_is_better=True, prepare=partial(_single_query, by_query),
        highest=1.0, undefined=undefined, by_query=by_query,
    )  # fmt: skip


def _single_query(by_query: ByQuery, truth: ArrayLike, scores: ArrayLike) -> Measure:
    return _Queries(by_query, truth, scores, np.zeros(np.shape(truth)[0])).mean


def operating_metrics(point: OperatingPoint | None) -> tuple[Metric, ...]:
    """Return precision, recall and lift at a point; empty without a point."""
    if point is None:
        return ()
    return tuple(
        OperatingMetric(
            name=it.name, title=it.title, tasks=("binary",), higher_is_better=True, prepare=it.prepare,
            kinds=it.kinds, needs=it.needs, within=point.within, point=point,
        )
        for it in OPERATING.values()
    )  # fmt: skip


def named(name: str) -> Metric | None:
    """Return a metric of any task by name, over all rows or within groups; None if there is no such metric."""
    return metric_among(name, METRICS | OPERATING)


_ALL: tuple[Metric, ...] = (
    Metric(
        "roc_auc", "ROC AUC", ("binary",), True, formulas.roc_auc, highest=1.0, kinds=formulas.class_of_each,
        needs="both classes",
    ),
    Metric(
        "average_precision", "Average precision", ("binary",), True, formulas.average_precision, highest=1.0,
        kinds=formulas.class_of_each, needs="both classes",
    ),
    Metric("log_loss", "Log loss", ("binary",), False, formulas.log_loss),
    Metric("brier", "Brier score", ("binary",), False, formulas.brier, highest=1.0),
    Metric(
        "calibration_error", "Calibration error", ("binary",), False, formulas.calibration_error, highest=1.0,
        bias=formulas.calibration_bias, is_binned=True,
    ),
    Metric("rmse", "RMSE", ("regression",), False, formulas.rmse),
    Metric("mae", "MAE", ("regression",), False, formulas.mae),
    Metric("r2", "R²", ("regression",), True, formulas.r2, lowest=-math.inf, highest=1.0),
    Metric("accuracy", "Accuracy", ("binary", "multiclass"), True, formulas.accuracy, highest=1.0),
    Metric("multi_log_loss", "Log loss", ("multiclass",), False, formulas.multi_log_loss),
    Metric(
        "macro_f1", "Macro F1", ("multiclass",), True, formulas.macro_f1, highest=1.0, kinds=formulas.class_of_each,
        needs="every class",
    ),
)  # fmt: skip
METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _ALL}
_OPERATING: tuple[Metric, ...] = (
    Metric(
        "precision", "Precision", (), True, formulas.precision, highest=1.0, kinds=formulas.only_acted_on,
        needs="rows that are acted on",
    ),
    Metric(
        "recall", "Recall", (), True, formulas.recall, highest=1.0, kinds=formulas.only_positives, needs="positives",
    ),
    Metric("lift", "Lift", (), True, formulas.lift, kinds=formulas.class_of_each, needs="both classes"),
)  # fmt: skip
OPERATING: Final[dict[str, Metric]] = {metric.name: metric for metric in _OPERATING}
"""These depend on which rows are acted on, not on scores. They need an operating point, so no task can declare them."""
_RELEVANT: Final = "without both relevant and other rows"
_WITHOUT_PARAMETER: Final[Mapping[str, Metric]] = {
    "poisson_deviance": Metric(
        "poisson_deviance", "Poisson deviance", ("regression",), False, formulas.poisson_deviance,
        needs_positive_scores=True,
    ),
    "mean_average_precision": _of_ranking(
        "mean_average_precision", "MAP", ranking.average_precisions, undefined=_RELEVANT
    ),
    "mean_reciprocal_rank": _of_ranking("mean_reciprocal_rank", "MRR", ranking.reciprocal_ranks, undefined=_RELEVANT),
}  # fmt: skip
_OTHERS_OF_RANKINGS: Final = ("mean_average_precision", "mean_reciprocal_rank")
_WITH_PARAMETER: Final[Mapping[str, tuple[str, Callable[[float], Metric]]]] = {
    "tweedie_deviance": ("POWER", _tweedie_deviance),
    "pinball_loss": ("QUANTILE", _pinball_loss),
    "ndcg": ("ROWS", _ndcg),
}
"""Metrics that only some objectives and rankings have; those with a parameter have it in their name."""
