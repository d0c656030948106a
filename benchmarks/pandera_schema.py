"""A table's contract as a pandera schema, to compare pandera's speed and findings with `check_table`.

The engine checks tables without pandera: `ml_assets.contracts.checking` takes a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandera.polars as pa
import polars as pl

from ml_assets.contracts.checking import Others, breaks
from ml_assets.contracts.table import Rule, TableContract


def to_pandera(contract: TableContract, *, others: Others | None = None) -> pa.DataFrameSchema:
    """Return the contract as a pandera schema. Each rule is a check with the rule's name.

    A rule that only warns is a warning in pandera too. Nulls and uniqueness are checks as well, because pandera's own
    have no names, and they count missing values as duplicates, which dbt does not. `validate` on a LazyFrame checks the
    schema only, so collect first. Relationships to tables that `others` lacks are omitted.
    """
    checks: dict[str, list[pa.Check]] = {}
    for rule in contract.rules:
        if rule.kind == "columns" or (rule.relationship and rule.relationship.table not in (others or {})):
            continue
        on = rule.columns[0] if len(rule.columns) == 1 else ""
        checks.setdefault(on, []).append(_pandera_check(rule, others or {}))
    columns = {
        column.name: pa.Column(
            column.dtype, checks.get(column.name), nullable=True, description=column.description or None
        )
        for column in contract.columns
    }
    return pa.DataFrameSchema(
        columns, checks=checks.get(""), strict=True, name=contract.name, description=contract.description or None
    )


def _pandera_check(rule: Rule, others: Others) -> pa.Check:
    name, raise_warning = rule.name, not rule.is_blocking
    match rule.kind:
        case "finite" | "not_null":
            return pa.Check(
                lambda data: data.lazyframe.select(~breaks(rule, others)),
                name=name, raise_warning=raise_warning, ignore_na=False,
            )  # fmt: skip
        case "accepted_values":
            return pa.Check.isin([*rule.accepted_values], name=name, raise_warning=raise_warning)
        case "range" if rule.minimum is None or rule.maximum is None:
            end, bound = (pa.Check.le, rule.maximum) if rule.minimum is None else (pa.Check.ge, rule.minimum)
            return end(bound, name=name, raise_warning=raise_warning)
        case "range":
            return pa.Check.in_range(rule.minimum, rule.maximum, name=name, raise_warning=raise_warning)
        case "relationship" if rule.relationship is not None:
            there = others[rule.relationship.table].lazy().select(rule.relationship.column).collect().to_series()
            return pa.Check.isin(there.drop_nulls().unique().to_list(), name=name, raise_warning=raise_warning)
        case _:
            return pa.Check(
                lambda data: data.lazyframe.select(_is_single(rule.columns)),
                name=name, raise_warning=raise_warning, ignore_na=False,
            )  # fmt: skip


def _is_single(columns: Sequence[str]) -> pl.Expr:
    single = ~pl.struct(columns).is_duplicated()
    return single | pl.col(columns[0]).is_null() if len(columns) == 1 else single
