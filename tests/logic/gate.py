"""What the gate judges by, as small as it can be: comparisons, reports and slices with chosen figures.

Expectations stay out; they stand in the tests.
"""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from ml_assets.contracts.artifacts.evaluation import Comparison, EvaluationSummary, Interval
from ml_assets.logic.evaluation.jackknife import Clusters, compare_models, leave_one_out, student_quantile
from ml_assets.logic.evaluation.measuring import SLICES_SCHEMA
from ml_assets.logic.evaluation.metrics import Metric
from tests.records import record, slice_row

DAYS = 20


def comparison(
    low: float,
    high: float,
    *,
    value: float | None = None,
    against: str = "champion",
    rows: int = 1_000,
    bound: float | None = None,
    **more: Any,
) -> Comparison:
    """A comparison whose bound is `bound` for a first attempt, or `low` where none is given."""
    middle = (low + high) / 2 if value is None else value
    reach = middle - (low if bound is None else bound)
    return Comparison(
        against=against,
        metric="roc_auc",
        challenger=0.7,
        other=0.7 - middle,
        difference=Interval(value=middle, low=low, high=high),
        rows=rows,
        clusters=DAYS,
        **({"standard_error": reach / student_quantile(0.975, DAYS - 1), "degrees_of_freedom": DAYS - 1} | more),
    )


def compared(
    metric: Metric,
    truth: ArrayLike,
    challenger: ArrayLike,
    other: ArrayLike,
    clusters: Clusters,
    *,
    groups: ArrayLike | None = None,
) -> Comparison:
    """What a challenger and another model come to on the same rows."""
    rows = np.ones(len(clusters.index))
    measures = {0: metric.measure(truth, challenger, groups), 1: metric.measure(truth, other, groups)}
    left_out = leave_one_out(measures, clusters)
    return compare_models(
        metric,
        against="champion",
        values=(measures[0](rows), measures[1](rows)),
        left_out=(left_out[0], left_out[1]),
        evidence=clusters.evidence(metric, truth, challenger, groups),
    )


def jackknife_error(value: float, left_out: Sequence[float]) -> float:
    """The standard error from figures without each day, in plain loops: allowing for days that are alike.

    Days whose correlation falls by the same factor from each to the next have this covariance, from which follow the
    variance of their mean and what their sample variance is on average.
    """
    count, mean = len(left_out), fmean(left_out)
    around = [it - mean for it in left_out]
    pairs = sum(one * other for one, other in pairwise(around))
    estimate = (1 + count * pairs / sum(it * it for it in around)) / (count - 1)
    allowed = min(max(estimate + ((1 - estimate**2) / count) ** 0.5, 0), 0.6)
    covariance = np.array([[allowed ** abs(one - other) for one in range(count)] for other in range(count)])
    of_mean = covariance.mean()
    of_sample = np.trace((np.eye(count) - 1 / count) @ covariance) / (count - 1)
    plain = (count - 1) / count * sum((it - value) ** 2 for it in left_out)
    return float((plain * count * of_mean / of_sample) ** 0.5)


def auc(truth: ArrayLike, scores: ArrayLike) -> float:
    """The share of pairs of a positive and a negative that are in the right order."""
    is_positive, given = np.asarray(truth).astype(bool), np.asarray(scores)
    gaps = given[is_positive][:, None] - given[~is_positive][None, :]
    return float(((gaps > 0) + (gaps == 0) / 2).mean())


def report(
    *,
    baselines: tuple[Comparison, ...] = (comparison(0.1, 0.2, against="constant"),),
    champion: Comparison | None = None,
    **changes: Any,
) -> EvaluationSummary:
    metrics = {
        "roc_auc": Interval(value=0.7, low=0.68, high=0.72),
        "calibration_error": Interval(value=0.03, low=0.02, high=0.04),
    }
    known: dict[str, Any] = {
        "model": "parcels", "model_version": "new", "training_set_version": "frozen", "metrics": metrics,
        "against_baselines": baselines, "last_seen_day": date(2013, 10, 31), "against_champion": champion,
        "champion_version": None if champion is None else "old",
    }  # fmt: skip
    return record(EvaluationSummary, **known | changes)


def slices(*rows: tuple[str, float, float], is_judged: bool = True) -> pl.DataFrame:
    """One row for each (value of depot, low, high) of the difference to the champion."""
    error = 2 * student_quantile(0.975, DAYS - 1)
    return pl.DataFrame(
        [
            slice_row(
                value, champion_score=0.7 - (low + high) / 2, difference=(low + high) / 2, difference_low=low,
                difference_high=high, difference_standard_error=(high - low) / error, degrees_of_freedom=DAYS - 1,
                is_judged=is_judged, reason="" if is_judged else "500 rows, fewer than 1000",
            )
            for value, low, high in rows
        ],
        schema=SLICES_SCHEMA,
    )  # fmt: skip
