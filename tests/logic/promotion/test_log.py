from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.training import Feature, Model, ModelSpec, Task
from ml_assets.contracts.decisions import Promotion, RuleRecord
from ml_assets.contracts.table import Column, ContractRecord, TableContract
from ml_assets.logic.promotion.log import (
    Decision,
    anchor,
    attempt_number,
    cannot_answer,
    entry_of,
    left,
    rejections,
    serving_since,
    shadow_attempt,
    shadowed,
    standing,
    waiting,
)
from tests.records import record

AT = datetime(2026, 1, 1, 3, tzinfo=UTC)
Step = tuple[Literal["promote", "reject", "rollback", "request_approval"], str | None]


def log(*steps: Step, by: str = "gate", cause: str | None = None) -> list[Promotion]:
    """Return a log whose entries leave these champions; a refusal is of `x`, and so is who waits."""
    return [
        record(
            Promotion, number=number, action=action, champion=champion,
            challenger=champion if champion and action in ("promote", "rollback") else "x",
            reasons=(f"reason {number}",), cause=cause,
            evaluation_version=f"evaluation {number}", decided_at=AT + timedelta(days=number), decided_by=by,
        )
        for number, (action, champion) in enumerate(steps, start=1)
    ]  # fmt: skip


def promotions(versions: str) -> list[Step]:
    return [("promote", version) for version in versions]


@pytest.mark.parametrize(
    ("steps", "since"),
    [
        ([], None),
        ([("reject", None)], None),
        ([("reject", None), ("promote", "a")], 2),
        ([("promote", "a"), ("reject", "a"), ("reject", "a")], 1),
        ([("promote", "a"), ("promote", "b"), ("rollback", "a"), ("reject", "a")], 3),
    ],
)
def test_a_champion_is_champion_since_the_entry_that_promoted_it(steps: list[Step], since: int | None) -> None:
    entry = serving_since(log(*steps))

    assert since == (None if entry is None else entry.number)


@pytest.mark.parametrize(
    ("steps", "waits"),
    [
        ([], None),
        ([("request_approval", None)], 1),
        ([("promote", "a"), ("request_approval", "a")], 2),
        ([("promote", "a"), ("request_approval", "a"), ("request_approval", "a")], 3),
        ([("promote", "a"), ("request_approval", "a"), ("reject", "a")], None),
        ([("promote", "a"), ("request_approval", "a"), ("promote", "x")], None),
        ([("promote", "a"), ("request_approval", "a"), ("promote", "b")], None),
        ([*promotions("ab"), ("request_approval", "b"), ("rollback", "a")], None),
        ([*promotions("ab"), ("rollback", "a"), ("request_approval", "a")], 4),
    ],
)
def test_a_challenger_is_pending_until_it_is_approved_judged_again_or_another_is_champion(
    steps: list[Step], waits: int | None
) -> None:
    entry = waiting(log(*steps))

    assert waits == (None if entry is None else entry.number)


def test_rejecting_another_challenger_leaves_a_pending_one_pending() -> None:
    entries = log(("promote", "a"), ("request_approval", "a"), ("reject", "a"))
    other = [*entries[:2], entries[2].model_copy(update={"challenger": "y"})]

    assert entries[1] == waiting(other)


def test_a_pending_challenger_was_never_champion() -> None:
    entries = log(("promote", "a"), ("request_approval", "a"))

    assert ("a",) == standing(entries)
    assert frozenset() == left(entries)
    assert entries[0] == serving_since(entries)


def test_a_version_that_was_rolled_back_is_excluded_until_it_is_promoted_again() -> None:
    served: list[Step] = [("promote", "a"), ("promote", "b"), ("rollback", "a")]

    assert {"b"} == left(log(*served))
    assert frozenset() == left(log(*served, ("promote", "b")))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], ""), ([("reject", None)], ""), (promotions("ab"), "ab"),
        ([("promote", "a"), ("reject", "a"), ("promote", "b")], "ab"),
        ([*promotions("abc"), ("rollback", "b")], "ab"), ([*promotions("abc"), ("rollback", "a")], "a"),
        ([*promotions("ab"), ("rollback", "a"), ("promote", "c")], "ac"),
        ([*promotions("ab"), ("rollback", "a"), ("rollback", "b")], "ab"),
        ([*promotions("ab"), ("rollback", "a"), ("promote", "b")], "ab"), (promotions("aba"), "aba"),
    ],
)  # fmt: skip
def test_a_version_that_was_rolled_back_is_skipped_unless_it_was_promoted_again(
    steps: list[Step], expected: str
) -> None:
    assert tuple(expected) == standing(log(*steps))


