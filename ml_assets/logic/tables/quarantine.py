"""Check a table against its contract before it is published: which rows pass, which are quarantined, what blocks.

Not here: storing rows (see `ml_assets.lake.quarantine`), and splitting dbt's tables (see
`ml_assets.warehouse.dbt_lake`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from ml_assets.contracts.checking import (
    BROKEN_RULES,
    SAMPLE_ROWS,
    Others,
    Report,
    RuleResult,
    broken_row_rules,
    check_table,
)
from ml_assets.contracts.quarantine import too_many_broken
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT, TableContract

_RELEASED = "__released"


@dataclass(frozen=True)
class Audit:
    """The result of checking a table against its contract.

    Attributes:
        report: the finding of each rule; a rule whose rows were quarantined warns instead of blocking.
        quarantined: the quarantined rows, each with the names of the rules that it breaks.
        over: partitions with more broken rows than the declaration allows, with their shares.
        released: by rule, the number of rows that break it and pass because a person released them.
    """

    report: Report
    rows: pl.DataFrame
    quarantined: pl.DataFrame
    over: Mapping[str, float] = field(default_factory=dict)
    released: Mapping[str, int] = field(default_factory=dict)

    @property
    def refused(self) -> list[str]:
        """The partitions that must not be published; empty for a rule without rows, such as a missing column."""
        findings = [it for it in self.report.blocking if not (self.over and it.rule.is_row_rule)]
        return sorted({*self.over, *(part for finding in findings for part in finding.partitions)})

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Rows that were quarantined or released, by rule."""
        found: dict[str, dict[str, int]] = {}
        for what, by_rule in (("quarantined", broken_counts(self.quarantined)), ("released", self.released)):
            for rule, count in by_rule.items():
                found.setdefault(rule, {})[what] = count
        return found

    def refusal(self, table: str, *, share: float | None) -> str:
        """Return why nothing may be published, with how to fix it; empty if everything may."""
        if not self.report.blocking:
            return ""
        over = [too_many_broken(part, share or 0.0, day) for day, part in self.over.items()]
        return refusal(table, self.refused, [*(self.report.sentence(it) for it in self.report.blocking), *over])


def refusal(table: str, partitions: Sequence[str], reasons: Sequence[str]) -> str:
    """Return why nothing of a table was published, with how to fix it."""
    days = [part for part in partitions if part]
    more = f" and {len(days) - 10} more" if len(days) > 10 else ""
    refused = f"; rejected partitions: {', '.join(days[:10])}{more}" if days else ""
    listed = "".join(f"- {line}\n" for reason in reasons for line in reason.splitlines())
    return (
        f"nothing of table '{table}' was published, and its current artifacts are unchanged{refused}:\n{listed}"
        "Fix the data or the contract, then materialize the table again. The rejected rows: "
        f"ml-assets quarantine {table}{f' {days[0]}' if days else ''}"
    )


def audit(
    rows: pl.DataFrame,
    contract: TableContract,
    *,
    partition: str | None,
    others: Others | None = None,
    share: float | None = None,
    released: pl.DataFrame | None = None,
) -> Audit:
    """Check a table against its contract, and quarantine rows that break a row rule if the declaration allows it.

    `share` is the share of a partition's rows that may be quarantined; None if none may. Row rules do not apply to rows
    that equal a `released` one.
    """
    marked = _marked(rows, contract, released)
    held = marked.filter(~pl.col(_RELEASED)).drop(_RELEASED)
    report = check_table(held, contract, others=others, partition=partition)
    exempt = {}
    if held.height < rows.height:
        exempt = broken_counts(_with_broken_rules(marked.filter(_RELEASED), contract, others))
        report = _joined(report, check_table(rows, contract, others=others, partition=partition))
    nothing = rows.clear().with_columns(pl.lit(None, pl.List(pl.String)).alias(BROKEN_RULES))
    kinds = {finding.rule.kind for finding in report.blocking}
    if share is None or "columns" in kinds or kinds <= {"unique"}:
        return Audit(report, rows, nothing, released=exempt)
    found = _with_broken_rules(marked, contract, others)
    is_aside = (pl.col(BROKEN_RULES).list.len() > 0) & ~pl.col(_RELEASED)
    aside = found.filter(is_aside).drop(_RELEASED)
    over = {day: part for day, part in _shares(rows, aside, partition).items() if part > share}
    if over:
        return Audit(report, rows, nothing, over, exempt)
    published = found.filter(~is_aside).drop(_RELEASED, BROKEN_RULES)
    rest = check_table(published, contract, others=others, partition=partition)
    return Audit(_joined(as_warnings(report), rest), published, aside, released=exempt)


