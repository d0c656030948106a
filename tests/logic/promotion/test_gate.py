from dataclasses import replace
from datetime import date
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.evaluation import EvaluationSummary, Interval
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.jackknife import Clusters
from ml_assets.logic.evaluation.metrics import METRICS
from ml_assets.logic.inspection.lone_columns import LonePredictor
from ml_assets.logic.point_in_time.suspects import LeakFindings
from ml_assets.logic.promotion.comparisons import Attempt, ChampionRule
from ml_assets.logic.promotion.gate import GateLimits, ServingCost, Verdict, judge
from tests.logic.gate import compared, comparison, report, slices

figures = st.floats(-0.2, 0.2).map(lambda value: round(value, 4))


def scored(skill: float, *, seed: int) -> np.ndarray:
    signal = np.random.default_rng(1).normal(size=400)
    return skill * signal + (1 - skill) * np.random.default_rng(seed).normal(size=400)


def duel(challenger: np.ndarray, champion: np.ndarray, *, days: int = 20) -> EvaluationSummary:
    truth = np.random.default_rng(2).random(400) < 1 / (1 + np.exp(-2 * np.random.default_rng(1).normal(size=400)))
    against = compared(METRICS["roc_auc"], truth, challenger, champion, Clusters.of_days(np.arange(400) % days))
    return report(champion=against)


LEAKS = LeakFindings(is_tested=True, cuts=50, cut_days=10, rows=900, days=9, untested=0)
SUSPECT = LonePredictor("late_hours", power=0.9, rest=0.01)


@pytest.mark.parametrize(
    ("leaks", "expected", "reason"),
    [
        (LEAKS, "promoted", "No leak was found in 900 rows; 50 prediction times on 10 days miss a leak that"),
        (replace(LEAKS, proven=("column 'kg' knows.",)), "rejected", "column 'kg' knows."),
        (replace(LEAKS, untested=3), "rejected", "Not tested for leaks: 3 of 9 days of features."),
        (replace(LEAKS, is_tested=False, cuts=0, untested=9), "promoted", "the declaration turns the test off"),
        (replace(LEAKS, suspects=(SUSPECT,)), "waits", "column 'late_hours' alone explains 90.0%"),
        (replace(LEAKS, suspects=(SUSPECT,), proven=("column 'kg' knows.",)), "rejected", "column 'kg' knows."),
    ],
    ids=["none", "proven", "not tested", "test turned off", "suspect", "suspect and proven"],
)
def test_a_proven_leak_is_rejected_and_a_suspected_one_waits(leaks: LeakFindings, expected: str, reason: str) -> None:
    verdict = judge(report(), GateLimits(), leaks=leaks)

    assert expected == ("waits" if verdict.waits else "promoted" if verdict.promote else "rejected")
    assert reason in verdict.reasons[0]


def test_a_first_challenger_needs_only_to_beat_the_baselines() -> None:
    verdict = judge(report(), GateLimits())

    assert verdict.promote
    assert "There is no champion yet: the baselines decide, at 97.5 % confidence (attempt 1)." == verdict.reasons[-1]


DOUBTFUL = comparison(-0.001, 0.05, against="rate by depot")
REJECTED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "may not beat a baseline": (
        {"baselines": (comparison(0.1, 0.2, against="constant"), DOUBTFUL)}, {},
        (
            "Is not shown to beat the baseline 'rate by depot': roc_auc 0.7000 against 0.6755, difference +0.0245 "
            "[-0.0010, +0.0500] (above zero is better); lower bound -0.0010 at 97.5 % confidence."
        ),
    ),
    "was rolled back": ({}, {"attempt": Attempt(was_left=True)}, "Only a person can promote it"),
    "is the champion": (
        {"champion": comparison(0.0, 0.0), "champion_version": "new"}, {"margin": 0.1},
        "The challenger is the champion (new).",
    ),
    "is a copy of the champion": ({"champion": comparison(0.0, 0.0)}, {"margin": 0.1}, "whichever of the"),
    "is worse than the champion": (
        {"champion": comparison(-0.03, -0.02)}, {"margin": 0.01},
        "Is worse than champion old by more than the margin of 0.01: roc_auc 0.7000",
    ),
    "may be worse than the champion": (
        {"champion": comparison(-0.03, 0.02)}, {"margin": 0.01}, "May be worse than champion old",
    ),
    "may not be better than the champion": (
        {"champion": comparison(-0.01, 0.03, value=0.01, bound=-0.001)}, {"margin": 0.005, "rule": "superiority"},
        "Is not shown to be better than champion old: roc_auc 0.7000 against",
    ),
    "is better by less than the margin": (
        {"champion": comparison(-0.01, 0.03, value=0.004, bound=0.001)}, {"margin": 0.005, "rule": "superiority"},
        "Is better than champion old, but not by the margin of 0.005: ",
    ),
    "contradicts the declaration": (
        {}, {"cannot_answer": ("its task is binary; the declaration has regression.",)},
        "Does not match the declaration: its task is binary",
    ),
    "was measured on rows that a model has learned from": (
        {"champion_version": "old", "last_seen_day": date(2013, 10, 31), "seen_rows": 900}, {},
        (
            "900 of the 1,000 test rows are from days up to 2013-10-31, which were used to train or tune the "
            "challenger, the champion or the anchor, and the other rows are too few. Use a later as-of day, or a "
            "longer test_days."
        ),
    ),
    "loses a slice": (
        {"champion": comparison(0.01, 0.03)}, {"slices": slices(("north", -0.2, -0.1), ("south", 0.01, 0.03))},
        "on depot=north (500 rows of 20 days: roc_auc 0.7000 against 0.8500, -0.1500 [-0.2000, -0.1000]). Slices are",
    ),
}  # fmt: skip