@given(st.lists(st.tuples(st.sampled_from(["promote", "rollback"]), st.sampled_from("abcd")), max_size=12))
def test_consecutive_rollbacks_go_further_back_until_there_is_no_champion_left(steps: list[Step]) -> None:
    before = standing(log(*steps))
    while len(before) > 1:
        steps = [*steps, ("rollback", before[-2])]
        after = standing(log(*steps))

        assert len(after) < len(before)
        assert before[: len(after)] == after
        before = after


def anchored(steps: str) -> list[Promotion]:
    """Return a log of promotions and rollbacks (`<`); an upper case letter is a version that becomes the anchor."""
    found: list[Promotion] = []
    for step in steps.split():
        action: Literal["promote", "rollback"] = "rollback" if step.startswith("<") else "promote"
        version = step.lstrip("<")
        [entry] = log((action, version.lower()))
        found.append(entry.model_copy(update={"number": len(found) + 1, "is_anchor": version.isupper()}))
    return found


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("", None), ("a", "a"), ("a b c", "a"), ("a b C", "c"), ("a b C d", "c"), ("a b C <b", "a"),
        ("a b C <b d", "a"), ("a B c <a", "a"), ("a B c <a <c", "b"), ("a B c <a D <b", "b"),
    ],
)  # fmt: skip
def test_the_anchor_is_the_last_champion_that_was_better_and_a_rollback_brings_back_the_one_of_that_time(
    steps: str, expected: str | None
) -> None:
    assert expected == anchor(anchored(steps))


def test_neither_a_rejection_nor_a_pending_challenger_changes_the_anchor() -> None:
    better = log(("promote", "a"), ("request_approval", "a"), ("reject", "a"))[1:]

    assert "a" == anchor([*log(("promote", "a")), *(it.model_copy(update={"is_anchor": True}) for it in better)])
    assert None is anchor(log(("reject", None), ("request_approval", None)))


@pytest.mark.parametrize(
    ("action", "is_better", "expected"),
    [("request_approval", True, "x"), ("request_approval", False, "a"), ("reject", False, "x")],
)
def test_an_approval_leaves_the_gates_decision_about_the_anchor_and_promoting_a_rejected_challenger_makes_it_one(
    action: Literal["request_approval", "reject"], *, is_better: bool, expected: str
) -> None:
    first, judged = log(("promote", "a"), (action, "a"))
    entries = [first, judged.model_copy(update={"is_anchor": is_better})]

    assert expected == anchor([*entries, person(entries, "x")])


def test_a_challenger_that_was_rejected_twice_counts_once_and_a_rollback_counts_too() -> None:
    refused = log(("promote", "a"), ("reject", "a"), ("reject", "a"))
    other = refused[2].model_copy(update={"number": 4, "challenger": "y"})
    back = log(*promotions("ab"), ("rollback", "a"), ("reject", "a"))

    assert [0, 1, 2, 2] == [
        rejections(entries, serving_since(entries)) for entries in (refused[:1], refused, [*refused, other], back)
    ]
    assert 0 == rejections([], None)


APRIL = (date(2013, 4, 1), date(2013, 4, 14))
LATE_APRIL = (date(2013, 4, 14), date(2013, 4, 28))
MAY = (date(2013, 5, 1), date(2013, 5, 14))


def tried(entry: Promotion, challenger: str, days: tuple[date, date], *, attempt: int | None = 1) -> Promotion:
    return entry.model_copy(update={"challenger": challenger, "test_days": days, "attempt": attempt})