def _marked(rows: pl.DataFrame, contract: TableContract, released: pl.DataFrame | None) -> pl.DataFrame:
    """Return the rows with a column that states whether each equals a released one, whenever it was received."""
    names = [name for name in contract.names if name in rows.columns and name not in {RECEIVED_AT, GONE_AT}]
    if released is None or any(released.schema.get(name) != rows.schema[name] for name in names):
        return rows.with_columns(pl.lit(value=False).alias(_RELEASED))
    known = released.select(names).unique().with_columns(pl.lit(value=True).alias(_RELEASED))
    joined = rows.join(known, on=names, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(pl.col(_RELEASED).fill_null(value=False))


def _with_broken_rules(rows: pl.DataFrame, contract: TableContract, others: Others | None) -> pl.DataFrame:
    return rows.with_columns(broken_row_rules(contract, others=others).alias(BROKEN_RULES))


def broken_counts(rows: pl.DataFrame) -> dict[str, int]:
    """Return the number of rows that name each rule in `broken_rules`."""
    counts = rows.select(pl.col(BROKEN_RULES).explode().drop_nulls().value_counts()).unnest(BROKEN_RULES)
    return {str(rule): int(count) for rule, count in counts.iter_rows()}


def _shares(rows: pl.DataFrame, aside: pl.DataFrame, partition: str | None) -> dict[str, float]:
    """Return the share of rows that would be quarantined, by partition; under '' for a table without partitions."""
    if partition is None:
        return {"": aside.height / rows.height}
    counts = aside.group_by(partition).len("aside").join(rows.group_by(partition).len("rows"), on=partition)
    shares = counts.sort(partition).select(partition, pl.col("aside") / pl.col("rows"))
    return {str(day): float(share) for day, share in shares.iter_rows()}


def _joined(row_rules: Report, others: Report) -> Report:
    """Return one report, with the row rules of the first report and all other rules of the second."""
    pairs = zip(row_rules.findings, others.findings, strict=True)
    return replace(row_rules, findings=tuple(one if one.rule.is_row_rule else other for one, other in pairs))


def as_warnings(report: Report) -> Report:
    """Return a report in which row rules only warn, because the rows that break them are quarantined."""
    return replace(
        report,
        findings=tuple(
            replace(found, rule=replace(found.rule, is_blocking=False)) if found.rule.is_row_rule else found
            for found in report.findings
        ),
    )


def quarantine_findings(
    quarantined: pl.DataFrame, contract: TableContract, *, rows: int, partition: str | None
) -> dict[str, RuleResult]:
    """Return the findings about quarantined rows, by rule; these rules only warn."""
    found = {}
    for name in broken_counts(quarantined):
        broken = quarantined.filter(pl.col(BROKEN_RULES).list.contains(name)).drop(BROKEN_RULES)
        days = {} if partition is None else {
            str(day): int(count) for day, count in broken.group_by(partition).len().sort(partition).iter_rows()
        }  # fmt: skip
        rule = replace(contract.rule(name), is_blocking=False)
        found[name] = RuleResult(rule, rows, broken.height, days, broken.head(SAMPLE_ROWS))
    return found


def released_counts(
    rows: pl.DataFrame, contract: TableContract, released: pl.DataFrame, *, others: Others | None = None
) -> dict[str, int]:
    """Return the number of rows that break each rule and pass because they were released."""
    passed = _marked(rows, contract, released).filter(_RELEASED).drop(_RELEASED)
    return broken_counts(_with_broken_rules(passed, contract, others))