def judged(evaluation: dict[str, Any], options: dict[str, Any]) -> Verdict:
    """Judge a report; the options are limits of the gate and arguments of `judge`."""
    limits = {name: options[name] for name in options if hasattr(GateLimits(), name)}
    others = {name: options[name] for name in options if name not in limits}
    return judge(report(**evaluation), GateLimits(**limits), **others)


@pytest.mark.parametrize("case", REJECTED)
def test_a_challenger_is_rejected_with_the_one_reason(case: str) -> None:
    evaluation, options, reason = REJECTED[case]

    verdict = judged(evaluation, options)

    assert not verdict.promote
    assert (1, True) == (len(verdict.reasons), reason in verdict.reasons[0])


def test_a_difference_that_rounds_to_zero_is_written_without_a_minus() -> None:
    equal = comparison(-0.00001, 0.00001, value=-0.00002, against="constant")
    verdict = judge(report(baselines=(equal,)), GateLimits())

    assert "difference +0.0000 [+0.0000, +0.0000] (above" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("low", "high", "margin", "promote"),
    [
        (0.01, 0.03, 0.0, True), (-0.004, 0.02, 0.005, True), (-0.0051, 0.02, 0.005, False),
        (-0.03, -0.02, 0.005, False), (-0.03, -0.02, 0.03, True),
    ],
)  # fmt: skip
def test_the_lower_end_of_the_difference_decides_against_the_margin(
    low: float, high: float, margin: float, *, promote: bool
) -> None:
    assert promote == judge(report(champion=comparison(low, high)), GateLimits(margin=margin)).promote


@pytest.mark.parametrize(
    ("bound", "value", "margin", "promote"),
    [
        (0.001, 0.005, 0.005, True), (-0.0001, 0.005, 0.005, False), (-0.001, 0.02, 0.005, False),
        (0.001, 0.0049, 0.005, False), (0.001, 0.002, 0.0, True),
    ],
)  # fmt: skip
def test_superiority_requires_a_bound_above_zero_and_a_difference_of_the_margin(
    bound: float, value: float, margin: float, *, promote: bool
) -> None:
    champion = comparison(-0.01, 0.03, value=value, bound=bound)

    assert promote == judge(report(champion=champion), GateLimits(margin=margin, rule="superiority")).promote


def test_the_one_sided_bound_decides_and_not_the_two_sided_interval() -> None:
    champion = comparison(-0.006, 0.02, bound=-0.004)

    verdict = judge(report(champion=champion), GateLimits(margin=0.005))

    assert verdict.promote
    assert "[-0.0060, +0.0200] (above zero is better); lower bound -0.0040 at 97.5 % confidence" in verdict.reasons[-1]
    assert pytest.approx(-0.004) == verdict.figures["difference to the champion, bound"]


def test_with_too_few_days_nothing_is_decided_and_the_gate_states_how_many_are_enough() -> None:
    few = duel(scored(0.9, seed=11), scored(0.1, seed=12), days=4)

    verdict = judge(few, GateLimits(margin=0.1))

    assert not verdict.promote
    reason = "cannot decide with 4 days that have both classes; at least 5 are needed. Use a longer test_days"
    assert reason in verdict.reasons[0]
    assert judge(duel(scored(0.9, seed=11), scored(0.1, seed=12), days=5), GateLimits(margin=0.1)).promote


