"""The effect of a budget on a retraining: none, a warning, a postponement, or unknown spending."""

from dataclasses import replace

from ml_assets.logic.monitoring.budget import Spending, hold
from ml_assets.logic.monitoring.retraining import RetrainingDecision, RetrainingFinding

DRIFTED = RetrainingFinding("drift", is_over=True, day=None, sentence="It has drifted.", change="")
ASKS = RetrainingDecision(DRIFTED, "It has drifted.", number=1)
SPENT = Spending("2013-04", 12.4, 10.0, "CHF", "budget.per_month", blocks=True)


def test_a_spent_blocking_budget_postpones_a_retraining_with_its_figures() -> None:
    held = hold(ASKS, SPENT)

    assert (None, True) == (held.finding, held.is_held)
    assert held.sentence == (
        "It has drifted. It is postponed to the next month: spent 12.40 of 10.00 CHF in 2013-04. To retrain now, raise "
        "budget.per_month."
    )


def test_a_spent_warning_budget_allows_a_retraining_and_reports_it() -> None:
    warned = hold(ASKS, replace(SPENT, blocks=False))

    assert (DRIFTED, 1) == (warned.finding, warned.number)
    assert warned.sentence == ("It has drifted. It is requested nevertheless: spent 12.40 of 10.00 CHF in 2013-04.")


def test_unknown_spending_postpones_nothing_and_is_reported() -> None:
    unknown = hold(ASKS, replace(SPENT, spent=None, unknown="there are no prices."))

    assert DRIFTED == unknown.finding
    assert "It has drifted. budget.per_month 10 is not checked: there are no prices." == unknown.sentence


def test_the_budget_is_spent_at_its_last_cent() -> None:
    assert [False, True] == [replace(SPENT, spent=amount).is_over for amount in (9.99, 10.0)]


def test_a_decision_within_the_budget_or_without_a_request_is_unchanged() -> None:
    quiet = RetrainingDecision(None, "Nothing drifts.")

    assert ASKS == hold(ASKS, replace(SPENT, spent=9.0)) == hold(ASKS, None)
    assert quiet == hold(quiet, SPENT)