def test_attempts_are_the_challengers_since_the_last_promotion_whose_test_days_overlap() -> None:
    first, *refused = log(("promote", "a"), *[("reject", "a")] * 4)
    entries = [
        tried(first, "a", APRIL),
        tried(refused[0], "x", APRIL),
        tried(refused[1], "y", MAY),
        tried(refused[2], "z", LATE_APRIL),
        tried(refused[3], "untested", APRIL, attempt=None),
    ]

    assert 3 == attempt_number(entries, "new", APRIL)
    assert 2 == attempt_number(entries, "new", MAY)
    assert 1 == attempt_number(entries[:1], "new", APRIL)
    assert 1 == attempt_number([], "new", APRIL)


def test_a_challenger_judged_again_is_the_same_attempt_on_the_same_days_and_another_one_on_others() -> None:
    entries = [tried(it, who, APRIL) for it, who in zip(log(*[("reject", None)] * 3), "xyx", strict=True)]

    assert [1, 2, 3] == [attempt_number(entries, who, APRIL) for who in "xyz"]
    assert 3 == attempt_number(entries, "x", LATE_APRIL)


def test_a_rollback_does_not_reset_the_count_and_a_promotion_does() -> None:
    first, refused, back, again = log(("promote", "a"), ("reject", "a"), ("rollback", "b"), ("promote", "c"))
    entries = [first, tried(refused, "x", APRIL), back, again]

    assert 2 == attempt_number(entries[:3], "new", APRIL)
    assert 1 == attempt_number(entries, "new", APRIL)


SPEC = record(ModelSpec, features=(Feature(name="wind", dtype="Float64"),))
WIND = Column("wind", pl.Float64(), role="feature", unit="mph")
NOW = TableContract("weather", (WIND, Column("rain", pl.Float64(), role="feature")))


def trained() -> Model:
    return Model("", SPEC, pl.DataFrame(), ContractRecord.of(NOW))


def answers(model: Model, inputs: TableContract, *, task: Task = "binary", target: str = "is_late") -> tuple[str, ...]:
    return cannot_answer(model, task=task, target=target, inputs=inputs)


def test_a_model_of_the_same_contract_can_predict_even_with_additional_columns() -> None:
    new = Column("snow", pl.Float64(), role="feature")

    assert () == answers(trained(), replace(NOW, columns=(*NOW.columns, new)))


def test_a_model_whose_columns_changed_or_that_answers_another_question_cannot_serve() -> None:
    now = TableContract("weather", (replace(WIND, unit="km/h", dtype=pl.Int64()),))

    found = answers(trained(), now, task="regression", target="is_cancelled")

    assert [
        "its task is binary; the declaration has regression.",
        "its target is is_late; the declaration has is_cancelled.",
        "column 'wind' of table 'weather' was Float64 and is now Int64.",
        "column 'wind' of table 'weather' was in mph and is now in km/h.",
    ] == [*found]
    gone = TableContract("weather", NOW.columns[1:])
    assert ("column 'wind' of table 'weather' no longer exists; the model reads it.",) == answers(trained(), gone)


def person(entries: list[Promotion], version: str, *, action: Literal["promote", "rollback"] = "promote") -> Promotion:
    decision = Decision(action, version, "it is needed", by="sam", at=AT, entry_id="1f3a")
    return entry_of(entries, decision, model="late")


def test_an_entry_has_the_next_number_the_reason_the_author_and_the_time() -> None:
    entry = person(log(*promotions("ab")), "a", action="rollback")

    assert (3, "late", "rollback", "a", "a") == (
        entry.number, entry.model, entry.action, entry.champion, entry.challenger
    )  # fmt: skip
    assert ("it is needed", "sam", AT, "1f3a") == (entry.reasons[0], entry.decided_by, entry.decided_at, entry.id)


def test_an_entry_repeats_the_last_verdict_of_the_gate_and_names_its_evidence() -> None:
    refused = person(log(("promote", "a"), ("reject", "a"), ("reject", "a")), "x")
    promoted = person(log(*promotions("ab")), "a")

    assert ("it is needed", "The gate rejected it in entry 3: reason 3") == refused.reasons
    assert "evaluation 3" == refused.evaluation_version
    assert ("it is needed", "The gate promoted it in entry 1: reason 1") == promoted.reasons
    assert "evaluation 1" == promoted.evaluation_version


