"""Columns made of the target of other rows are left out, and cleared if they are made of earlier rows alone."""

import numpy as np
import polars as pl
import pytest

from ml_assets.logic.inspection.candidates import Candidates, Verdict
from ml_assets.logic.inspection.neighbours import lags_of_target, windows_of_target
from tests.logic.inspection.tables import demand, orders

LOAD = pl.col("load")


def verdicts(rows: pl.DataFrame, column: pl.Expr, target: str, entity: str | None = None) -> list[Verdict]:
    table = Candidates(rows.with_columns(made=column), target, "regression", ("made",), "at", entity)
    return [it.verdict for it in lags_of_target(table) or windows_of_target(table)]


def test_the_target_of_a_later_row_is_left_out_and_that_of_an_earlier_one_is_cleared() -> None:
    assert (["left out"], ["cleared"]) == tuple(verdicts(demand(2_000), LOAD.shift(n), "load") for n in (-24, 24))


@pytest.mark.parametrize("past", [0, 1], ids=["with the row", "before the row"])
@pytest.mark.parametrize(
    "window",
    [
        pl.Expr.cum_sum,
        lambda it: it.rolling_mean(24).round(2),
        lambda it: it.ewm_mean(alpha=0.3, adjust=False),
        lambda it: it - it.shift(1),
    ],
    ids=["running total", "moving mean", "smoothed", "difference"],
)
def test_a_window_that_contains_the_row_itself_is_left_out_and_one_before_it_is_cleared(
    window: object, past: int
) -> None:
    found = verdicts(demand(2_000), window(LOAD).shift(past), "load")  # type: ignore[operator]

    assert [["left out"], ["cleared"]][past] == found


def test_a_running_total_of_each_thing_is_seen_among_the_rows_of_others() -> None:
    rows = orders().with_columns(amount=pl.Series(np.random.default_rng(2).gamma(2, 40, 4_000)))
    total = pl.col("amount").cum_sum().over("customer")

    found = [verdicts(rows, it, "amount", "customer") for it in (total, total.shift(1).over("customer"))]

    assert [["left out"], ["cleared"]] == found


def test_a_number_that_only_resembles_the_target_is_no_window_of_it() -> None:
    noise = pl.Series(np.random.default_rng(3).normal(0, 20, 2_000))

    assert [] == verdicts(demand(2_000), LOAD.rolling_mean(3) + noise, "load")


def test_a_column_that_moves_as_slowly_as_the_target_is_no_window_of_it() -> None:
    random = np.random.default_rng(4)
    trend = pl.Series(np.linspace(0, 60, 2_000))
    rows = demand(2_000).with_columns(load=trend + pl.Series(random.normal(0, 4, 2_000)))
    past_mean = LOAD.ewm_mean(alpha=0.05, adjust=False).shift(1).round(2)

    assert [[], []] == [verdicts(rows, it, "load") for it in (pl.lit(trend.round(1)), past_mean)]


def test_a_column_that_is_constant_for_each_thing_is_no_window_of_its_target() -> None:
    random = np.random.default_rng(5)
    shop = pl.Series(np.tile(np.arange(20), 150))
    rows = demand(3_000).with_columns(shop=shop, load=100.0 * shop + pl.Series(random.normal(0, 30, 3_000)))

    assert [] == verdicts(rows, 7.0 * pl.col("shop"), "load", "shop")


def test_the_target_itself_and_a_later_one_are_not_cleared_because_the_target_seldom_changes() -> None:
    level = pl.Series(np.repeat(np.random.default_rng(6).integers(0, 20, 30), 100))
    rows = demand(3_000).with_columns(load=level)

    assert [[], ["left out"]] == [
        [
            it.verdict
            for it in lags_of_target(Candidates(rows.with_columns(made=made), "load", "regression", ("made",), "at"))
        ]
        for made in (LOAD, LOAD.shift(-1))
    ]


def test_windows_are_seen_within_the_stretches_of_a_large_table() -> None:
    whole = demand(20_000).with_columns(total=LOAD.cum_sum())
    rows = pl.concat([whole.slice(start, 1_000) for start in (0, 7_000, 15_000)])
    table = Candidates(rows, "load", "regression", ("total",), "at", stretch=1_000)

    assert ["left out"] == [it.verdict for it in windows_of_target(table)]
