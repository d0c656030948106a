"""Translate the results of dbt's tests into findings about the rules of a table's contract.

Not here: running dbt (see `ml_assets.warehouse.warehouse`), and what follows (see `ml_assets.stages.tables`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ml_assets.contracts.checking import Report, RuleResult
from ml_assets.contracts.table import Rule, TableContract


@dataclass(frozen=True)
class DbtTestOutcome:
    """The result of one dbt test.

    Attributes:
        rule: the rule of the contract that it checks; None if only dbt enforces it.
        failures: number of rows or values that failed; 0 if it passed, and if the test could not run.
    """

    test: str
    rule: str | None
    passed: bool
    is_blocking: bool
    failures: int = 0
    message: str = ""

    @property
    def sentence(self) -> str:
        """What failed, as far as dbt reports it."""
        found = f"found {self.failures} rows" if self.failures else "could not run"
        return (
            f"dbt's test '{self.test}' {found}: {self.message}"
            if self.message
            else f"dbt's test '{self.test}' {found}."
        )


def report_of_tests(
    contract: TableContract,
    outcomes: Sequence[DbtTestOutcome],
    *,
    rows: int,
    tested: Collection[str],
    found: Report | None = None,
    aside: Mapping[str, RuleResult] | None = None,
) -> Report:
    """Return the findings of dbt's tests of a built table: the contract's rules, then tests that only dbt enforces.

    `tested` are the rules that have a test; one whose test did not run has no finding. Rules without a test are
    constraints, which hold if the table was built, and finiteness, which `found` reports: the result of checking the
    rows themselves, given if a test failed or a number is not finite. `aside` has the findings about quarantined rows,
    by rule.
    """
    by_rule: dict[str | None, list[DbtTestOutcome]] = {}
    for outcome in outcomes:
        by_rule.setdefault(outcome.rule, []).append(outcome)
    seen = {finding.rule.name: finding for finding in found.broken} if found else {}
    findings = []
    for rule in contract.rules:
        ours = by_rule.get(rule.name, [])
        failed = [outcome for outcome in ours if not outcome.passed]
        if failed:
            finding = RuleResult(rule, rows, failed[0].failures, detail=failed[0].sentence)
            findings.append(seen.get(rule.name, finding))
        elif rule.name in (aside or {}):
            findings.append((aside or {})[rule.name])
        elif ours or rule.name not in tested:
            findings.append(seen.get(rule.name, RuleResult(rule, rows, 0)))
    return Report(contract, (*findings, *(_own(outcome, rows) for outcome in by_rule.get(None, []))))


def _own(outcome: DbtTestOutcome, rows: int) -> RuleResult:
    """Return the finding of a test that only dbt enforces; the failed rows are not known."""
    rule = Rule(outcome.test, "columns", is_blocking=outcome.is_blocking)
    return RuleResult(rule, rows, outcome.failures, detail="" if outcome.passed else outcome.sentence)


def report_of_failure(contract: TableContract, message: str) -> Report:
    """Return the rules that dbt names in its message about a table that it could not build; often none."""
    return Report(contract, tuple(RuleResult(rule, 0, 0, detail=message) for rule in _named(contract, message)))


def _named(contract: TableContract, message: str) -> Iterator[Rule]:
    text = message.lower()
    for rule in contract.rules:
        match rule.kind:
            case "columns":
                is_named = "enforced contract that failed" in text
            case "not_null":
                is_named = "not null constraint failed" in text and f"__built.{rule.columns[0].lower()}" in text
            case "unique":
                is_key = "violates unique constraint" in text or "violates primary key constraint" in text
                is_named = is_key and all(f"{name.lower()}: " in text for name in rule.columns)
            case _:
                is_named = False
        if is_named:
            yield rule
