from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.artifacts import Comparison, EvaluationSummary, Interval
from ml_assets.contracts.errors import DataError
from ml_assets.logic.champion import failing_slices, judge
from ml_assets.logic.evaluation import SLICES_SCHEMA
from ml_assets.logic.metrics import METRICS, paired_bootstrap

figures = st.floats(-0.2, 0.2).map(lambda value: round(value, 4))


def comparison(low: float, high: float, *, against: str = "champion", rows: int = 1_000) -> Comparison:
    middle = (low + high) / 2
    return Comparison(
        against=against,
        metric="roc_auc",
        challenger=0.7,
        other=0.7 - middle,
        difference=Interval(value=middle, low=low, high=high),
        rows=rows,
    )


def report(
    *,
    baselines: tuple[Comparison, ...] = (comparison(0.1, 0.2, against="constant"),),
    champion: Comparison | None = None,
    **changes: Any,
) -> EvaluationSummary:
    known: dict[str, Any] = {
        "model": "parcels",
        "model_version": "new",
        "training_set_version": "frozen",
        "task": "binary",
        "metric": "roc_auc",
        "rows": 1_000,
        "metrics": {
            "roc_auc": Interval(value=0.7, low=0.68, high=0.72),
            "calibration_error": Interval(value=0.03, low=0.02, high=0.04),
        },
        "baselines": (),
        "against_baselines": baselines,
        "against_champion": champion,
        "champion_version": None if champion is None else "old",
    }
    return EvaluationSummary(**(known | changes))


def slices(*rows: tuple[str, float, float], is_judged: bool = True) -> pl.DataFrame:
    """One row for each (value of depot, low, high) of the difference to the champion."""
    return pl.DataFrame(
        [
            {
                "column": "depot",
                "value": value,
                "rows": 500,
                "target_mean": 0.2,
                "metric": "roc_auc",
                "score": 0.7,
                "low": 0.65,
                "high": 0.75,
                "champion_score": 0.7 - (low + high) / 2,
                "difference": (low + high) / 2,
                "difference_low": low,
                "difference_high": high,
                "is_judged": is_judged,
                "reason": "" if is_judged else "500 rows, fewer than 1000",
            }
            for value, low, high in rows
        ],
        schema=SLICES_SCHEMA,
    )


def scored(skill: float, *, seed: int) -> np.ndarray:
    signal = np.random.default_rng(1).normal(size=400)
    return skill * signal + (1 - skill) * np.random.default_rng(seed).normal(size=400)


def duel(challenger: np.ndarray, champion: np.ndarray) -> EvaluationSummary:
    truth = np.random.default_rng(2).random(400) < 1 / (1 + np.exp(-2 * np.random.default_rng(1).normal(size=400)))
    against = paired_bootstrap(
        METRICS["roc_auc"], truth, challenger, champion, against="champion", seed=1, replicates=100
    )
    return report(champion=against)


def test_a_first_challenger_needs_only_to_beat_the_baselines() -> None:
    verdict = judge(report(), margin=0.0)

    assert verdict.promote
    assert any("no champion yet" in reason for reason in verdict.reasons)


def test_a_challenger_that_may_not_beat_a_baseline_is_refused() -> None:
    doubtful = comparison(-0.001, 0.05, against="rate by depot")
    verdict = judge(report(baselines=(comparison(0.1, 0.2, against="constant"), doubtful)), margin=0.0)

    assert not verdict.promote
    assert verdict.reasons == (
        (
            "Does not surely beat the baseline 'rate by depot': roc_auc 0.7000 against 0.6755, difference +0.0245 "
            "[-0.0010, +0.0500] (above zero is better)."
        ),
    )


