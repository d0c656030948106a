"""Check rows against a contract: all rules in one pass over the data; each broken rule with counts and sample rows.

Not here: what happens to rows that break a rule (see `ml_assets.logic.tables.quarantine`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from ml_assets.contracts.table import PERSONAL, SHAPE, Rule, TableContract

SAMPLE_ROWS = 10
BROKEN_RULES = "broken_rules"
Others = Mapping[str, pl.LazyFrame | pl.DataFrame]


@dataclass(frozen=True)
class RuleResult:
    """The result of one rule.

    Attributes:
        broken: number of rows that break the rule; for uniqueness, all rows that share their values with another.
        partitions: number of broken rows by partition; empty if the table has no partitions.
        samples: up to ten of the broken rows.
        detail: a sentence, for a problem that rows cannot show: missing columns, wrong types.
        not_judged: partitions that the rule could not be applied to, and why.
    """

    rule: Rule
    rows: int
    broken: int
    partitions: Mapping[str, int] = field(default_factory=dict)
    samples: pl.DataFrame = field(default_factory=pl.DataFrame)
    detail: str = ""
    not_judged: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no checked row breaks the rule."""
        return not self.broken and not self.detail

    @property
    def share(self) -> float:
        """The share of rows that break the rule."""
        return self.broken / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Report:
    """The result of checking a table against its contract: one finding per rule, in the contract's order."""

    contract: TableContract
    findings: tuple[RuleResult, ...]

    @property
    def broken(self) -> tuple[RuleResult, ...]:
        """The findings of broken rules."""
        return tuple(finding for finding in self.findings if not finding.passed)

    @property
    def blocking(self) -> tuple[RuleResult, ...]:
        """The findings of broken rules that block."""
        return tuple(finding for finding in self.broken if finding.rule.is_blocking)

    def sentence(self, finding: RuleResult) -> str:
        """Return a broken rule with counts, partitions, examples (no personal values) and the file that declares it."""
        if finding.detail:
            return finding.detail
        where = f"; see {self.contract.where}" if self.contract.where else ""
        personal = not self.contract.personal.isdisjoint(finding.rule.columns)
        values = [finding.samples[name] for name in finding.rule.columns if name in finding.samples.columns]
        shown = [", ".join(map(str, row)) for row in zip(*values, strict=True)] if values and not personal else []
        examples = "" if finding.rule.kind == "not_null" else " | ".join([*dict.fromkeys(shown)][:5])
        days = [*finding.partitions]
        when = f", on {', '.join(days[:3])}{f' and {len(days) - 3} more' if len(days) > 3 else ''}" if days else ""
        return (
            f"rule '{finding.rule.name}' of table '{self.contract.name}' is broken in {finding.broken} of "
            f"{finding.rows} rows ({finding.share:.2%}){when}{f', for instance by {examples}' if examples else ''}"
            f"{where}."
        )