def test_approving_a_pending_challenger_records_that_the_gate_passed_it_and_its_cause() -> None:
    entries = log(("promote", "a"), ("request_approval", "a"), cause="drift")
    entry = person(entries, "x")

    assert ("it is needed", "The gate passed it in entry 2: reason 2") == entry.reasons
    assert ("drift", "evaluation 2") == (entry.cause, entry.evaluation_version)
    assert None is person(entries, "a", action="rollback").cause


def test_the_reason_of_a_person_does_not_count_as_the_gates_verdict() -> None:
    entry = person([*log(("promote", "a")), *log(("promote", "b"), by="sam")], "b")

    assert ("it is needed", "The gate has not judged it.") == entry.reasons
    assert None is entry.evaluation_version


# ---------------------------------------------------------------- challengers in shadow


def judged(number: int, action: str, challenger: str, *, ends: int, broken: str = "", by: str = "gate") -> Promotion:
    """Return an entry about a challenger that was tested on ten days up to a day of January."""
    last = date(2026, 1, ends)
    rules = (RuleRecord(name=broken, holds=False, sentence="broken"),) if broken else ()
    return record(
        Promotion, number=number, action=action, challenger=challenger, decided_by=by, rules=rules, attempt=1,
        champion=challenger if action in ("promote", "rollback") else "a", test_days=(last - timedelta(days=9), last),
        decided_at=AT,
    )  # fmt: skip


def test_challengers_since_the_last_promotion_are_in_shadow_the_newest_first() -> None:
    entries = [
        judged(1, "reject", "early", ends=10),
        judged(2, "promote", "a", ends=10),
        judged(3, "reject", "b", ends=10),
        judged(4, "request_approval", "c", ends=11),
        judged(5, "reject", "d", ends=12),
        judged(6, "reject", "b", ends=10),
    ]

    assert ("d", "c", "b") == shadowed(entries, most=10)
    assert ("d", "c") == shadowed(entries, most=2)
    assert () == shadowed([*entries, judged(7, "rollback", "z", ends=12)], most=2)


@pytest.mark.parametrize(("broken", "found"), [("leaks", ()), ("contract", ()), ("champion", ("b",))])
def test_a_challenger_with_a_leak_or_of_another_contract_is_never_in_shadow(broken: str, found: tuple[str]) -> None:
    entries = [judged(1, "promote", "a", ends=10), judged(2, "reject", "b", ends=10, broken=broken)]

    assert found == shadowed(entries, most=2)


def test_a_version_that_was_champion_before_is_not_in_shadow() -> None:
    entries = [
        judged(1, "promote", "a", ends=10),
        judged(2, "promote", "b", ends=11),
        judged(3, "rollback", "a", ends=11),
        judged(4, "reject", "b", ends=11),
    ]

    assert () == shadowed(entries, most=2)


def test_the_attempt_in_shadow_counts_earlier_tests_on_overlapping_days_and_stays_the_same_later() -> None:
    def attempt(entries: list[Promotion], challenger: str, first: int) -> int:
        return shadow_attempt(entries, challenger, (date(2026, 1, first), date(2026, 1, first + 6)), length=7)

    entries = [
        judged(1, "promote", "a", ends=5),
        judged(2, "reject", "b", ends=10),
        judged(3, "reject", "c", ends=12),
    ]

    assert 2 == attempt(entries, "b", 11)  # the gate tested c on its first two days
    assert 2 == attempt(entries, "c", 13)  # b was compared on 11 to 17
    shadowing = judged(4, "request_approval", "b", ends=17).model_copy(update={"cause": "shadow"})
    assert (2, 2) == (attempt([*entries, shadowing], "b", 11), attempt([*entries, shadowing], "c", 13))
    later = [*entries, judged(4, "reject", "d", ends=20)]
    assert (2, 2) == (attempt(later, "b", 11), attempt(later, "c", 13))
    assert 1 == attempt([entries[0], entries[1], judged(3, "reject", "c", ends=20)], "c", 21)
    assert 1 == attempt([*entries, judged(4, "promote", "e", ends=12), judged(5, "reject", "f", ends=13)], "f", 14)