@pytest.mark.parametrize(
    ("low", "high", "margin", "promote"),
    [
        (0.01, 0.03, 0.0, True),
        (-0.004, 0.02, 0.005, True),
        (-0.005, 0.02, 0.005, True),
        (-0.006, 0.02, 0.005, False),
        (-0.03, -0.02, 0.005, False),
        (-0.03, -0.02, 0.03, True),
    ],
)
def test_the_lower_end_of_the_difference_decides_against_the_margin(
    low: float, high: float, margin: float, *, promote: bool
) -> None:
    assert promote == judge(report(champion=comparison(low, high)), margin=margin).promote


def test_a_refusal_tells_a_worse_challenger_from_an_uncertain_one() -> None:
    worse = judge(report(champion=comparison(-0.03, -0.02)), margin=0.01)
    uncertain = judge(report(champion=comparison(-0.03, 0.02)), margin=0.01)

    assert worse.reasons[0].startswith("Is worse than champion old by more than the margin of 0.01: roc_auc 0.7000")
    assert uncertain.reasons[0].startswith("May be worse than champion old")


def test_a_version_that_was_rolled_back_from_comes_back_by_a_person_only() -> None:
    verdict = judge(report(), margin=0.0, was_left=True)

    assert not verdict.promote
    assert "only a person lets it in again" in verdict.reasons[0]


def test_the_champion_is_not_promoted_over_itself() -> None:
    verdict = judge(report(champion=comparison(0.0, 0.0), champion_version="new"), margin=0.1)

    assert not verdict.promote
    assert verdict.reasons == ("The challenger is the champion (new).",)


def test_a_copy_of_the_champion_under_another_version_is_refused() -> None:
    verdict = judge(report(champion=comparison(0.0, 0.0)), margin=0.1)

    assert not verdict.promote
    assert "nothing to gain" in verdict.reasons[0]


def test_all_failures_are_told_at_once_and_nothing_else() -> None:
    evaluation = report(baselines=(comparison(-0.1, 0.1, against="constant"),), champion=comparison(-0.1, 0.1))
    verdict = judge(
        evaluation,
        margin=0.01,
        minimum_rows=2_000,
        bounds={"calibration_error": 0.02},
        slices=slices(("north", -0.2, -0.1)),
    )

    assert [rule.name for rule in verdict.rules if not rule.holds] == [
        "rows",
        "baseline constant",
        "bound calibration_error",
        "champion",
        "slices",
    ]
    assert tuple(rule.sentence for rule in verdict.rules) == verdict.reasons


def test_a_promotion_tells_every_rule_with_its_figures() -> None:
    verdict = judge(
        report(champion=comparison(0.01, 0.03)),
        margin=0.002,
        bounds={"calibration_error": 0.05},
        slices=slices(("north", -0.01, 0.05)),
    )

    assert verdict.promote
    assert tuple(rule.sentence for rule in verdict.rules) == verdict.reasons
    assert {
        "roc_auc": 0.7,
        "margin": 0.002,
        "calibration_error": 0.03,
        "ceiling of calibration_error": 0.05,
    }.items() <= (verdict.figures.items())
    assert verdict.figures["difference to the champion, low"] == 0.01


@pytest.mark.parametrize(
    ("bounds", "promote"),
    [
        ({"calibration_error": 0.03}, True),
        ({"calibration_error": 0.029}, False),
        ({"roc_auc": 0.7}, True),
        ({"roc_auc": 0.71}, False),
    ],
)
def test_a_bound_is_a_floor_or_a_ceiling_as_the_metric_goes(bounds: dict[str, float], *, promote: bool) -> None:
    verdict = judge(report(), margin=0.0, bounds=bounds)

    assert promote == verdict.promote


def test_a_bound_on_what_was_not_measured_is_an_error() -> None:
    with pytest.raises(DataError, match="bounds 'brier', which its evaluation does not have; it has roc_auc"):
        judge(report(), margin=0.0, bounds={"brier": 0.2})


def test_a_negative_margin_is_an_error() -> None:
    with pytest.raises(DataError, match=r"are -0\.1 and 0; expected 0 or more"):
        judge(report(), margin=-0.1)


