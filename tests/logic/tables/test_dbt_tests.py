import math
from dataclasses import replace

import polars as pl
import pytest

from ml_assets.contracts.checking import Report, RuleResult, check_table
from ml_assets.contracts.table import Column, TableContract
from ml_assets.logic.tables.dbt_tests import DbtTestOutcome, report_of_failure, report_of_tests

CONTRACT = TableContract(
    "orders",
    (Column("order", pl.Int64(), is_nullable=False), Column("amount", pl.Float64(), minimum=0)),
    key=("order",),
    where="_models.yml",
)
UNIQUE, MISSING, RANGE = "order is unique", "order is never missing", "amount is at least 0"
FINITE = "amount is finite"


def outcome(rule: str | None, *, failures: int = 0, is_blocking: bool = True, message: str = "") -> DbtTestOutcome:
    passed = not failures and not message
    return DbtTestOutcome("a_test", rule, passed, is_blocking, failures, message)


def passed(report: Report) -> dict[str, bool]:
    return {finding.rule.name: finding.passed for finding in report.findings}


def test_rules_without_a_test_held_or_there_would_be_no_table() -> None:
    report = report_of_tests(CONTRACT, [outcome(RANGE)], rows=3, tested={RANGE})

    assert {"columns are as in the contract": True, UNIQUE: True, MISSING: True, FINITE: True, RANGE: True} == passed(
        report
    )
    assert {3} == {finding.rows for finding in report.findings}


def test_a_rule_whose_test_did_not_run_has_no_result() -> None:
    assert RANGE not in passed(report_of_tests(CONTRACT, [], rows=3, tested={RANGE}))


def test_numbers_that_are_not_finite_break_their_rule_though_no_test_failed() -> None:
    rows = pl.DataFrame({"order": [1, 2], "amount": [1.0, math.nan]})

    report = report_of_tests(CONTRACT, [outcome(RANGE)], rows=2, tested={RANGE}, found=check_table(rows, CONTRACT))

    assert [FINITE] == [finding.rule.name for finding in report.blocking]


def test_a_failed_test_is_reported_with_the_rows_that_broke_its_rule() -> None:
    rows = pl.DataFrame({"order": [1, 2], "amount": [1.0, -1.0]})

    report = report_of_tests(
        CONTRACT, [outcome(RANGE, failures=1)], rows=2, tested={RANGE}, found=check_table(rows, CONTRACT)
    )

    assert [
        f"rule '{RANGE}' of table 'orders' is broken in 1 of 2 rows (50.00%), for instance by -1.0; see _models.yml."
    ] == [report.sentence(it) for it in report.broken]


@pytest.mark.parametrize(
    ("failures", "message", "sentence"),
    [
        (4, "", "dbt's test 'a_test' found 4 rows."),
        (0, "Binder Error", "dbt's test 'a_test' could not run: Binder Error"),
    ],
)
def test_a_failed_test_that_the_rows_do_not_show_is_reported_with_dbts_message(
    failures: int, message: str, sentence: str
) -> None:
    rows = pl.DataFrame({"order": [1], "amount": [1.0]})
    failed = outcome(RANGE, failures=failures, message=message)

    report = report_of_tests(CONTRACT, [failed], rows=1, tested={RANGE}, found=check_table(rows, CONTRACT))

    assert [sentence] == [report.sentence(it) for it in report.broken]
    assert report.blocking


def test_tests_that_only_dbt_enforces_are_reported_by_name() -> None:
    report = report_of_tests(CONTRACT, [outcome(None, failures=2, is_blocking=False)], rows=3, tested=set())

    assert not passed(report)["a_test"]
    assert () == report.blocking


def test_a_rule_whose_rows_were_quarantined_warns() -> None:
    aside = RuleResult(replace(CONTRACT.rule(RANGE), is_blocking=False), 5, 1)

    report = report_of_tests(CONTRACT, [outcome(RANGE)], rows=4, tested={RANGE}, aside={RANGE: aside})

    assert (aside,) == report.broken
    assert () == report.blocking


@pytest.mark.parametrize(
    ("message", "rules"),
    [
        ("Constraint Error: NOT NULL constraint failed: orders__built.order", [MISSING]),
        ('Constraint Error: Duplicate key "order: 1" violates unique constraint.', [UNIQUE]),
        ("Compilation Error: This model has an enforced contract that failed.", ["columns are as in the contract"]),
        ("Binder Error: no such column", []),
    ],
)
def test_broken_constraints_are_found_in_dbts_message_about_a_failed_table(message: str, rules: list[str]) -> None:
    assert rules == [finding.rule.name for finding in report_of_failure(CONTRACT, message).blocking]
