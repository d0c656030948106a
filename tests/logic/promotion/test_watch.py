"""The watch over a new champion: which days count, and when it is worse."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.artifacts.monitoring import PerformanceSummary, PreviousChampionPerformance
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.promotion.log import former_version
from ml_assets.logic.promotion.watch import Watching, WatchResult, compare_with_former
from tests.logic.gate import jackknife_error
from tests.logic.promotion.test_log import Step, log
from tests.records import record

FIRST = date(2013, 3, 1)


def day(
    number: int, auc: float, former: float | None, metrics: dict[str, float] | None = None, **fields: Any
) -> PerformanceSummary:
    """Return a day on which champion "new" is measured, beside "old" where that has a figure."""
    measured = {"roc_auc": auc} if metrics is None else metrics
    given: dict[str, Any] = {
        "model_version": "new", "day": FIRST + timedelta(days=number),
        "measured": {name: Interval(value=value, low=None, high=None) for name, value in measured.items()},
        "previous_champion": former and PreviousChampionPerformance(version="old", metrics={"roc_auc": former}),
    }  # fmt: skip
    return record(PerformanceSummary, **given | fields)


def compared(
    days: list[PerformanceSummary], *, margin: float = 0.01, metric: str = "roc_auc", watched: int = 7,
    minimum: int = 5, **fields: Any,
) -> WatchResult:  # fmt: skip
    found = find_metric(metric, "regression" if metric == "rmse" else "binary")
    watching = Watching(watched, minimum, margin, **fields)
    return compare_with_former(days, watching, champion="new", metric=found, coverage=0.8)


def test_a_champion_that_is_worse_every_day_is_reported_with_figures_and_the_former_version() -> None:
    found = compared([day(n, 0.70 + 0.002 * n, 0.76) for n in range(6)])

    assert (True, False, "old") == (found.is_worse, found.is_settled, found.former)
    assert found.sentence.startswith(
        "Over 6 days (2013-03-01 to 2013-03-06), the mean daily difference in roc_auc between champion new and old on "
        "the same rows is -0.0550, at most"
    )
    assert found.sentence.endswith("worse by more than the margin of 0.01.")
    assert found.figures["difference, at most"] < -0.01


@pytest.mark.parametrize(
    ("watched", "quantile", "confidence"), [(5, 2.131847, 0.95), (7, 3.186316, 0.983333)], ids=["one look", "three"]
)
def test_the_bound_is_students_and_the_looks_share_the_error_rate(
    watched: int, quantile: float, confidence: float
) -> None:
    # The quantiles of Student's t with four degrees of freedom are those of R: qt(1 - 0.05 / looks, 4).
    differences = [-0.03, -0.01, -0.02, 0.0, -0.04]
    found = compared([day(n, 0.8 + it, 0.8) for n, it in enumerate(differences)], watched=watched)

    error = jackknife_error(-0.02, [(-0.1 - it) / 4 for it in differences])
    assert pytest.approx(-0.02 + quantile * error, abs=1e-6) == found.figures["difference, at most"]
    assert pytest.approx(confidence, abs=1e-6) == found.figures["confidence"]
    assert ("(one of 1 look)" if watched == 5 else "at 98.33 % confidence (one of 3 looks)") in found.sentence


def test_days_that_differ_too_much_or_a_wider_margin_prove_nothing() -> None:
    assert not compared([day(n, 0.7 + 0.2 * (n % 2), 0.82) for n in range(6)]).is_worse
    assert not compared([day(n, 0.70 + 0.002 * n, 0.76) for n in range(6)], margin=0.1).is_worse


def test_days_that_share_groups_are_not_judged_because_their_differences_are_not_independent() -> None:
    found = compared([day(n, 0.70 + 0.002 * n, 0.76) for n in range(6)], group="customer_id")

    assert (found.is_worse, found.is_settled, found.former) == (False, True, "old")
    assert found.sentence.startswith("Not judged: rows of one 'customer_id' may be in several days, so the days are no")


def test_longer_periods_are_named() -> None:
    months = [day(30 * n, 0.70 + 0.002 * n, 0.76) for n in range(5)]

    assert compared(months, period="month").sentence.startswith(
        "Over 5 months (2013-03-01 to 2013-06-29), the mean monthly "
    )
    assert "only 4 months" in compared(months[:4], period="month").sentence


@pytest.mark.parametrize("minimum", [2, 5])
def test_before_the_fifth_day_nothing_is_decided(minimum: int) -> None:
    found = compared([day(n, 0.5, 0.9 + 0.01 * n) for n in range(4)], minimum=minimum)

    assert (False, False) == (found.is_worse, found.is_settled)
    assert (
        "Not judged: only 4 days have figures of both champion new and the champion before; at least 5 are "
        "needed." == found.sentence
    )


@pytest.mark.parametrize(
    ("loss", "correlation", "least", "most"),
    [(0.01, 0.0, 0.003, 0.06), (0.01, 0.5, 0.003, 0.06), (0.0, 0.5, 0.0, 0.02), (0.06, 0.0, 0.9, 1.0)],
)
def test_of_champions_worse_by_the_margin_at_most_5_percent_are_rolled_back_over_all_looks(
    loss: float, correlation: float, least: float, most: float
) -> None:
    random = np.random.default_rng(4)
    rolled_back = 0
    for _ in range(400):
        noise = random.normal(0, 0.02, 7)
        for n in range(1, 7):
            noise[n] = correlation * noise[n - 1] + (1 - correlation**2) ** 0.5 * noise[n]
        days = [day(n, 0.8 - loss + error, 0.8) for n, error in enumerate(noise)]
        rolled_back += any(compared(days[:looked]).is_worse for looked in range(1, 8))

    assert least <= rolled_back / 400 <= most


def test_only_the_first_days_with_enough_labels_count_and_of_this_champion_alone() -> None:
    bad = [
        day(0, 0.1, 0.9, labelled=79),
        day(1, 0.1, 0.9, model_version="other"),
        day(2, 0.1, None),
        day(3, 0.1, 0.9, metrics={}),
        *(day(n, 0.1, 0.9) for n in range(11, 14)),
    ]
    good = [day(n, 0.80, 0.80 + 0.001 * n, labelled=79, without_label=5) for n in range(4, 11)]

    found = compared([*reversed(bad), *good])

    assert (False, True) == (found.is_worse, found.is_settled)
    assert "Over 7 days (2013-03-05 to 2013-03-11)" in found.sentence


def test_a_loss_is_worse_where_it_is_higher() -> None:
    days = [
        day(n, 0, None, metrics={"rmse": 20.0 + n / 10}).model_copy(
            update={"previous_champion": PreviousChampionPerformance(version="old", metrics={"rmse": 10.0})}
        )
        for n in range(5)
    ]

    assert compared(days, metric="rmse", margin=1.0).is_worse


@pytest.mark.parametrize(
    ("decided", "former"),
    [
        ([], None),
        ([("promote", "a")], None),
        ([("promote", "a"), ("promote", "b")], "a"),
        ([("promote", "a"), ("promote", "b"), ("reject", "b")], "a"),
        ([("promote", "a"), ("promote", "b"), ("rollback", "a")], None),
        ([("promote", "a"), ("promote", "b"), ("rollback", "a"), ("promote", "c")], "a"),
        ([("promote", "a"), ("promote", "b"), ("rollback", "a"), ("promote", "b")], None),
    ],
)
def test_a_new_champion_is_compared_with_its_predecessor_and_a_returning_one_with_no_other(
    decided: list[Step], former: str | None
) -> None:
    assert former == former_version(log(*decided))