def test_a_figure_without_an_interval_satisfies_no_bound_and_beats_no_baseline() -> None:
    unknown = Interval(value=0.03, low=None, high=None, reason="cannot decide with 4 days; at least 5 are needed")
    baseline = comparison(0.1, 0.2, against="constant", standard_error=None, degrees_of_freedom=None).model_copy(
        update={"difference": unknown}
    )
    verdict = judge(
        report(baselines=(baseline,), metrics={"calibration_error": unknown}),
        GateLimits(bounds={"calibration_error": 0.05}),
    )

    assert not verdict.promote
    assert ["baseline constant", "bound calibration_error"] == [it.name for it in verdict.rules if not it.holds]
    assert all("cannot decide with 4 days; at least 5 are needed" in it for it in verdict.reasons)


def test_all_failures_and_nothing_else_are_reported_at_once() -> None:
    evaluation = report(baselines=(comparison(-0.1, 0.1, against="constant"),), champion=comparison(-0.1, 0.1))
    verdict = judge(
        evaluation,
        GateLimits(margin=0.01, min_rows=2_000, bounds={"calibration_error": 0.01}),
        slices=slices(("north", -0.2, -0.1)),
    )

    expected = ["rows", "baseline constant", "bound calibration_error", "champion", "slices"]
    assert expected == [rule.name for rule in verdict.rules if not rule.holds]
    assert tuple(rule.sentence for rule in verdict.rules if not rule.holds) == verdict.reasons


def test_a_promotion_reports_every_rule_with_its_figures() -> None:
    verdict = judge(
        report(champion=comparison(0.01, 0.03)),
        GateLimits(margin=0.002, bounds={"calibration_error": 0.05}),
        cannot_answer=(),
        slices=slices(("north", -0.01, 0.03), ("south", 0.0, 0.04)),
    )

    assert verdict.promote
    assert "Matches the declaration." in verdict.reasons
    assert tuple(rule.sentence for rule in verdict.rules) == verdict.reasons
    of = "difference on depot=north"
    expected = {
        "roc_auc": 0.7, "margin": 0.002, "calibration_error": 0.03, "ceiling of calibration_error": 0.05,
        "difference to the champion, low": 0.01, "difference to baseline constant, bound": 0.1,
        of: 0.01, f"{of}, low": -0.01, f"{of}, high": 0.03, f"{of}, rows": 500.0, f"{of}, days": 20.0,
        "difference on depot=south": 0.02,
    }  # fmt: skip
    assert pytest.approx(expected) == {name: verdict.figures[name] for name in expected}
    assert (
        "; the lowest difference is that of depot=north (500 rows of 20 days: roc_auc 0.7000 against 0.6900, +0.0100"
        in verdict.reasons[-1]
    )


@pytest.mark.parametrize(("correlation", "warns"), [(0.6, True), (0.59, False)])
def test_days_more_alike_than_the_interval_allows_for_are_reported(correlation: float, *, warns: bool) -> None:
    alike = comparison(0.01, 0.03, correlation=correlation)
    verdict = judge(report(champion=alike, baselines=(alike,)), GateLimits())

    warning = "Neighbouring days may have a correlation above 0.6, which the interval does not allow for"
    assert [warns, warns] == [
        warning in it.sentence for it in verdict.rules if it.name in ("baseline champion", "champion")
    ]


@pytest.mark.parametrize(
    ("bounds", "promote"),
    [({"calibration_error": 0.02}, True), ({"calibration_error": 0.019}, False), ({"roc_auc": 0.72}, True),
     ({"roc_auc": 0.721}, False)],
)  # fmt: skip
def test_a_bound_is_broken_if_the_whole_interval_is_on_its_wrong_side(
    bounds: dict[str, float], *, promote: bool
) -> None:
    verdict = judge(report(), GateLimits(bounds=bounds))

    assert promote == verdict.promote


def test_a_figure_beyond_its_bound_by_noise_is_reported_as_such() -> None:
    def sentence(ceiling: float) -> str:
        rules = judge(report(), GateLimits(bounds={"calibration_error": ceiling})).rules
        return next(rule.sentence for rule in rules if rule.name == "bound calibration_error")

    figures = "calibration_error 0.0300 [0.0200, 0.0400] is"
    assert f"{figures} within the declared ceiling of 0.03." == sentence(0.03)
    assert f"{figures} not significantly above the declared ceiling of 0.025." == sentence(0.025)
    assert f"{figures} significantly above the declared ceiling of 0.01." == sentence(0.01)


