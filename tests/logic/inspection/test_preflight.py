"""What a table's size allows: refusals, and the smallest difference between two models."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from ml_assets.logic.inspection.choices import Given
from ml_assets.logic.inspection.preflight import (
    Folds,
    PooledRows,
    auc_error,
    preflight,
    smallest_difference,
    too_few_rows,
)
from ml_assets.logic.inspection.roles import infer_roles
from tests.logic.inspection.tables import START


def problems(rows: int, days: int, positives: int) -> list[str]:
    at = [START + timedelta(minutes=n) for n in range(rows)]
    table = pl.DataFrame({"at": at, "y": [n < rows // 2 for n in range(rows)]})
    test = pl.DataFrame({"y": [n < positives for n in range(100)]})
    roles = infer_roles(table, "y", Given(), now=datetime(2025, 1, 1))  # noqa: DTZ001
    return [*preflight(table, test, "y", roles, days=days, margin=0.005).problems]


@pytest.mark.parametrize(
    ("rows", "days", "positives", "message"),
    [
        (1_000, 19, 50, "the table has 19 days; expected at least 20"),
        (1_000, 100, 9, "the test window, the last rows, has 9 of the rarer class; expected at least 10"),
    ],
)
def test_a_table_that_is_too_small_is_refused(rows: int, days: int, positives: int, message: str) -> None:
    [found] = problems(rows, days, positives)

    assert found.startswith(message)


def test_a_table_whose_days_are_all_spent_on_waiting_for_labels_is_refused() -> None:
    at = [START + timedelta(minutes=n) for n in range(400)]
    table = pl.DataFrame({"at": at, "y": [n % 2 == 0 for n in range(400)]})
    roles = infer_roles(table, "y", Given(horizon="30d"), now=datetime(2025, 1, 1))  # noqa: DTZ001

    [found] = preflight(table, table, "y", roles, days=100, margin=0.005, labelled_days=10).problems

    assert found.startswith("the rows cover 100 days, of which 10 are left, because the train, the validation")
    assert () == preflight(table, table, "y", roles, days=100, margin=0.005, labelled_days=20).problems


def test_rows_without_a_target_do_not_count() -> None:
    target = pl.Series([1.0] * 200)

    assert too_few_rows(target) is None
    assert str(too_few_rows(target.extend_constant(None, 50)[1:])).startswith("the table has 199 rows with a target; ")


def test_a_table_that_is_large_enough_is_not() -> None:
    assert [] == problems(200, 20, 10)


def test_classes_of_a_few_rows_are_named() -> None:
    classes = ["low"] * 150 + ["high"] * 140 + ["extreme"] * 4
    table = pl.DataFrame({"x": range(len(classes)), "y": classes})
    found = infer_roles(table, "y", Given(), now=datetime(2025, 1, 1))  # noqa: DTZ001

    lines = preflight(table, table, "y", found, days=1, margin=0.005).lines

    assert "  too few rows to learn or to test a class: 'extreme' (4 rows)" in lines


def test_the_error_of_an_auc_is_that_of_simulated_tests() -> None:
    random, positives, negatives = np.random.default_rng(0), 60, 140
    shift = 0.6744897501960817 * np.sqrt(2)  # normal scores with this distance have an AUC of 0.75
    scores = [
        np.mean(random.normal(shift, 1, positives)[:, None] > random.normal(0, 1, negatives)) for _ in range(2_000)
    ]

    assert pytest.approx(np.std(scores), rel=0.1) == auc_error(positives, negatives)


def test_unequal_weights_make_the_smallest_difference_larger() -> None:
    at = [START + timedelta(minutes=n) for n in range(1_000)]
    table = pl.DataFrame({"at": at, "y": [float(n % 7) for n in range(1_000)], "seats": [1.0, 3.0] * 500})
    known = {"now": datetime(2025, 1, 1)}  # noqa: DTZ001

    plain, weighted = (
        preflight(table, table, "y", infer_roles(table, "y", given, **known), days=100, margin=0.005).lines[1]
        for given in (Given(), Given(weight="seats"))
    )

    # The weights 1 and 3 are as exact as 4 squared over 2 (1 + 9), 80 % of the rows.
    one, other = (float(line.split("about ")[1].split()[0]) for line in (plain, weighted))
    assert pytest.approx(one / 0.8**0.5, rel=0.03) == other


def test_in_folds_every_row_is_tested_and_the_smallest_difference_allows_for_their_overlap() -> None:
    rows = pl.DataFrame({"y": [True] * 100 + [False] * 200})
    roles = infer_roles(rows, "y", Given(), now=datetime(2024, 1, 1))  # noqa: DTZ001

    lines = preflight(
        rows, rows, "y", roles, days=1, margin=0.005, folds=Folds(5, 5, "300 rows, fewer than 2,000")
    ).lines

    difference = smallest_difference(rows["y"], roles)
    assert difference is not None
    assert "each tested in one of 5 folds, which are dealt 5 times (300 rows, fewer than 2,000)" in lines[0]
    assert f"about {difference * (5 * (1 / 25 + 1 / 4)) ** 0.5:.2g} roc_auc" in lines[1]


@pytest.mark.parametrize(("rows", "chances"), [(400, ["5%"]), (20_000, ["66%"]), (200_000, [])])
def test_how_often_an_equal_model_is_promoted_is_reported_unless_it_is_likely(rows: int, chances: list[str]) -> None:
    table = pl.DataFrame({"y": [n % 5 == 0 for n in range(rows)]})
    roles = infer_roles(table, "y", Given(), now=datetime(2024, 1, 1))  # noqa: DTZ001

    later = preflight(table, table, "y", roles, days=1, margin=0.005).lines[2:]

    # The chance that a normal difference around 0, in units of its standard error, exceeds 1.96 minus the margin.
    assert chances == [line.split(" in about ")[1].split()[0] for line in later]


def test_drift_that_is_never_judged_is_told_before_training() -> None:
    at = [START + timedelta(hours=n) for n in range(400)]
    table = pl.DataFrame({"at": at, "y": [n % 2 == 0 for n in range(400)]})
    roles = infer_roles(table, "y", Given(), now=datetime(2025, 1, 1))  # noqa: DTZ001

    def last_line(pooled: PooledRows) -> str:
        return preflight(table, table, "y", roles, days=400, margin=0.005, drift=pooled).lines[-1]

    assert last_line(PooledRows(112, 200)) == (
        "  drift is never judged: 112 days, the most that are judged together, have about 112 rows; at least 200 are "
        "needed (drift.min_rows)"
    )
    assert "drift" not in last_line(PooledRows(112, 112))
