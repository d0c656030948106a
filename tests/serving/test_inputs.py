"""The input contract accepts the rows that the batch accepts, and encodes them as the batch does."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.training import Feature, Model, ModelSpec
from ml_assets.contracts.checking import check_table
from ml_assets.contracts.table import Column, ContractRecord, TableContract
from ml_assets.logic.training.encoding import encode, number_problem, to_matrix
from ml_assets.serving.errors import RequestError
from ml_assets.serving.inputs import Columns, EncodedInputs, InputContract
from tests.records import record

COLUMNS = (
    Column("whole", pl.Int8(), role="feature", minimum=-5, maximum=100),
    Column("large", pl.Int64(), role="feature", is_nullable=False),
    Column("real", pl.Float64(), role="feature", maximum=0.1),
    Column("single", pl.Float32(), role="feature", minimum=0.1),
    Column("flag", pl.Boolean(), role="feature"),
    Column("code", pl.Int64(), role="feature", is_categorical=True, accepted_values=(1, 2, 3)),
    Column("sign", pl.Boolean(), role="feature", is_categorical=True),
    Column("word", pl.String(), role="feature", is_categorical=True),
    Column("kind", pl.String(), role="feature", is_categorical=True, accepted_values=("p", "q", "r")),
)
VOCABULARIES = {"code": ("1", "3"), "sign": ("true",), "word": ("", "a", "ä"), "kind": ("p", "q")}
VALUES = {
    "whole": st.integers(-128, 127), "large": st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
    "real": st.floats(width=64), "single": st.floats(width=32), "flag": st.booleans(), "code": st.integers(0, 4),
    "sign": st.booleans(), "word": st.sampled_from(["", "a", "ä", "z"]), "kind": st.sampled_from(["p", "q", "r", "z"]),
}  # fmt: skip


def model_of(columns: tuple[Column, ...] = COLUMNS) -> Model:
    features = tuple(Feature.of(column) for column in columns)
    contract = TableContract("table", columns, warnings=frozenset({"whole is between -5 and 100"}))
    spec = record(ModelSpec, features=features, vocabularies=VOCABULARIES)
    return Model(booster="", spec=spec, reference=pl.DataFrame(), contract=ContractRecord.of(contract))


def batch(model: Model, rows: pl.DataFrame) -> tuple[np.ndarray | None, set[str]]:
    """Return what the batch gives: the encoded rows, or None with the names of the broken fields."""
    contract = model.contract.contract()
    broken = {it.rule.columns[0] for it in check_table(rows, contract).blocking}
    broken |= {it.name for it in model.spec.features if not it.is_categorical and number_problem(rows[it.name])}
    if broken:
        return None, broken
    return to_matrix(encode(rows, model.spec.features, VOCABULARIES, "missing")), broken


def checked(call: Any, *arguments: object) -> tuple[EncodedInputs | None, set[str]]:
    try:
        return call(*arguments), set()
    except RequestError as error:
        return None, {it.field for it in error.fields}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_values_and_frames_are_accepted_and_encoded_as_in_the_batch(data: st.DataObject) -> None:
    model = model_of()
    contract = InputContract.of(model)
    rows = data.draw(st.integers(1, 4))
    values = {name: data.draw(st.lists(st.none() | its, min_size=rows, max_size=rows)) for name, its in VALUES.items()}
    frame = pl.DataFrame(values, schema={column.name: column.dtype for column in COLUMNS})
    expected, broken = batch(model, frame)

    for found, fields in (
        checked(contract.encode_columns, Columns(values, rows)),
        checked(contract.encode_columns, Columns.of_records(frame.to_dicts())), checked(contract.encode_frame, frame),
    ):  # fmt: skip
        assert broken == fields
        if expected is not None:
            assert found is not None
            assert np.array_equal(expected.view(np.uint64), found.matrix.view(np.uint64))
            unseen = {
                name: len([it for it in values[name] if it is not None and str(it).lower() not in VOCABULARIES[name]])
                for name in VOCABULARIES
            }
            assert {name: count for name, count in unseen.items() if count} == found.unseen


GOOD = {
    "whole": 1,
    "large": 1,
    "real": 0.0,
    "single": 1,
    "flag": True,
    "code": 1,
    "sign": True,
    "word": "a",
    "kind": "p",
}


@pytest.mark.parametrize(("field", "value", "detail"), [
    ("whole", 3.0, None), ("whole", 3.5, "is 3.5; expected a whole number"),
    ("whole", True, "is true; expected a whole number"), ("whole", 200, "is 200; expected a whole number from -128 to"),
    ("large", None, "is null; expected a value, not null"), ("large", 2**53 + 1, "expected a whole number from"),
    ("large", 1e300, "expected a whole number from"), ("real", float("nan"), "expected a finite number; send null"),
    ("real", 2**53 + 1, "expected a number that a double represents"), ("real", "0", "is '0'; expected a number"),
    ("real", [0], "is [0]; expected a number"), ("single", 1e300, "expected a number within the range of float32"),
    ("single", 0.1, None), ("flag", 1, "is 1; expected true or false"), ("word", 5, "is 5; expected text"),
    ("word", {"a": 1}, "expected text"), ("code", 4, "is 4; expected one of 1, 2, 3"),
    ("word", "é" * 200, None), ("flag", "x" * 200, "…; expected true or false"),
])  # fmt: skip
def test_nothing_is_converted_but_whole_numbers(field: str, value: object, detail: str | None) -> None:
    contract = InputContract.of(model_of())
    columns = Columns({name: [value if name == field else good] for name, good in GOOD.items()}, 1)

    if detail is None:
        contract.encode_columns(columns)
        return
    with pytest.raises(RequestError) as raised:
        contract.encode_columns(columns)
    [problem] = raised.value.fields
    assert field == problem.field
    assert detail in problem.detail


@pytest.mark.parametrize(("field", "column", "detail"), [
    ("whole", pl.Series([3.0]), None), ("whole", pl.Series([3.5]), "is 3.5; expected a whole number"),
    ("whole", pl.Series([300]), "is 300; expected a whole number"), ("real", pl.Series([0], dtype=pl.UInt8), None),
    ("real", pl.Series([2**53 + 1]), "expected a number that Float64 holds"),
    ("flag", pl.Series([1]), "is Int64; expected Boolean"),
    ("single", pl.Series([1e300]), "expected a number that Float32 holds"), ("single", pl.Series([None]), None),
    ("word", pl.Series(["a"], dtype=pl.Categorical), None), ("word", pl.Series([1]), "is Int64; expected String"),
    ("large", pl.Series([None]), "breaks the rule 'large is never missing'"),
    ("large", pl.Series([2**53 + 1]), "expected a whole number from"),
])  # fmt: skip
def test_a_column_of_a_frame_may_have_another_type_if_no_value_changes(
    field: str, column: pl.Series, detail: str | None
) -> None:
    contract = InputContract.of(model_of())
    good = pl.DataFrame({name: [it] for name, it in GOOD.items()}, schema={it.name: it.dtype for it in COLUMNS})
    rows = good.with_columns(column.alias(field))

    if detail is None:
        assert 1 == len(contract.encode_frame(rows).matrix)
        return
    with pytest.raises(RequestError) as raised:
        contract.encode_frame(rows)
    [problem] = raised.value.fields
    assert field == problem.field
    assert detail in problem.detail


def test_rules_over_several_rows_do_not_apply() -> None:
    columns = tuple(replace(it, is_unique=True) for it in COLUMNS)
    contract = InputContract.of(model_of(columns))
    frame = pl.DataFrame({name: [it, it] for name, it in GOOD.items()}, schema={it.name: it.dtype for it in columns})

    assert 2 == len(contract.encode_frame(frame).matrix)