@pytest.mark.parametrize(
    ("evaluation", "options", "message"),
    [
        ({}, {"bounds": {"brier": 0.2}}, "has a limit for 'brier', which its evaluation does not have; it has roc_auc"),
        ({}, {"margin": -0.1}, r"are -0\.1 and 0; expected numbers from 0"),
        ({"champion_version": "old"}, {}, "names champion old but does not compare with it"),
    ],
)
def test_what_contradicts_itself_is_an_error(evaluation: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        judged(evaluation, options)


SEEN = date(2013, 10, 31)


def test_rows_that_neither_model_was_trained_on_are_reported_as_such() -> None:
    verdict = judge(report(last_seen_day=SEEN), GateLimits())

    assert verdict.promote
    assert "None of these rows was used to train or tune the challenger; the last day that was used is 2013-10-31." in (
        verdict.reasons
    )


def test_rows_left_out_are_counted_and_the_rest_decides_if_it_is_enough() -> None:
    evaluation = report(champion=comparison(0.01, 0.03), last_seen_day=SEEN, excluded_rows=400)
    verdict = judge(evaluation, GateLimits())
    sentence = (
        "400 test rows from days up to 2013-10-31 are excluded, because they were used to train or tune the "
        "challenger, the champion or the anchor; 1,000 rows remain."
    )

    assert verdict.promote
    assert sentence in verdict.reasons
    assert 400 == verdict.figures["excluded rows"]
    assert not judge(evaluation, GateLimits(min_rows=1_001)).promote


@pytest.mark.parametrize(("limit", "promote"), [(2.0, True), (1.9, False), (None, True)])
def test_a_cost_is_a_rule_where_a_limit_is_declared(limit: float | None, *, promote: bool) -> None:
    cost = ServingCost("latency", "The median time to score one row is", 2.0, limit, "ms")
    verdict = judge(report(), GateLimits(), costs=[cost])

    assert promote == verdict.promote
    assert (limit is not None) == ("latency, ms" in verdict.figures)
    if limit == 1.9:
        assert verdict.reasons == ("The median time to score one row is 2 ms, above the declared 1.9 ms.",)


def test_slices_too_small_to_judge_reject_no_challenger_and_ten_are_named() -> None:
    small = slices(*((f"{number:02}", -0.2, -0.1) for number in range(13)), is_judged=False)
    verdict = judge(report(champion=comparison(0.01, 0.03)), GateLimits(), slices=small)

    assert verdict.promote
    assert "Not judged: 13, depot=00 (500 rows, fewer than 1000), " in verdict.reasons[-1]
    assert "depot=09 (500 rows, fewer than 1000) and 3 more." in verdict.reasons[-1]


def test_a_slice_may_lose_as_much_as_its_margin() -> None:
    evaluation, north = report(champion=comparison(0.01, 0.03)), slices(("north", -0.04, -0.02))

    assert not judge(evaluation, GateLimits(), slices=north).promote
    assert judge(evaluation, GateLimits(slice_margin=0.03), slices=north).promote


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.05), st.sampled_from(get_args(ChampionRule)))
def test_the_gate_accepts_no_copy_of_the_champion_and_judges_a_copy_of_the_challenger_alike(
    skill_a: float, skill_b: float, margin: float, rule: ChampionRule
) -> None:
    a, b = scored(skill_a, seed=11), scored(skill_b, seed=12)

    verdict = judge(duel(a, b), GateLimits(margin=margin, rule=rule))

    assert not judge(duel(b.copy(), b), GateLimits(margin=margin, rule=rule)).promote
    assert verdict == judge(duel(a.copy(), b), GateLimits(margin=margin, rule=rule))


@given(figures, figures, figures, st.floats(0, 0.1), st.floats(0, 0.1))
def test_non_inferiority_accepts_what_superiority_accepts_and_a_wider_margin_what_a_narrower_one_accepts(
    one: float, other: float, bound: float, margin: float, more: float
) -> None:
    evaluation = report(champion=comparison(min(one, other), max(one, other), bound=bound))

    superior = judge(evaluation, GateLimits(margin=margin, rule="superiority")).promote
    accepted = judge(evaluation, GateLimits(margin=margin, rule="non_inferiority")).promote

    assert superior <= accepted <= judge(evaluation, GateLimits(margin=margin + more)).promote
