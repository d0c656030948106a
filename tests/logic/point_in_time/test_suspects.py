from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.logic.point_in_time.suspects import LonePredictor, lone_predictors, suspects

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


def test_a_copy_in_which_one_label_in_ten_is_wrong_is_suspected() -> None:
    flipped = pl.Series(np.random.default_rng(4).random(4000) < 0.1)
    rows = orders().with_columns(noisy=pl.col("is_late") ^ flipped)

    assert ["noisy"] == [found.column for found in lone_predictors(rows, [*HONEST, "noisy"], "is_late", "binary")]


def test_the_number_behind_the_label_is_suspected() -> None:
    found = lone_predictors(orders(), [*HONEST, "late_hours"], "is_late", "binary")

    assert ["late_hours"] == [suspect.column for suspect in found]


def test_a_column_that_repeats_the_target_is_a_copy_though_most_columns_are_strong() -> None:
    random = np.random.default_rng(5)
    demand = pl.Series(np.sin(np.arange(6000) / 3.82) * 10)  # a day of 24 hours
    lags = {f"lag_{n}": demand + pl.Series(random.normal(0, 2 + n / 10, 6000)) for n in range(8)}
    rows = pl.DataFrame({**lags, "copy": demand, "demand": demand})

    found = lone_predictors(rows, [*lags, "copy"], "demand", "regression")

    assert [("copy", True)] == [(it.column, it.is_copy) for it in found]


def test_a_column_that_the_time_of_day_decides_is_no_suspect() -> None:
    random = np.random.default_rng(5)
    at = pl.Series([AT + timedelta(hours=n) for n in range(2400)], dtype=pl.Datetime("us"))
    clock = at.dt.hour().cast(pl.Float64)
    weak = {f"weak_{n}": random.normal(0, 1, 2400) for n in range(5)}
    rows = pl.DataFrame({"at": at, "clock": clock, **weak, "target": clock + pl.Series(random.normal(0, 2, 2400))})

    found = [lone_predictors(rows, ["clock", *weak], "target", "regression", event_time=it) for it in (None, "at")]

    assert [["clock"], []] == [[it.column for it in some] for some in found]


LONE = (
    LonePredictor("lag_25", 0.8, 0.1),
    LonePredictor("shop", 0.7, 0.1),
    LonePredictor("copy", 1.0, 0.1, is_copy=True),
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"cuts": 29, "history": ("lag_25", "copy")}, ["shop", "copy"]),
        ({"cuts": 28, "history": ("lag_25", "copy")}, ["lag_25", "shop", "copy"]),  # 0.9 ** 28 = 0.052
        ({"cuts": 50, "history": None}, ["lag_25", "shop", "copy"]),
        ({"cuts": 50, "history": ("lag_25",), "acknowledged": ("copy",)}, ["shop"]),
    ],
    ids=["cleared", "too few cuts", "not measured", "acknowledged"],
)
def test_a_rebuild_clears_columns_of_other_rows_but_no_copy(given: Any, expected: list[str]) -> None:
    assert expected == [it.column for it in suspects(LONE, **{"acknowledged": (), **given})]


def test_a_name_of_its_own_for_every_row_explains_nothing() -> None:
    rows = orders().with_columns(name=pl.int_range(pl.len()).cast(pl.String))

    assert () == lone_predictors(rows, [*HONEST, "name"], "is_late", "binary")


@pytest.mark.parametrize("rows", [orders(0), orders(1), orders(4000).with_columns(is_late=pl.lit(value=True))])
def test_with_a_constant_target_no_column_is_suspected(rows: pl.DataFrame) -> None:
    assert () == lone_predictors(rows, [*HONEST], "is_late", "binary")
