from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.evaluation import DailyLoss, Interval
from ml_assets.contracts.artifacts.monitoring import DriftSummary, PerformanceSummary
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.monitoring.retraining import (
    MOST,
    SLACK,
    RetrainingFinding,
    Serving,
    decide,
    drift_finding,
    performance_finding,
)
from tests.logic.simulated import RULES as RETRAINING
from tests.records import record

FIRST = date(2013, 6, 1)
LIMIT = 4.0
RULES = replace(RETRAINING, performance_limit=LIMIT, cool_down_days=7)
CHAMPION = Serving(
    "v1", FIRST, 1_000, DailyLoss(mean=0.01, standard_deviation=0.05, days=14, rows_per_day=100), promised=0.7
)


def drifted(*days: bool | None) -> list[DriftSummary]:
    """Return days that are over, under, or not judged."""
    return [
        record(
            DriftSummary, day=FIRST + timedelta(days=number), first_day=FIRST + timedelta(days=number),
            is_over=bool(is_over), weighted_excess_psi=None if is_over is None else 0.3 * is_over,
        )
        for number, is_over in enumerate(days)
    ]  # fmt: skip


def after_falls(falls: Sequence[float], *, labelled: int = 900, version: str = "v1") -> RetrainingFinding:
    """Return what days say that fell behind by so many standard deviations more than days do."""
    usual = CHAMPION.daily_loss
    assert usual is not None
    days = [
        record(
            PerformanceSummary, model_version=version, day=FIRST + timedelta(days=number), predictions=900,
            labelled=labelled, expected={"roc_auc": 0.9}, expected_labelled={"roc_auc": 0.7},
            measured={
                "roc_auc": Interval(value=0.7 - usual.mean - fall * usual.standard_deviation, low=None, high=None)
            },
        )
        for number, fall in enumerate(falls)
    ]  # fmt: skip
    return performance_finding(days, CHAMPION, RULES, find_metric("roc_auc", "binary"))


def asks(*days: bool | None) -> bool:
    return drift_finding(drifted(*days), CHAMPION, RULES).is_over


def test_drift_requests_a_retraining_if_two_of_the_last_three_judged_days_are_over() -> None:
    assert asks(True, False, True)
    assert asks(True, None, None, True)
    assert not asks(True, False, False, True)
    assert not asks(True)
    assert not asks()


def test_days_that_are_not_judged_are_neither_over_nor_within() -> None:
    nothing, gaps = (
        drift_finding(drifted(None, None), CHAMPION, RULES),
        drift_finding(drifted(True, None, False), CHAMPION, RULES),
    )

    assert (False, False) == (nothing.is_judged, nothing.is_over)
    assert nothing.sentence.startswith("Drift is not judged on any of 2 days of this champion")
    assert gaps.is_judged
    assert "1 of the last 2 judged days are over their drift limits; 1 day among them not judged" in gaps.sentence


def test_days_that_were_judged_together_count_once() -> None:
    def together(*days: bool) -> bool:
        pooled = [it.model_copy(update={"first_day": it.day - timedelta(days=2)}) for it in drifted(*days)]
        return drift_finding(pooled, CHAMPION, RULES).is_over

    assert not together(True, True, True), "the same rows three times"
    assert together(True, False, False, True), "the first period ends before the second begins"


def test_performance_without_a_promise_to_compare_with_is_not_judged() -> None:
    silent = record(PerformanceSummary, day=FIRST, measured={"roc_auc": Interval(value=0.2, low=None, high=None)})

    found = performance_finding([silent], replace(CHAMPION, promised=None), RULES, find_metric("roc_auc", "binary"))

    assert (False, False) == (found.is_judged, found.is_over)
    assert found.sentence.startswith("Performance is not judged: ")


@given(st.floats(-5, 1e6), st.lists(st.floats(-5, SLACK), max_size=10))
def test_a_single_day_never_requests_a_retraining(bad: float, others: list[float]) -> None:
    assert MOST - SLACK < LIMIT
    assert not after_falls([*others, bad]).is_over


@given(st.lists(st.floats(-5, SLACK), max_size=30))
def test_losses_within_the_slack_never_request_a_retraining(falls: list[float]) -> None:
    assert after_falls(falls).is_over is False


@given(st.lists(st.floats(-5, 8), max_size=10), st.floats(0, 3))
def test_a_worse_newest_day_never_takes_a_request_back(falls: list[float], more: float) -> None:
    less, worse = (after_falls([*falls, by]).is_over for by in (1.0, 1.0 + more))

    assert worse >= less


def test_three_days_with_a_loss_of_three_deviations_request_a_retraining_and_of_two_do_not() -> None:
    assert after_falls([0, 0, 3, 3, 3]).is_over
    assert not after_falls([0, 0, 2, 2, 2]).is_over


def test_days_with_too_few_labels_and_those_of_another_champion_are_left_out() -> None:
    assert after_falls([4] * 5, labelled=600).sentence == "Performance is not judged: none of 5 days has enough labels."
    assert not after_falls([4] * 5, version="v0").is_over


@pytest.mark.parametrize(
    ("rejections", "sentence"),
    [
        (0, "the cool-down is 7 days."),
        (1, "the cool-down is 14 days, doubled once for 1 rejected challenger."),
        (2, "the cool-down is 28 days, doubled twice for 2 rejected challengers."),
        (3, "the cool-down is 56 days, doubled 3 times for 3 rejected challengers."),
        (9, "the cool-down is 56 days, doubled 3 times for 9 rejected challengers."),
    ],
)
def test_a_postponed_request_reports_how_often_the_cool_down_was_doubled(rejections: int, sentence: str) -> None:
    asking = RetrainingFinding("drift", is_over=True, day=FIRST, sentence="It drifts.", change="")
    champion = replace(CHAMPION, rejections=rejections)

    found = decide([asking], day=FIRST + timedelta(days=1), champion=champion, history=[], rules=RULES)

    assert found.is_held
    assert found.sentence.endswith(sentence)
