"""Leaks planted in tables of which nothing is declared: which guards of the command `new` name, and false alarms.

    python -m benchmarks.guards [--rows 4000] [--write]

Each kind of leak of `benchmarks.guard_corpus` is planted alone in each of three honest tables, and the guards look at
it. A leak is found if its guard names the planted columns: left out, or noted where no column is at fault. Every honest
column that is left out is a false alarm, with a leak beside it and without. `--write` writes the table to
docs/leak-guards.md. Ends with 1 if a leak is missed or an honest column is left out.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from benchmarks.guard_corpus import ALL, BASES, CASES, Case, HonestTable, priced
from benchmarks.page_table import table_lines, write_table
from ml_assets.logic.inspection.candidates import Candidates, LeakFinding
from ml_assets.logic.inspection.choices import Given
from ml_assets.logic.inspection.guards import find_leaks
from ml_assets.logic.inspection.roles import infer_roles
from ml_assets.logic.inspection.strength import Outcomes, explained_by

PAGE: Final = Path(__file__).parent.parent / "docs" / "leak-guards.md"
PRICE: Final = "what an honest price explains, and how many columns were left out"
ENTITY: Final = "rows of the same thing on both sides"
HEAD: Final = ("planted", *BASES)
MISSED: Final = "**missed**"
LEFT_OUT: Final = "**left out**"


@dataclass(frozen=True)
class Result:
    """What the guards found in one table with one leak.

    Attributes:
        cell: the guard that found it with its figure, or that it was missed.
        false_alarms: the honest columns that were left out.
    """

    cell: str
    false_alarms: tuple[str, ...]


def main() -> int:
    """Try every case, print the table, and return 1 if something is missed or wrongly left out."""
    arguments = _arguments()
    tables = {name: made(arguments.rows) for name, made in BASES.items()}
    results = {(case.kind, name): examine(tables[name], case) for case in CASES for name in case.bases}
    alone = {name: findings(table, table.rows) for name, table in tables.items()}
    alarms = {name: [it for it in left_out(found) if it in tables[name].honest] for name, found in alone.items()}
    for (_, name), result in results.items():
        alarms[name] += result.false_alarms
    lines = table_lines(HEAD, table_rows(results, tables, alarms))
    print("\n".join(lines))
    if arguments.write:
        write_table(PAGE, lines)
    return 1 if any(it in line for line in lines for it in (MISSED, LEFT_OUT)) or any(alarms.values()) else 0


def findings(table: HonestTable, rows: pl.DataFrame) -> tuple[LeakFinding, ...]:
    """Return what the guards say about some rows of a table."""
    columns = tuple(it for it in rows.columns if it not in (table.target, table.time, *table.key))
    return find_leaks(Candidates(rows, table.target, table.task, columns, table.time, table.entity))


def left_out(found: Sequence[LeakFinding]) -> list[str]:
    """Return the columns that are left out."""
    return [it.column for it in found if it.verdict == "left out"]


def examine(table: HonestTable, case: Case) -> Result:
    """Return what the guards find in a table with one leak."""
    rows = case.plant(table, np.random.default_rng(7))
    found = findings(table, rows)
    columns = [it for it in rows.columns if it not in table.rows.columns]
    if case.is_noted and case.guards != ("name",):
        columns = [ALL]
    verdict = "noted" if case.is_noted else "left out"
    named = {it.column: it for it in found if it.guard in case.guards and it.verdict == verdict}
    wrong = tuple(it for it in left_out(found) if it in table.honest or (case.is_noted and it in columns))
    if not set(columns) <= set(named):
        return Result(MISSED, wrong)
    weakest = min((named[it] for it in columns), key=lambda it: it.figure)
    return Result(f"{weakest.guard}{'' if weakest.guard == 'name' else f' {weakest.figure:.2f}'}", wrong)


def table_rows(
    results: Mapping[tuple[str, str], Result], tables: Mapping[str, HonestTable], alarms: Mapping[str, Sequence[str]]
) -> Iterator[list[str]]:
    """Yield the rows of the table."""
    for case in CASES:
        cells = [results[case.kind, name].cell if name in case.bases else "–" for name in BASES]
        yield [case.kind, *cells]
    yield [ENTITY, *(_split(it) for it in tables.values())]
    yield ["honest lags of the target", *(_lags(it) for it in tables.values())]
    yield [PRICE, *(_price(it) for it in tables.values())]
    counts = (f"{len(tables[name].honest)}, {len({*alarms[name]}) or 'none'}" for name in BASES)
    yield ["honest columns, and how many were left out", *counts]


def _split(table: HonestTable) -> str:
    """Return how `new` keeps the rows of one thing on one side."""
    if table.entity is None:
        return "–"
    rows = table.rows.rename({table.entity: f"{table.entity}_id"})
    roles = infer_roles(rows, table.target, Given(time=table.time, key=table.key), now=datetime(2030, 1, 1))  # noqa: DTZ001
    return f"split by {roles.split.value}"


def _price(table: HonestTable) -> str:
    """Return what an honest price explains of a total, and whether it is left out."""
    if table.task != "regression":
        return "–"
    total = priced(table, np.random.default_rng(7))
    explained = explained_by(total.rows["price"], Outcomes.of(total.rows[total.target], total.task))
    return f"{explained:.2f}, {LEFT_OUT if left_out(findings(total, total.rows)) else 'none'}"


def _lags(table: HonestTable) -> str:
    if not table.lags:
        return "–"
    found = findings(table, table.rows)
    cleared = [it.column for it in found if it.verdict == "cleared" and it.column in table.lags]
    return f"{len(cleared)} of {len(table.lags)} cleared"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=4_000, help="rows of each table (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table to docs/leak-guards.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
