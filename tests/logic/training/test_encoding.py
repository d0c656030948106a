"""Tests of the encoding: codes of categories, what is missing, and types."""

import math

import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.contracts.errors import DataError
from ml_assets.logic.training.encoding import encode, fit_vocabularies, target_vector, to_matrix
from tests.logic.training.test_model import FEATURES, frame


def test_the_code_of_a_category_does_not_depend_on_the_other_rows() -> None:
    vocabularies = fit_vocabularies(frame(), FEATURES)
    rows = frame(3).with_columns(carrier=pl.Series(["UA", None, "ZZ"]))

    assert vocabularies == {"carrier": ("AA", "B6", "UA")}
    assert encode(rows, FEATURES, vocabularies, "missing")["carrier"].to_list() == [2, None, None]


def test_missing_values_remain_missing_and_numbers_become_doubles() -> None:
    encoded = encode(frame(3), FEATURES, {"carrier": ("AA",)}, "missing")

    assert encoded.schema == {"wind": pl.Float64, "hour": pl.Float64, "is_holiday": pl.Float64, "carrier": pl.Int32}
    assert encoded["wind"].null_count() == 1


def test_whole_numbers_may_be_categories() -> None:
    codes = (Feature(name="code", dtype="Int64", is_categorical=True),)
    rows = pl.DataFrame({"code": [9, 10, 9, 2**60, 2**60 + 1]})  # doubles do not distinguish the last two

    encoded = encode(rows, codes, fit_vocabularies(rows, codes), "missing")

    assert encoded["code"].to_list() == [3, 0, 3, 1, 2]


def test_whole_numbers_reach_lightgbm_exactly_up_to_the_last_that_a_double_holds() -> None:
    numbers = [1_000_000_001, 16_777_217, 2**53 - 1, -(2**53)]
    feature = (Feature(name="n", dtype="Int64"),)

    matrix = to_matrix(encode(pl.DataFrame({"n": numbers}), feature, {}, "missing"))

    assert [int(value) for value in matrix[:, 0]] == numbers


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([1.0, math.nan, None], pl.Float64, "is NaN or infinite in 1 of 3 rows"),
        ([math.inf, -math.inf, 1.0], pl.Float32, "is NaN or infinite in 2 of 3 rows"),
        ([2**53 + 1, None, 1], pl.Int64, "has whole numbers beyond 2^53 in 1 of 3 rows"),
        ([2**63, 1, 2], pl.UInt64, "has whole numbers beyond 2^53 in 1 of 3 rows"),
    ],
)
def test_numbers_that_no_double_holds_are_refused_as_feature_and_as_target(
    values: list[object], dtype: type[pl.DataType], message: str
) -> None:
    rows = pl.DataFrame({"n": pl.Series(values, dtype=dtype)})

    with pytest.raises(DataError, match=f"feature 'n' {message}".replace("^", r"\^")):
        encode(rows, (Feature(name="n", dtype=""),), {}, "missing")
    with pytest.raises(DataError, match=f"target 'n' {message}".replace("^", r"\^")):
        target_vector(rows, target="n", task="regression", classes=())