def test_a_champion_without_a_comparison_is_an_error() -> None:
    with pytest.raises(DataError, match="names champion old but does not compare with it"):
        judge(report(champion_version="old"), margin=0.0)


def test_a_challenger_that_loses_a_slice_is_refused() -> None:
    verdict = judge(
        report(champion=comparison(0.01, 0.03)),
        margin=0.0,
        slices=slices(("north", -0.2, -0.1), ("south", 0.01, 0.03)),
    )

    assert not verdict.promote
    assert "depot=north (500 rows: roc_auc 0.7000 against 0.8500, -0.1500 [-0.2000, -0.1000])" in verdict.reasons[0]
    assert "south" not in verdict.reasons[0]


def test_a_slice_too_small_to_judge_refuses_nobody() -> None:
    evaluation = report(champion=comparison(0.01, 0.03))

    assert judge(evaluation, margin=0.0, slices=slices(("north", -0.2, -0.1), is_judged=False)).promote


def test_a_slice_may_lose_as_much_as_its_margin() -> None:
    evaluation, north = report(champion=comparison(0.01, 0.03)), slices(("north", -0.04, -0.02))

    assert not judge(evaluation, margin=0.0, slices=north).promote
    assert judge(evaluation, margin=0.0, slices=north, slice_margin=0.03).promote


def test_one_slice_in_twenty_may_look_worse_by_chance() -> None:
    equal = [(f"depot {number}", -0.02, 0.02) for number in range(19)]
    doubtful = ("north", -0.041, -0.001)  # outside zero at 95 %, but not among twenty

    assert failing_slices(slices(doubtful), metric="roc_auc", margin=0.0)["value"].to_list() == ["north"]
    assert failing_slices(slices(doubtful, *equal), metric="roc_auc", margin=0.0).is_empty()


def test_slices_that_surely_lose_are_named_worst_first() -> None:
    found = failing_slices(
        slices(("south", -0.1, -0.05), ("west", -0.01, 0.02), ("north", -0.3, -0.2)), metric="roc_auc", margin=0.0
    )

    assert found["value"].to_list() == ["north", "south"]


def test_an_equal_challenger_is_seldom_refused_on_its_slices() -> None:
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(200):
        middles = generator.normal(scale=0.01, size=20)
        frame = slices(*((f"{number}", each - 0.0196, each + 0.0196) for number, each in enumerate(middles)))
        refused += not failing_slices(frame, metric="roc_auc", margin=0.0).is_empty()

    assert refused <= 20  # 5 % of 200, and twice that for chance


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.05))
def test_the_gate_accepts_no_copy_of_the_champion_and_judges_a_copy_of_the_challenger_alike(
    skill_a: float, skill_b: float, margin: float
) -> None:
    a, b = scored(skill_a, seed=11), scored(skill_b, seed=12)

    verdict = judge(duel(a, b), margin=margin)

    assert not judge(duel(b.copy(), b), margin=margin).promote
    assert verdict == judge(duel(a.copy(), b), margin=margin)


@given(figures, figures, st.floats(0, 0.1), st.floats(0, 0.1))
def test_a_wider_margin_refuses_nobody_that_a_narrower_one_lets_in(
    one: float, other: float, margin: float, more: float
) -> None:
    evaluation = report(champion=comparison(min(one, other), max(one, other)))

    assert judge(evaluation, margin=margin).promote <= judge(evaluation, margin=margin + more).promote


@given(figures, figures, st.floats(0, 0.1))
def test_two_models_are_not_each_surely_better_than_the_other(one: float, other: float, margin: float) -> None:
    low, high = min(one, other), max(one, other)
    forth, back = comparison(low, high), comparison(-high, -low)

    worse = judge(report(champion=forth), margin=margin).reasons[0].startswith("Is worse")
    also_worse = judge(report(champion=back), margin=margin).reasons[0].startswith("Is worse")

    assert not (worse and also_worse)
