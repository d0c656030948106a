from datetime import date

import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.monitoring.reference import REFERENCE_SCHEMA, CategoricalReference, NumericReference, Reference
from ml_assets.logic.monitoring.sketch import sketch_reference

DAY = date(2013, 11, 5)


def feature(name: str, *, is_categorical: bool = False) -> Feature:
    return Feature(name=name, dtype="String" if is_categorical else "Float64", is_categorical=is_categorical)


def column(values: object) -> pl.DataFrame:
    return pl.DataFrame({"x": values}, schema={"x": pl.Float64})


def test_rare_categories_share_a_bin() -> None:
    rare = [f"rare{number}" for number in range(20)]
    frame = pl.DataFrame({"x": ["a"] * 9_960 + rare * 2})
    sketch = sketch_reference(frame, features=[feature("x", is_categorical=True)], score=None)

    bins = dict(sketch.filter(pl.col("part") == "category").select("category", "bin").iter_rows())
    assert bins == {"a": 0, **dict.fromkeys(rare, 1)}


def test_a_reference_needs_rows_a_score_and_a_day_each_and_no_feature_named_score() -> None:
    with pytest.raises(DataError, match="has no rows"):
        sketch_reference(column([]), features=[feature("x")], score=None)
    with pytest.raises(DataError, match="2 rows and 1 scores"):
        sketch_reference(column([1.0, 2.0]), features=[feature("x")], score=pl.Series([0.5]))
    with pytest.raises(DataError, match="2 rows and 1 days"):
        sketch_reference(column([1.0, 2.0]), features=[feature("x")], score=None, days=pl.Series([DAY]))
    with pytest.raises(DataError, match="1 rows of the reference have no day"):
        sketch_reference(column([1.0, 2.0]), features=[feature("x")], score=None, days=pl.Series([DAY, None]))
    with pytest.raises(ContractError, match="has the name of the model's score"):
        sketch_reference(pl.DataFrame({"score": [1.0]}), features=[feature("score")], score=None)


FRAME = pl.DataFrame({"x": [*range(990), *[None] * 10], "c": ["a", "b", None, "b"] * 250})
FEATURES = [feature("x"), feature("c", is_categorical=True)]
SCORE = pl.Series([0.5] * 1_000)


def test_a_reference_is_one_long_frame_with_every_row_counted_once() -> None:
    sketch = sketch_reference(FRAME, features=FEATURES, score=SCORE)

    counted = sketch.group_by("feature", maintain_order=True).agg(pl.col("rows").sum())
    assert sketch.schema == REFERENCE_SCHEMA
    assert counted.to_dicts() == [{"feature": name, "rows": 1_000} for name in ("x", "c", "score")]
    assert sketch.filter(pl.col("feature") == "x", pl.col("part") == "cell").height <= 201


def test_a_sketch_is_read_back_with_each_row_of_its_columns_in_one_bin() -> None:
    known = Reference.of(sketch_reference(FRAME, features=FEATURES, score=SCORE), model="late")

    numbers, categories, score = known.columns.values()
    assert known.kinds == {"x": "numeric", "c": "categorical", "score": "score"}
    assert isinstance(numbers, NumericReference)
    assert numbers.counts.tolist() == [0, *[99] * 10, 0, 10]
    assert isinstance(categories, CategoricalReference)
    assert categories.counts.tolist() == [500, 250, 0, 250]
    assert categories.bin_of == {"b": 0, "a": 1, None: 3}
    assert score.counts.tolist() == [0, 1_000, 0, 0]
    assert known.null_shares.tolist() == [0.01, 0.25, 0]


def test_a_column_without_values_is_read_back_with_nothing_but_missing_rows() -> None:
    sketch = sketch_reference(
        pl.DataFrame({"x": [None] * 4, "c": [None] * 4}, schema={"x": pl.Float64, "c": pl.String}),
        features=FEATURES,
        score=None,
    )

    known = Reference.of(sketch, model="late")
    assert [one.counts.tolist() for one in known.columns.values()] == [[0, 4], [0, 4]]
