"""Whole numbers that are codes are told from amounts."""

import numpy as np
import polars as pl
import pytest

from ml_assets.logic.inspection.candidates import Candidates
from ml_assets.logic.inspection.codes import find_codes

RANDOM = np.random.default_rng(2)
SHOP = RANDOM.integers(0, 250, 30_000)
HABIT = RANDOM.normal(0, 1, 250)


def codes(column: np.ndarray, target: np.ndarray, entity: str | None = None) -> list[str]:
    rows = pl.DataFrame({"column": column, "shop": SHOP, "target": target})
    return [it.column for it in find_codes(Candidates(rows, "target", "regression", ("column",), entity=entity))]


def test_numbers_of_shops_with_habits_are_codes() -> None:
    number = RANDOM.permutation(90_000)[:250] + 10_000

    assert ["column"] == codes(number[SHOP], HABIT[SHOP] + RANDOM.normal(0, 1, 30_000))


def test_codes_of_which_each_has_few_rows_stay_numbers() -> None:
    number, shop = RANDOM.permutation(90_000)[:400], RANDOM.integers(0, 400, 30_000)

    assert [] == codes(number[shop], RANDOM.normal(0, 1, 400)[shop])


@pytest.mark.parametrize("power", [1, 3])
def test_an_amount_is_no_code(power: int) -> None:
    amount = RANDOM.integers(0, 250, 30_000)

    assert [] == codes(amount, (amount / 100.0) ** power + RANDOM.normal(0, 1, 30_000))


def test_numbers_without_effect_are_no_codes() -> None:
    assert [] == codes(SHOP, RANDOM.normal(0, 1, 30_000))


def test_the_number_of_a_thing_whose_rows_are_on_one_side_is_no_code() -> None:
    assert [] == codes(SHOP, HABIT[SHOP] + RANDOM.normal(0, 1, 30_000), entity="shop")
