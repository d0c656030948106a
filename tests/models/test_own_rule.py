"""A gate rule that is a person's function: among the other rules, with its figures, and part of the code version."""

from typing import Any

import pytest

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.promotion.gate import Verdict
from ml_assets.models.evaluation import verdict_on
from ml_assets.provenance.code import covered
from tests.stages.shop import Trained, plan_of

RULES = "tests.own_steps"


def verdict_with(trained: Trained, *rules: str, **gate: Any) -> Verdict:
    plan = plan_of(gate={"min_rows": 50, "own_rules": [f"{RULES}.{rule}" for rule in rules], **gate})
    return verdict_on(plan, trained.evaluation, trained.model, (), entries=())


def test_it_stands_among_the_other_rules_with_its_sentence_and_its_figures(trained: Trained) -> None:
    verdict = verdict_with(trained, "enough_precision")

    summary = trained.evaluation.summary
    precision, rate = summary.metrics["average_precision"].value, summary.target_mean
    assert verdict.promote
    record = verdict.rules[-1].record
    assert (f"{RULES}.enough_precision", True) == (record.name, record.holds)
    assert f"Rule {RULES}.enough_precision: Average precision is {precision / rate:.2f} times the rate." == (
        record.sentence
    )
    own = {name: value for name, value in verdict.figures.items() if name.startswith(RULES)}
    assert {f"{RULES}.enough_precision: precision": precision, f"{RULES}.enough_precision: rate": rate} == own


def test_a_challenger_that_fails_it_is_rejected_and_what_it_changes_in_place_changes_nothing(trained: Trained) -> None:
    before = trained.evaluation.summary.model_dump()

    verdict = verdict_with(trained, "never", "enough_precision")

    assert not verdict.promote
    assert (f"Rule {RULES}.never: Never, on any evaluation.",) == verdict.reasons
    assert [False, True] == [rule.holds for rule in verdict.rules[-2:]]
    assert before == trained.evaluation.summary.model_dump()
    assert "rows" in trained.evaluation.slices.columns


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("broken_rule", r"failed: KeyError: 'nothing' \(.*own_steps.py, line \d+\)"),
        ("exiting_rule", r"failed: SystemExit: 0 \(.*own_steps.py, line \d+\)"),
        ("bare_verdict", "returned True, which is bool"),
        ("doubtful", "returned holds='no'"),
        ("wordless", "returned sentence=' '"),
        ("unmeasured", "returned figures={'share': nan}"),
    ],
)
def test_without_a_valid_result_nothing_is_decided(trained: Trained, rule: str, expected: str) -> None:
    with pytest.raises(DataError, match=rf"gate rule '{RULES}.{rule}' {expected}.* nothing is promoted"):
        verdict_with(trained, rule)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("nowhere", f"{RULES}.nowhere: module {RULES} has no 'nowhere'"),
        ("no_rule", rf"{RULES}.no_rule takes \(\).*; expected \(evaluation\), by position"),
    ],
)
def test_one_that_cannot_be_called_is_reported_when_the_project_loads(rule: str, expected: str) -> None:
    with pytest.raises(ContractError, match=f"gate.own_rules: {expected}"):
        plan_of(gate={"own_rules": [f"{RULES}.{rule}"]})


def test_its_code_belongs_to_the_champion_only() -> None:
    plan = plan_of(gate={"own_rules": [f"{RULES}.never"]})

    assert (RULES, "never") in covered(plan.own_functions("champion"))
    assert not plan.own_functions("evaluation")


def test_a_declaration_without_one_is_hashed_as_before() -> None:
    assert "own_rules" not in plan_of().declaration.gate.model_dump()
