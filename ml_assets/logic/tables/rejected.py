"""Show rejected rows with the rules that they break.

Not here: checking rows (see `ml_assets.contracts.checking`), and storing them (see `ml_assets.lake.quarantine`).
"""

from __future__ import annotations

import polars as pl

from ml_assets.contracts.checking import BROKEN_RULES, Others, Report, broken_row_rules


def rejected_rows(rows: pl.DataFrame, report: Report, *, others: Others | None = None) -> pl.DataFrame:
    """Return the rows with a column `broken_rules`: the names of the blocking rules that each row breaks.

    Every row breaks a rule about columns or about the day as a whole. All rows with the same values break uniqueness.
    """
    contract = report.contract
    sound = [column.name for column in contract.columns if rows.schema.get(column.name) == column.dtype]
    marks = [broken_row_rules(contract.only(sound), others=others)]
    for finding in report.blocking:
        rule = finding.rule
        if rule.kind in {"columns", "expectation"}:
            marks.append(pl.concat_list(pl.lit(rule.name)))
        elif rule.kind == "unique":
            columns = list(rule.columns)
            shared = pl.len().over(columns) > 1
            if len(columns) == 1:
                shared &= pl.col(columns[0]).is_not_null()
            marks.append(pl.concat_list(pl.when(shared).then(pl.lit(rule.name))).list.drop_nulls())
    return rows.with_columns(pl.concat_list(marks).alias(BROKEN_RULES))
