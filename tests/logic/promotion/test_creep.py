"""What keeps a series of challengers from drifting downward: the anchor, and a smaller error rate for each attempt."""

from datetime import date
from typing import Any, Final

import numpy as np
import pytest

from ml_assets.contracts.artifacts.evaluation import Comparison, Interval
from ml_assets.contracts.decisions import Promotion
from ml_assets.logic.promotion.comparisons import Attempt
from ml_assets.logic.promotion.gate import GateLimits, Verdict, judge
from ml_assets.logic.promotion.log import GATE, anchor, attempt_number
from tests.logic.gate import comparison, report
from tests.records import record

MARGIN: Final = 0.005


def apart(difference: float, error: float = 1e-4) -> Comparison:
    """A difference that is known with a small standard error."""
    return comparison(difference - 2.093 * error, difference + 2.093 * error, value=difference, standard_error=error)


def judged(
    champion: Comparison | None, against_anchor: Comparison | None = None, *, attempt: int = 1, **changes: Any
) -> Verdict:
    known = {"champion_version": "old", "anchor_version": "first", "against_anchor": against_anchor}
    return judge(report(champion=champion, **(known | changes)), GateLimits(margin=MARGIN), attempt=Attempt(attempt))


@pytest.mark.parametrize(
    ("to_champion", "to_anchor", "expected"),
    [
        (-0.003, -0.004, "promoted"), (-0.003, -0.006, "rejected"), (-0.006, 0.01, "rejected"),
        (0.002, -0.006, "rejected"), (0.002, -0.001, "promoted"), (0.002, 0.001, "new anchor"),
    ],
)  # fmt: skip
def test_a_challenger_must_not_be_worse_than_champion_and_anchor_and_is_the_anchor_if_better_than_both(
    to_champion: float, to_anchor: float, expected: str
) -> None:
    verdict = judged(apart(to_champion), apart(to_anchor))

    assert expected == ("rejected" if not verdict.promote else "new anchor" if verdict.is_anchor else "promoted")


def test_the_anchor_is_named_with_its_own_figures() -> None:
    verdict = judged(apart(0.0), apart(-0.006))

    assert verdict.reasons[0].startswith("Is worse than anchor first by more than the margin of 0.005: roc_auc 0.7000")
    assert ["anchor"] == [rule.name for rule in verdict.rules if not rule.holds]
    assert {"difference to the champion": 0.0, "difference to the anchor": -0.006}.items() <= verdict.figures.items()


@pytest.mark.parametrize(("to_champion", "promote"), [(-0.001, False), (0.0, False), (0.0001, False), (0.002, True)])
def test_without_an_anchor_that_can_score_only_a_better_challenger_is_promoted_and_becomes_the_anchor(
    to_champion: float, *, promote: bool
) -> None:
    verdict = judged(apart(to_champion), anchor_cannot_score="column 'wind' is gone.")

    assert (promote, promote) == (verdict.promote, verdict.is_anchor)
    assert "Anchor first cannot score these rows, so the challenger must be better than the champion" in " ".join(
        verdict.reasons
    )


@pytest.mark.parametrize(("to_anchor", "promote"), [(-0.006, False), (-0.001, True)])
def test_where_the_champion_cannot_score_the_anchor_still_decides(to_anchor: float, *, promote: bool) -> None:
    verdict = judged(None, apart(to_anchor), champion_cannot_score="column 'wind' is gone.")

    assert (promote, False) == (verdict.promote, verdict.is_anchor)


def test_if_neither_champion_nor_anchor_can_score_the_baselines_decide_and_the_challenger_becomes_anchor() -> None:
    gone = "column 'wind' is gone."
    verdict = judged(None, champion_cannot_score=gone, anchor_cannot_score=gone)

    assert verdict.promote
    assert verdict.is_anchor


def test_the_first_champion_is_the_anchor_and_a_champion_that_is_the_anchor_is_compared_with_once() -> None:
    first = judge(report(), GateLimits(margin=MARGIN))
    second = judged(apart(-0.001), anchor_version="old")

    assert first.is_anchor
    assert (True, False) == (second.promote, second.is_anchor)
    assert "anchor" not in [rule.name for rule in second.rules]


def test_the_confidence_rises_with_each_attempt_and_the_error_rates_of_all_sum_to_five_percent() -> None:
    assert pytest.approx([0.975, 0.9916667, 0.9958333]) == [Attempt(k).confidence for k in (1, 2, 3)]
    spent = sum(1 - Attempt(k).confidence for k in range(1, 20_001))
    assert pytest.approx(0.05, abs=1e-5) == spent
    assert spent < 0.05


