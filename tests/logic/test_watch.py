"""The watch over a new champion: which days count, and when it is worse."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ml_assets.contracts.artifacts import FormerPerformance, PerformanceSummary, Promotion
from ml_assets.logic.metrics import find_metric
from ml_assets.logic.watch import Comparison, compare_with_former, held_against

FIRST = date(2013, 3, 1)


def day(number: int, auc: float, former: float | None, **fields: Any) -> PerformanceSummary:
    """Return a day on which champion "new" is measured, beside "old" where that has a figure."""
    given: dict[str, Any] = {
        "model": "m", "model_version": "new", "day": FIRST + timedelta(days=number), "predictions": 100,
        "labelled": 100, "metrics": {"roc_auc": auc}, "expected": {},
        "former": None if former is None else FormerPerformance(version="old", metrics={"roc_auc": former}),
    }  # fmt: skip
    return PerformanceSummary.model_validate({**given, **fields})


def compared(days: list[PerformanceSummary], *, margin: float = 0.01, metric: str = "roc_auc") -> Comparison:
    """Compare as a model does that is watched for five days and judged from the third."""
    found = find_metric(metric, "regression" if metric == "rmse" else "binary")
    return compare_with_former(
        days, champion="new", metric=found, watched=5, minimum=3, margin=margin, coverage=0.8
    )  # fmt: skip


def test_a_champion_that_is_worse_every_day_is_worse_with_figures_and_the_version_to_go_back_to() -> None:
    found = compared([day(n, 0.70 + 0.002 * n, 0.76) for n in range(4)])

    assert (True, False, "old") == (found.is_worse, found.is_settled, found.former)
    assert "Over 4 days (2013-03-01 to 2013-03-04) roc_auc of champion new differs by -0.0570 a day" in found.sentence
    assert found.sentence.endswith("worse by more than the margin of 0.01.")
    assert found.figures["difference, at most"] < -0.01


def test_days_that_differ_too_much_or_a_wider_margin_prove_nothing() -> None:
    assert not compared([day(n, 0.7 + 0.2 * (n % 2), 0.82) for n in range(4)]).is_worse
    assert not compared([day(n, 0.70 + 0.002 * n, 0.76) for n in range(4)], margin=0.1).is_worse


def test_before_the_third_day_nothing_is_decided() -> None:
    found = compared([day(n, 0.5, 0.9 + 0.01 * n) for n in range(2)])

    assert (False, False) == (found.is_worse, found.is_settled)
    assert (
        "Not judged: 2 days of champion new are measured beside the one before; at least 3 are needed."
        == found.sentence
    )


def test_only_the_first_days_with_enough_labels_count_and_of_this_champion_alone() -> None:
    bad = [
        day(0, 0.1, 0.9, labelled=79),
        day(1, 0.1, 0.9, model_version="other"),
        day(2, 0.1, None),
        day(3, 0.1, 0.9, metrics={}),
        *(day(n, 0.1, 0.9) for n in range(9, 12)),
    ]
    good = [day(n, 0.80, 0.80 + 0.001 * n, labelled=79, without_label=5) for n in range(4, 9)]

    found = compared([*reversed(bad), *good])

    assert (False, True) == (found.is_worse, found.is_settled)
    assert "Over 5 days (2013-03-05 to 2013-03-09)" in found.sentence


def test_a_loss_is_worse_where_it_is_higher() -> None:
    days = [
        day(n, 0, None, metrics={"rmse": 20.0 + n / 10}).model_copy(
            update={"former": FormerPerformance(version="old", metrics={"rmse": 10.0})}
        )
        for n in range(3)
    ]

    assert compared(days, metric="rmse", margin=1.0).is_worse


# ---------------------------------------------------------------- who is held against whom


def log(*decided: tuple[str, str]) -> list[Promotion]:
    """Return a log of actions and the versions that serve by them."""
    return [
        Promotion(
            number=number, model="m", action=action, champion=champion, challenger=champion, reasons=(),
            decided_at=datetime(2026, 1, 1, tzinfo=UTC), decided_by="gate",
        )
        for number, (action, champion) in enumerate(decided, start=1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("decided", "former"),
    [
        ([], None),
        ([("promote", "a")], None),
        ([("promote", "a"), ("promote", "b")], "a"),
        ([("promote", "a"), ("promote", "b"), ("refuse", "b")], "a"),
        ([("promote", "a"), ("promote", "b"), ("rollback", "a")], None),
        ([("promote", "a"), ("promote", "b"), ("rollback", "a"), ("promote", "c")], "a"),
        ([("promote", "a"), ("promote", "b"), ("rollback", "a"), ("promote", "b")], None),
    ],
)
def test_a_new_champion_is_held_against_the_one_before_and_one_that_comes_back_against_nobody(
    decided: list[tuple[str, str]], former: str | None
) -> None:
    assert former == held_against(log(*decided))
