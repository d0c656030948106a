"""What follows for a challenger online from the days on which it and the champion were measured."""

from datetime import UTC, datetime, timedelta

import pytest

from ml_assets.contracts.artifacts.monitoring import PerformanceSummary
from ml_assets.contracts.decisions import Promotion
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.promotion.log import online, shadowed, waiting
from ml_assets.logic.promotion.online import OnlineResult, OnlineRules, next_step
from tests.builders import promotion
from tests.logic.promotion.test_watch import FIRST, day

RULES = OnlineRules(shares=(0.1, 0.5), days=5, margin=0.01, coverage=0.8)
NOISE = (0.002, -0.001, 0.001, -0.002, 0.0)


def entry(share: float = 0.0, number: int = 3) -> Promotion:
    decided = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
    return promotion(number, champion="old").model_copy(
        update={"action": "online", "challenger": "new", "share": share, "decided_at": decided}
    )


def days(count: int, difference: float) -> list[PerformanceSummary]:
    return [day(n + 1, 0.7 + difference + NOISE[n % 5], 0.7) for n in range(count)]


def step(
    count: int, difference: float = 0.0, *, share: float = 0.0, since: int = 0, rules: OnlineRules = RULES
) -> OnlineResult:
    return next_step(
        entry(share), FIRST + timedelta(days=since), days(count, difference), rules, find_metric("roc_auc", "binary")
    )


def test_a_step_lasts_the_declared_days_and_the_next_one_has_the_next_share() -> None:
    steps = [(share, since, step(count, share=share, since=since)) for count, share, since in (
        (4, 0.0, 0), (5, 0.0, 0), (9, 0.1, 5), (10, 0.1, 5), (14, 0.5, 10), (15, 0.5, 10),
    )]  # fmt: skip

    assert [
        ("stays", 0.0), ("widens", 0.1), ("stays", 0.1), ("widens", 0.5), ("stays", 0.5), ("passed", 0.5),
    ] == [(it.step, it.share) for _, _, it in steps]  # fmt: skip
    assert "4 days of the 5 of this step have figures." in steps[0][2].sentence
    assert steps[1][2].sentence.endswith("It answers 10% of the keys from now on.")


def test_a_challenger_that_is_shown_to_be_worse_is_withdrawn_in_any_step() -> None:
    found = [step(count, -0.05, share=share, since=since) for count, share, since in ((5, 0.0, 0), (7, 0.1, 5))]

    assert [("withdrawn", 0.0)] * 2 == [(it.step, it.share) for it in found]
    assert "between challenger new and old on the same rows is -0.0500, at most" in found[0].sentence
    # 15 days of three steps, of which the first five give no look: eleven looks share the error rate.
    assert 1 - 0.05 / 11 == pytest.approx(found[0].compared.figures["confidence"])


def test_a_challenger_within_the_margin_is_not_withdrawn() -> None:
    assert "widens" == step(5, -0.009).step


def test_without_shares_nothing_follows_however_bad_it_is() -> None:
    found = step(14, -0.2, rules=OnlineRules((), 14, 0.0, 0.8))

    assert ("stays", 0.0) == (found.step, found.share)
    assert "worse by more than the margin of 0. It answers no request, because no canary is declared." in found.sentence


def test_a_withdrawal_or_another_champion_ends_what_an_entry_began() -> None:
    first = promotion(1, champion="old")
    rejected = first.model_copy(update={"number": 2, "action": "reject", "challenger": "new"})
    begun, wider = entry(), entry(0.1, number=4)
    withdrawn = wider.model_copy(update={"number": 5, "action": "withdraw", "share": None, "decided_by": "shadow"})
    other = rejected.model_copy(update={"number": 5, "challenger": "third"})

    assert [None, begun, wider, wider, None, None] == [
        online(it)
        for it in (
            [first, rejected], [first, rejected, begun], [first, rejected, begun, wider],
            [first, rejected, begun, wider, other], [first, rejected, begun, wider, withdrawn],
            [first, rejected, begun, wider, promotion(5, champion="new")],
        )
    ]  # fmt: skip
    assert ("new",) == shadowed([first, rejected, begun, wider], most=2)
    assert () == shadowed([first, rejected, begun, wider, withdrawn], most=2)


def test_a_challenger_that_waits_for_a_person_goes_on_waiting_while_it_is_online() -> None:
    first = promotion(1, champion="old")
    waits = first.model_copy(update={"number": 2, "action": "request_approval", "challenger": "new"})

    assert waits == waiting([first, waits, entry()])