def test_a_later_attempt_needs_more_evidence_and_reports_its_number() -> None:
    # Quantiles of Student's t with 19 degrees of freedom, as R's qt gives them: 2.0930 at 97.5 %, 2.6251 at 99.17 %.
    close = comparison(-0.009, 0.009, value=0.0, standard_error=0.0021)
    first, second = judged(close, anchor_version="old"), judged(close, anchor_version="old", attempt=2)

    assert (True, 1) == (first.promote, first.attempt)
    assert (False, 2) == (second.promote, second.attempt)
    assert pytest.approx(-2.0930 * 0.0021, abs=1e-6) == first.figures["difference to the champion, bound"]
    assert "lower bound -0.0044 at 97.5 % confidence (attempt 1 since the last promotion)." in " ".join(first.reasons)
    assert "lower bound -0.0055 at 99.17 % confidence (attempt 2 since the last promotion)." in second.reasons[0]
    assert {"attempt": 2.0, "confidence": pytest.approx(0.9916667)}.items() <= second.figures.items()


def test_baselines_are_beaten_at_the_confidence_of_the_attempt_too() -> None:
    close = comparison(-0.009, 0.009, value=0.005, standard_error=0.0021, against="constant")

    assert [True, False] == [
        judge(report(baselines=(close,)), GateLimits(), attempt=Attempt(k)).promote for k in (1, 2)
    ]


def test_an_undecided_comparison_is_no_attempt() -> None:
    unknown = Interval(value=0.01, low=None, high=None, reason="cannot decide with 4 days; at least 5 are needed")
    few = comparison(0.0, 0.0, standard_error=None, degrees_of_freedom=None).model_copy(update={"difference": unknown})
    verdict = judge(report(baselines=(few,), champion=few), GateLimits(margin=MARGIN))

    assert (False, None) == (verdict.promote, verdict.attempt)
    assert (
        "Cannot be compared with champion old: cannot decide with 4 days; at least 5 are needed. Use a longer "
        "test_days, or a later as-of day."
    ) in verdict.reasons


def generations(steps: list[float], *, start: float) -> list[float]:
    """Return the quality of each champion; each challenger differs from the champion by a step.

    Comparisons are exact but for a small error, so that only the rules decide.
    """
    quality, champions, log = {"m0": start}, [start], list[Promotion]()
    days = (date(2013, 11, 1), date(2013, 12, 31))

    def add(version: str, verdict: Verdict | None) -> None:
        promote = verdict is None or verdict.promote
        log.append(
            record(
                Promotion, number=len(log) + 1, action="promote" if promote else "reject",
                champion=version if promote else log[-1].champion, challenger=version, decided_by=GATE,
                is_anchor=verdict is not None and verdict.is_anchor, attempt=None if verdict is None else 1,
                test_days=days,
            )
        )  # fmt: skip

    add("m0", None)
    for number, step in enumerate(steps, start=1):
        champion, first = str(log[-1].champion), str(anchor(log))
        version = f"m{number}"
        quality[version] = quality[champion] + step
        same = champion == first
        verdict = judge(report(
                model_version=version, champion=apart(step, 1e-5), champion_version=champion, anchor_version=first,
                against_anchor=None if same else apart(quality[version] - quality[first], 1e-5),
            ), GateLimits(margin=MARGIN), attempt=Attempt(attempt_number(log, version, days)))  # fmt: skip
        add(version, verdict)
        champions.append(quality[str(log[-1].champion)])
    return champions


def test_fifteen_challengers_each_worse_by_less_than_the_margin_lose_at_most_the_margin_together() -> None:
    champions = generations([-0.00217] * 15, start=0.7414)

    assert 3 == len(set(champions))  # the start and two that were worse by 0.00217 each; the next would be by 0.0065
    assert champions[0] - min(champions) <= MARGIN


def test_in_any_sequence_no_champion_is_worse_than_the_best_earlier_one_by_more_than_the_margin() -> None:
    random = np.random.default_rng(21)
    for _ in range(20):
        champions = np.array(generations([*random.uniform(-0.006, 0.003, 50)], start=0.7))

        losses = np.maximum.accumulate(champions) - champions
        assert losses.max() <= MARGIN + 1e-4  # improvements within the error of a comparison are not noticed