def check_table(
    rows: pl.DataFrame | pl.LazyFrame,
    contract: TableContract,
    *,
    others: Others | None = None,
    partition: str | None = None,
) -> Report:
    """Check a table against its contract.

    Each column is read once for its own rules, and once more for each uniqueness rule. A lazy table is streamed a few
    columns at a time, so memory is bounded by a few columns, except for the distinct values that uniqueness needs. Rows
    are read again only for broken rules, to get samples and partitions. Give a large table as a scan of Parquet,
    because it is evaluated several times. Relationships to tables that `others` lacks pass. Broken rows are counted by
    `partition`, a column that need not be in the contract.
    """
    lazy = rows.lazy()
    schema = lazy.collect_schema()
    wrong = shape_errors(schema, contract, beside=[partition] if partition else [])
    mistyped = {c.name for c in contract.columns if schema.get(c.name) != c.dtype}
    testable = [
        rule
        for rule in contract.rules
        if rule.kind != "columns"
        and not mistyped.intersection(rule.columns)
        and (rule.relationship is None or rule.relationship.table in (others or {}))
    ]
    row_rules = {rule.name: (rule, breaks(rule, others or {})) for rule in testable if rule.is_row_rule}
    at_once = isinstance(rows, pl.DataFrame)
    passes = _few_columns_each(row_rules, schema, most=math.inf if at_once else _PASS_BYTES)
    total = int(lazy.select(pl.len()).collect(engine="streaming").item())
    counts: dict[str, int] = {}
    for one in passes:
        counts |= _counted(lazy.select(is_broken.sum().alias(name) for name, (_, is_broken) in one.items()))
    for rule in testable:
        if not rule.is_row_rule:
            counts[rule.name] = _shared(lazy, rule, "in-memory" if at_once else "streaming")
    broken = {rule.name: _broken_rows(lazy, rule, row_rules) for rule in testable if counts[rule.name]}
    shown = _shown(broken, partition)
    found = {
        name: RuleResult(contract.rule(name), total, counts[name], partitions, samples)
        for name, (samples, partitions) in shown.items()
    }
    found[SHAPE] = RuleResult(contract.rule(SHAPE), total, 0, detail="\n".join(wrong))
    return Report(contract, tuple(found.get(rule.name, RuleResult(rule, total, 0)) for rule in contract.rules))


def has_broken_numbers(rows: pl.LazyFrame, contract: TableContract) -> bool:
    """Return whether any value is NaN or infinite. Every floating-point column has this rule without a declaration."""
    rules = {rule.name: (rule, breaks(rule, {})) for rule in contract.rules if rule.kind == "finite"}
    passes = _few_columns_each(rules, contract.schema, most=_PASS_BYTES)
    return any(
        any(_counted(rows.select(is_broken.any().alias(name) for name, (_, is_broken) in one.items())).values())
        for one in passes
    )


def broken_row_rules(contract: TableContract, *, others: Others | None = None) -> pl.Expr:
    """Return, for each row, the names of the blocking row rules that it breaks, as a list of text."""
    rules = [
        rule
        for rule in contract.rules
        if rule.is_row_rule
        and rule.is_blocking
        and (rule.relationship is None or rule.relationship.table in (others or {}))
    ]
    if not rules:
        return pl.lit([], dtype=pl.List(pl.String))
    named = [pl.when(breaks(rule, others or {})).then(pl.lit(rule.name)) for rule in rules]
    return pl.concat_list(named).list.drop_nulls()


def example_values(rows: pl.DataFrame, contract: TableContract, columns: Sequence[str]) -> pl.DataFrame:
    """Return the values of rows that messages may show: key and some columns, without personal values."""
    shown = [name for name in dict.fromkeys([*contract.key, *columns]) if name in rows.columns]
    return rows.select(
        pl.when(pl.col(name).is_not_null()).then(pl.lit(PERSONAL)).alias(name)
        if name in contract.personal
        else pl.col(name)
        for name in shown
    )


def shape_errors(
    schema: Mapping[str, pl.DataType], contract: TableContract, *, beside: Sequence[str] = ()
) -> list[str]:
    """Return what is wrong with the columns and types of a frame, as sentences. Columns in `beside` are allowed."""
    where = f"; see {contract.where}" if contract.where else ""
    errors = []
    for column in contract.columns:
        got = schema.get(column.name)
        if got is None:
            errors.append(
                f"column '{column.name}' of table '{contract.name}' is missing; the contract requires "
                f"{column.dtype}{where}."
            )
        elif got != column.dtype:
            errors.append(
                f"column '{column.name}' of table '{contract.name}' is {got}; the contract requires "
                f"{column.dtype}{where}."
            )
    strangers = [name for name in schema if name not in contract.names and name not in beside]
    if strangers:
        errors.append(f"table '{contract.name}' has columns that are not in its contract: {strangers}{where}.")
    return errors


