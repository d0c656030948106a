"""Whole numbers that are codes are told from amounts."""

import numpy as np
import polars as pl
import pytest

from ml_assets.logic.inspection.codes import find_codes
from ml_assets.logic.inspection.guards import Candidates

RANDOM = np.random.default_rng(2)
SHOP = RANDOM.integers(0, 300, 6_000)
HABIT = RANDOM.normal(0, 1, 300)


def codes(column: np.ndarray, target: np.ndarray, entity: str | None = None) -> list[str]:
    rows = pl.DataFrame({"column": column, "shop": SHOP, "target": target})
    return [it.column for it in find_codes(Candidates(rows, "target", "regression", ("column",), entity=entity))]


def test_numbers_of_shops_with_habits_are_codes() -> None:
    number = RANDOM.permutation(90_000)[:300] + 10_000

    assert ["column"] == codes(number[SHOP], HABIT[SHOP] + RANDOM.normal(0, 1, 6_000))


@pytest.mark.parametrize("power", [1, 3])
def test_an_amount_is_no_code(power: int) -> None:
    amount = RANDOM.integers(0, 300, 6_000)

    assert [] == codes(amount, (amount / 100.0) ** power + RANDOM.normal(0, 1, 6_000))


def test_numbers_without_effect_are_no_codes() -> None:
    assert [] == codes(SHOP, RANDOM.normal(0, 1, 6_000))


def test_the_number_of_a_thing_whose_rows_are_on_one_side_is_no_code() -> None:
    assert [] == codes(SHOP, HABIT[SHOP] + RANDOM.normal(0, 1, 6_000), entity="shop")
