"""Columns that alone predict the target are suspected with evidence, and honest strong columns are not."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from ml_assets.logic.inspection.lone_columns import lone_predictors
from ml_assets.logic.inspection.strength import Outcomes, explained_by
from tests.logic.inspection.tables import searches

AT = datetime(2024, 1, 1, 12)  # noqa: DTZ001 - every time of these tables is naive UTC


def orders(count: int = 4000) -> pl.DataFrame:
    """Return orders whose return depends a little on each honest feature."""
    random = np.random.default_rng(3)
    items, weight, shop = random.integers(0, 10, count), random.normal(5, 2, count), random.choice(["a", "b"], count)
    late = items / 4 + weight / 2 + (shop == "a") + random.normal(0, 3, count)
    return pl.DataFrame({"items": items, "weight": weight, "shop": shop, "late_hours": late}).with_columns(
        is_late=pl.col("late_hours") > 5,
        verdict=pl.when(pl.col("late_hours") > 6)
        .then(pl.lit("bad"))
        .when(pl.col("late_hours") > 3)
        .then(pl.lit("fair"))
        .otherwise(pl.lit("good")),
    )


HONEST = ("items", "weight", "shop")
TARGETS = {"binary": "is_late", "regression": "late_hours", "multiclass": "verdict"}


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_honest_features_are_not_suspected(task: str) -> None:
    assert () == lone_predictors(orders(), HONEST, TARGETS[task], task)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_copy_of_the_label_is_suspected(task: str) -> None:
    rows = orders().with_columns(copy=pl.col(TARGETS[task]))

    (found,) = lone_predictors(rows, [*HONEST, "copy"], TARGETS[task], task)  # type: ignore[arg-type]

    assert "copy" == found.column
    assert found.power > 0.9
    assert found.sentence.startswith("column 'copy' alone explains ")


def test_grades_of_a_ranking_are_measured_as_numbers() -> None:
    rows = searches().with_columns(copy=10 - 3 * pl.col("relevance"))

    honest, copied = (
        lone_predictors(rows, columns, "relevance", "ranking")
        for columns in (["price", "distance", "stars"], ["price", "distance", "stars", "copy"])
    )

    assert () == honest
    assert ["copy"] == [it.column for it in copied]


def test_a_copy_in_which_one_label_in_ten_is_wrong_is_suspected() -> None:
    flipped = pl.Series(np.random.default_rng(4).random(4000) < 0.1)
    rows = orders().with_columns(noisy=pl.col("is_late") ^ flipped)

    assert ["noisy"] == [found.column for found in lone_predictors(rows, [*HONEST, "noisy"], "is_late", "binary")]


def test_the_number_behind_the_label_is_suspected() -> None:
    found = lone_predictors(orders(), [*HONEST, "late_hours"], "is_late", "binary")

    assert ["late_hours"] == [suspect.column for suspect in found]


def test_a_column_that_repeats_the_target_is_a_copy_though_most_columns_are_strong() -> None:
    rows = hours(3_000).with_columns(copy=pl.col("demand") * 2)
    rows = rows.with_columns(pl.col("demand").shift(n).alias(f"lag_{n}") for n in (1, 2, 24))

    found = lone_predictors(rows, ["clock", "lag_1", "lag_2", "lag_24", "copy"], "demand", "regression")

    assert [("copy", True)] == [(it.column, it.is_copy) for it in found]


def hours(count: int) -> pl.DataFrame:
    """Return a demand by hour, of which neighbouring hours have much in common."""
    random, noise = np.random.default_rng(5), np.zeros(count)
    for n in range(1, count):
        noise[n] = 0.9 * noise[n - 1] + random.normal()
    clock = np.arange(count) % 24
    return pl.DataFrame({"clock": clock, "demand": noise + 3 * np.sin(clock / 24 * 2 * np.pi)})


def test_an_honest_column_that_explains_nine_tenths_is_not_suspected() -> None:
    # the price of an order of one to three pieces explains most of its total, and nothing else explains any
    random = np.random.default_rng(6)
    price, pieces = random.gamma(1, 100, 4_000), random.choice([1, 2, 3], 4_000, p=[0.9, 0.08, 0.02])
    rows = pl.DataFrame({"price": price, "pieces": pieces, "town": random.integers(0, 9, 4_000)})
    rows = rows.with_columns(total=pl.col("price") * pl.col("pieces").clip(upper_bound=2) ** 0.6)

    assert explained_by(rows["price"], Outcomes.of(rows["total"], "regression")) > 0.9
    assert () == lone_predictors(rows, ["price", "pieces", "town"], "total", "regression")


def test_a_lag_that_was_rounded_is_not_suspected() -> None:
    rows = hours(3_000).with_columns(before=pl.col("demand").shift(1).round(1))

    assert () == lone_predictors(rows, ["clock", "before"], "demand", "regression")


def test_a_number_with_as_much_noise_is_suspected_if_other_columns_could_tell_a_cause() -> None:
    noise = np.random.default_rng(7).normal(0, 1.5, 4_000)
    rows = orders().with_columns(estimate=pl.col("late_hours") + pl.Series(noise))

    (found,) = lone_predictors(rows, [*HONEST, "estimate"], "late_hours", "regression")

    assert ("estimate", False) == (found.column, found.is_copy)
    assert "looks like an effect of the target" in found.sentence


@pytest.mark.parametrize(
    ("where", "in_words"),
    [
        (pl.when(pl.int_range(pl.len()) % 2 == 0).then("leak"), "where it has a value"),
        (pl.when(pl.int_range(pl.len()) % 2 == 0).then("leak").otherwise(-9.0), "where it is not -9.0"),
        (pl.when(pl.int_range(pl.len()) < pl.len() // 2).then("leak").otherwise("other"), "in quarter 1 of the rows"),
    ],
    ids=["missing elsewhere", "filled in elsewhere", "earlier rows"],
)
def test_a_leak_in_half_of_the_rows_is_a_copy_there(where: pl.Expr, in_words: str) -> None:
    random = np.random.default_rng(8)
    leak = orders()["is_late"] + pl.Series(random.normal(0, 0.2, 4_000))
    rows = orders().with_columns(leak=leak, other=leak.shuffle(seed=1)).with_columns(half=where)

    (found,) = lone_predictors(rows, [*HONEST, "half"], "is_late", "binary")

    assert ("half", True) == (found.column, found.is_copy)
    assert f"nearly perfectly {in_words}" in found.evidence


def test_a_column_that_the_time_of_day_decides_is_no_suspect() -> None:
    random = np.random.default_rng(5)
    at = pl.Series([AT + timedelta(hours=n) for n in range(2400)], dtype=pl.Datetime("us"))
    clock = at.dt.hour().cast(pl.Float64)
    rows = pl.DataFrame({"at": at, "clock": clock, "weak": random.normal(0, 1, 2400)})
    rows = rows.with_columns(target=clock + pl.Series(random.normal(0, 0.5, 2400)))

    found = [lone_predictors(rows, ["clock", "weak"], "target", "regression", event_time=it) for it in (None, "at")]

    assert [["clock"], []] == [[it.column for it in some] for some in found]


def test_a_column_that_the_date_decides_is_no_suspect() -> None:
    on = pl.Series([AT.date() + timedelta(days=n) for n in range(2400)])
    rows = pl.DataFrame({"on": on, "weekday": on.dt.weekday(), "target": on.dt.weekday() * 2.0})

    assert () == lone_predictors(rows, ["weekday"], "target", "regression", event_time="on")


def test_a_name_of_its_own_for_every_row_explains_nothing() -> None:
    rows = orders().with_columns(name=pl.int_range(pl.len()).cast(pl.String))

    assert () == lone_predictors(rows, [*HONEST, "name"], "is_late", "binary")


@pytest.mark.parametrize("rows", [orders(0), orders(1), orders(4000).with_columns(is_late=pl.lit(value=True))])
def test_with_a_constant_target_no_column_is_suspected(rows: pl.DataFrame) -> None:
    assert () == lone_predictors(rows, [*HONEST], "is_late", "binary")


def closed_orders(share: float) -> pl.DataFrame:
    """Return orders of which a share of the very late ones is closed; `way` and `work` sum to the hours."""
    random = np.random.default_rng(8)
    closed = (pl.col("late_hours") > 6) & pl.Series(random.random(4_000) < share)
    way = pl.Series(random.normal(0, 5, 4_000))
    return orders().with_columns(closed=closed, way=way, work=pl.col("late_hours") - way)


def test_a_value_that_most_rows_of_the_rarer_outcome_and_no_others_have_is_suspected() -> None:
    rows = closed_orders(0.7)

    (found,) = lone_predictors(rows, [*HONEST, "closed"], "is_late", "binary")

    assert "closed" == found.column
    assert f"goes with True in {rows['closed'].sum():,} rows where it is" in found.sentence


@pytest.mark.parametrize(
    ("share", "others"), [(0.7, ["way", "work"]), (0.3, HONEST)], ids=["the others expect it", "it is a minor rule"]
)
def test_a_value_of_a_single_outcome_is_not_suspected(share: float, others: list[str]) -> None:
    assert () == lone_predictors(closed_orders(share), [*others, "closed"], "is_late", "binary")