def breaks(rule: Rule, others: Others) -> pl.Expr:
    """Return whether a row breaks a row rule. As in dbt, a missing value breaks only `not_null`.

    NaN breaks `finite`, and also a maximum: polars and the warehouses sort it above all numbers.
    """
    column = pl.col(rule.columns[0])
    match rule.kind:
        case "finite":
            return (~column.is_finite()).fill_null(value=False)
        case "not_null":
            return column.is_null()
        case "accepted_values":
            return column.is_not_null() & ~column.is_in(list(rule.accepted_values))
        case "range":
            low = column < rule.minimum if rule.minimum is not None else pl.lit(value=False)
            high = column > rule.maximum if rule.maximum is not None else pl.lit(value=False)
            return (low | high).fill_null(value=False)
        case "relationship" if rule.relationship is not None:
            known = others[rule.relationship.table].lazy().select(rule.relationship.column).unique()
            return column.is_not_null() & ~column.is_in(known.collect().to_series().implode())
        case _:
            raise ValueError(f"rule '{rule.name}' does not apply to single rows.")


_RowRules = dict[str, tuple[Rule, pl.Expr]]
_LEN = "__len"
_PASS_BYTES = 16
"""Bytes of a row that are read in one pass: two numbers or one text. A reader of Parquet holds several row groups of
262,144 rows, here 30 to 70 MB. With 140 bytes (20 columns at once) it was 170 to 220 MB and as slow."""


def _few_columns_each(rules: _RowRules, schema: Mapping[str, pl.DataType], *, most: float) -> Iterator[_RowRules]:
    """Yield the rules in passes over few columns. The rules of one column are in the same pass."""
    one: _RowRules = {}
    columns: dict[str, int] = {}
    for name, (rule, is_broken) in rules.items():
        column = rule.columns[0]
        width = 16 if schema[column] == pl.String else 8
        if column not in columns and columns and sum(columns.values()) + width > most:
            yield one
            one, columns = {}, {}
        one[name] = (rule, is_broken)
        columns[column] = width
    if one:
        yield one


def _counted(query: pl.LazyFrame) -> dict[str, int]:
    counts: dict[str, int] = query.collect(engine="streaming").row(0, named=True)
    return counts


def _shared(lazy: pl.LazyFrame, rule: Rule, engine: Literal["in-memory", "streaming"]) -> int:
    """Return how many rows share their values with another. As in dbt, missing values of a single column do not count.

    Distinct values are counted first. For good rows that is enough; grouping costs four times as much.
    """
    keyed = lazy.select(rule.columns)
    if len(rule.columns) == 1:
        keyed = keyed.drop_nulls()
        distinct = keyed.select(pl.len(), distinct=pl.col(rule.columns[0]).n_unique())
        if len({*distinct.collect(engine=engine).row(0)}) == 1:
            return 0
    groups = keyed.group_by(rule.columns).len(name=_LEN)
    return int(groups.select(pl.col(_LEN).filter(pl.col(_LEN) > 1).sum()).collect(engine="streaming").item())


def _broken_rows(lazy: pl.LazyFrame, rule: Rule, row_rules: _RowRules) -> pl.LazyFrame:
    if rule.name in row_rules:
        return lazy.filter(row_rules[rule.name][1])
    there = lazy.drop_nulls(rule.columns) if len(rule.columns) == 1 else lazy
    return there.filter(pl.len().over(rule.columns) > 1).sort(rule.columns, maintain_order=True)


def _shown(broken: Mapping[str, pl.LazyFrame], partition: str | None) -> dict[str, tuple[pl.DataFrame, dict[str, int]]]:
    """Return samples of the rows that break each rule, and how many there are in each partition."""
    queries = [rows.head(SAMPLE_ROWS) for rows in broken.values()]
    if partition is not None:
        queries += [rows.group_by(partition).len(name=_LEN).sort(partition) for rows in broken.values()]
    results = pl.collect_all(queries, engine="streaming")
    samples, days = results[: len(broken)], results[len(broken) :] or [pl.DataFrame()] * len(broken)
    return {
        name: (sample, {str(day): int(count) for day, count in counts.iter_rows()})
        for name, sample, counts in zip(broken, samples, days, strict=True)
    }
