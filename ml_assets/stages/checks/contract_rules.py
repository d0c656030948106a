"""Asset checks for the rules of a contract, their results, and the storage of rejected days.

Not here: the validation itself (see `ml_assets.contracts.checking`).
"""

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.checking import Others, Report, RuleResult, example_values
from ml_assets.contracts.table import Rule, TableContract
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.quarantine import store_rejected
from ml_assets.logic.tables.rejected import rejected_rows
from ml_assets.stages.asset import as_table


def check_name(rule: str) -> str:
    """Return the name of an asset check for a rule. Only letters, digits and underscores are allowed."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", rule).strip("_")[:120]


def rule_check_name(rule: Rule) -> str:
    """Return the name of a rule's check, which is unique even if column names differ only in other characters."""
    name = check_name(rule.name)
    if len(name) < 120 and all(re.fullmatch(r"[A-Za-z0-9_]+", column) for column in rule.columns):
        return name
    digest = hashlib.blake2b(rule.name.encode(), digest_size=4, usedforsecurity=False).hexdigest()
    return f"{name[:111]}_{digest}"


def check_specs(contract: TableContract, asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return one asset check for each rule of a contract."""
    return rule_specs(contract.rules, asset)


def rule_specs(rules: Iterable[Rule], asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return one asset check for each rule."""
    return [
        dg.AssetCheckSpec(rule_check_name(rule), asset=asset, description=rule.name, blocking=rule.is_blocking)
        for rule in rules
    ]


def check_results(
    report: Report,
    asset: dg.AssetKey,
    also: Mapping[str, Mapping[str, int]] | None = None,
    *,
    partitions: Sequence[str] = (),
) -> Iterator[dg.AssetCheckResult]:
    """Yield the result of the asset check of each rule, including those that pass.

    Args:
        report: the findings.
        asset: the checked asset.
        also: by rule, further counts to report: rows that were quarantined or released.
        partitions: those of the run, in order; none if the table is whole.
    """
    span = " to ".join(dict.fromkeys([partitions[0], partitions[-1]])) if partitions else ""
    for finding in report.findings:
        yield dg.AssetCheckResult(
            check_name=rule_check_name(finding.rule),
            asset_key=asset,
            passed=finding.passed and not finding.not_judged,
            severity=_severity(finding),
            description=_not_judged(finding, partitions),
            metadata={
                "rule": finding.rule.name,
                "rows": finding.rows,
                **({"partitions": span} if span else {}),
                **({"not judged": dg.MetadataValue.json(dict(finding.not_judged))} if finding.not_judged else {}),
                **_broken(report, finding),
                **(also or {}).get(finding.rule.name, {}),
            },
        )


def _severity(finding: RuleResult) -> dg.AssetCheckSeverity:
    """Return the severity of a finding. A blocking rule that could not be judged does not block."""
    blocks = finding.rule.is_blocking and not (finding.passed and finding.not_judged)
    return dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN


def _not_judged(finding: RuleResult, partitions: Sequence[str]) -> str | None:
    if not finding.not_judged:
        return None
    why = ", ".join(dict.fromkeys(finding.not_judged.values()))
    return f"not judged on {len(finding.not_judged)} of {len(partitions)} days: {why}."


def _broken(report: Report, finding: RuleResult) -> dict[str, Any]:
    if finding.passed:
        return {}
    days = {"days": dg.MetadataValue.json(dict(finding.partitions))} if finding.partitions else {}
    examples = pl.DataFrame()
    if not finding.samples.is_empty():
        examples = example_values(finding.samples, report.contract, finding.rule.columns)
    samples = {} if examples.is_empty() else {"samples": as_table(examples)}
    return {
        "broken": finding.broken, "share": finding.share, **days, **samples, "finding": report.sentence(finding),
    }  # fmt: skip


def reject(
    ledger: StepLedger,
    asset: dg.AssetKey,
    days: Mapping[str, pl.DataFrame],
    report: Report,
    *,
    inputs: Iterable[Input] = (),
    others: Others | None = None,
) -> None:
    """Store the days that broke a blocking rule as `<asset>__rejected`, for inspection.

    Args:
        ledger: of the step that built them; the asset itself is not changed.
        asset: the asset that they were built for.
        days: the rows of each day of the run by partition key; under '' if the table is whole.
        report: the findings of the contract for all of these rows.
        inputs: what they were built from.
        others: the tables that relationships refer to, as given to `check_table`.
    """
    found = {day for finding in report.blocking for day in finding.partitions}
    everywhere = any(not finding.partitions for finding in report.blocking)  # a wrong shape concerns every day
    making = ledger.origin(inputs, parameters={"broken_rules": [report.sentence(it) for it in report.blocking]})
    broken = {day: rows for day, rows in days.items() if everywhere or day in found}
    marked = rejected_rows(pl.concat(broken.values()), report, others=others)
    ends = itertools.accumulate(rows.height for rows in broken.values())
    parts = {
        day: marked.slice(end - rows.height, rows.height) for (day, rows), end in zip(broken.items(), ends, strict=True)
    }
    store_rejected(ledger.lake, asset.to_user_string(), parts, making)
