"""The leaks that `benchmarks.guards` plants: each is found in few rows, and the page has the table of the command."""

from functools import cache

import numpy as np
import pytest

from benchmarks.guard_corpus import BASES, CASES, Case, HonestTable
from benchmarks.guards import ENTITY, HEAD, MISSED, PAGE, examine, findings, left_out
from benchmarks.page_table import table_of
from ml_assets.logic.inspection.strength import Outcomes

ROWS = 2_000
PLANTED = [
    pytest.param(name, case, id=f"{name}: {case.kind}", marks=() if name == case.bases[0] else pytest.mark.long)
    for case in CASES
    for name in case.bases
]


@cache
def honest(name: str) -> HonestTable:
    return BASES[name](ROWS)


@pytest.mark.parametrize(("name", "case"), PLANTED)
def test_a_planted_leak_is_found_and_no_honest_column_is_left_out(name: str, case: Case) -> None:
    result = examine(honest(name), case)

    assert (True, ()) == (result.cell.startswith(case.guards), result.false_alarms)


@pytest.mark.parametrize("name", BASES)
def test_honest_tables_lose_no_column_and_their_lags_are_cleared(name: str) -> None:
    table = honest(name)
    found = findings(table, table.rows)

    assert [] == left_out(found)
    assert set(table.lags) == {it.column for it in found if it.verdict == "cleared"}


def test_the_outcomes_of_several_classes_are_looked_at_one_by_one() -> None:
    target = honest("patients").rows["urgency"]

    each = Outcomes.of(target, "multiclass").of_classes

    assert [(target == it).to_list() for it in ("high", "low", "middle")] == [
        (it.values[:, 0] == 1).tolist() for it in each
    ]
    assert [1] * 3 == [it.values.shape[1] for it in each]


def test_the_page_has_the_rows_of_the_command_and_misses_nothing() -> None:
    cells = table_of(PAGE)

    assert list(HEAD) == cells[0]
    assert [*(case.kind for case in CASES), ENTITY] == [row[0] for row in cells[2 : 3 + len(CASES)]]
    assert MISSED not in {cell for row in cells for cell in row}
    for case, row in zip(CASES, cells[2:], strict=False):
        assert np.isin([*BASES], case.bases).tolist() == [cell != "–" for cell in row[1:]]
