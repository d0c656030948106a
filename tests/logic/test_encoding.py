"""Tests of the encoding: codes of categories, what is missing, and types."""

import polars as pl

from ml_assets.contracts.artifacts import Feature
from ml_assets.logic.encoding import encode, fit_vocabularies
from tests.logic.test_model import FEATURES, frame


def test_a_category_keeps_its_code_whatever_else_is_in_the_rows() -> None:
    vocabularies = fit_vocabularies(frame(), FEATURES)
    rows = frame(3).with_columns(carrier=pl.Series(["UA", None, "ZZ"]))

    assert vocabularies == {"carrier": ("AA", "B6", "UA")}
    assert encode(rows, FEATURES, vocabularies, "missing")["carrier"].to_list() == [2, None, None]


def test_missing_stays_missing_and_numbers_become_float32() -> None:
    encoded = encode(frame(3), FEATURES, {"carrier": ("AA",)}, "missing")

    assert encoded.schema == {"wind": pl.Float32, "hour": pl.Float32, "is_holiday": pl.Float32, "carrier": pl.Int32}
    assert encoded["wind"].null_count() == 1


def test_whole_numbers_may_be_categories() -> None:
    hours = (Feature(name="hour", dtype="Int64", is_categorical=True),)

    encoded = encode(pl.DataFrame({"hour": [9, 10, 9]}), hours, {"hour": ("10", "9")}, "missing")

    assert encoded["hour"].to_list() == [1, 0, 1]
