"""Tests of dealing rows and groups into folds: equal, stratified, whole, and the same in every run."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature, HashSplit, TrainingSet, Window
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import Objective
from ml_assets.logic.tables.folds import deal, held_out, validation_folds, validation_windows
from tests.logic.tables.test_split import assembled, customers
from tests.records import record, training_set

FEATURES = (Feature(name="amount", dtype="Float64"),)


def folded(
    by: Literal["random", "group"] = "random", *, rows: int = 203, folds: int = 5, repeats: int = 2
) -> TrainingSet:
    column = "order" if by == "random" else "customer"
    rule = HashSplit(by=by, columns=(column,), validation_share=0.2, test_share=0, folds=folds, repeats=repeats)
    table = customers(rows).rename({"is_late": "late"}).with_columns(split=pl.lit("train"))
    return training_set(table, "binary", FEATURES, split=rule)


def dealt(data: TrainingSet, *, draw: int = 1, rows: pl.DataFrame | None = None) -> pl.DataFrame:
    rows, rule = data.rows if rows is None else rows, data.summary.split
    assert rule is not None
    return rows.with_columns(fold=deal(rows, rule, draw=draw, target="late"))


def test_folds_have_equal_numbers_of_rows_and_of_each_class() -> None:
    found = dealt(folded()).group_by("fold").agg(pl.len(), late=pl.col("late").sum()).sort("fold")

    assert [0, 1, 2, 3, 4] == found["fold"].to_list()
    assert found["len"].max() - found["len"].min() <= 1
    assert found["late"].max() - found["late"].min() <= 1


def test_a_group_is_in_one_fold_and_folds_have_equal_numbers_of_groups() -> None:
    found = dealt(folded("group"))
    groups = found.group_by("fold").agg(pl.col("customer").n_unique(), late=pl.col("late").mean())

    assert 1 == found.group_by("customer").agg(pl.col("fold").n_unique())["fold"].max()
    assert groups["customer"].max() - groups["customer"].min() <= 1
    assert groups["late"].max() - groups["late"].min() < 0.1


def test_a_fold_depends_on_the_rows_and_the_draw_but_not_on_their_order() -> None:
    data = folded()
    by_order = dealt(data).select("order", "fold").sort("order")

    assert by_order.equals(
        dealt(data, rows=data.rows.sample(fraction=1, shuffle=True, seed=3)).select(*by_order.columns).sort("order")
    )
    assert not by_order.equals(dealt(data, draw=2).select(*by_order.columns).sort("order"))


def test_each_row_is_tested_once_in_each_repeat_by_models_that_never_saw_it() -> None:
    data = folded("group")
    folds = [*held_out(data)]

    assert 10 == len(folds)
    for repeat in (folds[:5], folds[5:]):
        assert [*range(data.rows.height)] == sorted(np.concatenate([it.index for it in repeat]).tolist())
    for fold in folds:
        tested = {*data.rows[fold.index]["customer"]}
        assert data.rows.height == len(fold.index) + fold.others.rows.height
        assert tested.isdisjoint(fold.others.rows["customer"])
        parts = fold.others.rows.group_by("split").agg(pl.col("customer").unique())
        assert {"train", "validation"} == {*parts["split"]}
        assert not set.intersection(*map(set, parts["customer"].to_list()))


def few_positives(by: Literal["random", "group"]) -> TrainingSet:
    """As many rows, or groups, of the rarer class as there are folds, among 23 groups of 8 rows."""
    data = folded(by, rows=23 * 8, repeats=4)
    group = pl.int_range(pl.len()) // 8
    is_late = pl.int_range(pl.len()) < 5 if by == "random" else (group < 5) & (pl.int_range(pl.len()) % 2 == 0)
    return replace(data, rows=data.rows.with_columns(customer=group.cast(pl.String), late=is_late))


@pytest.mark.parametrize("by", ["random", "group"])
def test_a_class_of_as_many_rows_or_groups_as_folds_is_in_every_part(by: Literal["random", "group"]) -> None:
    data = few_positives(by)

    classes = {
        what: {rows["late"].n_unique() for rows in parts}
        for what, parts in (
            ("tested", [data.rows[it.index] for it in held_out(data)]),
            ("validation", [it.others.part("validation") for it in held_out(data)]),
            ("train", [it.others.part("train") for it in held_out(data)]),
        )
    }

    assert {"tested": {2}, "validation": {2}, "train": {2}} == classes


def test_no_validation_fold_is_empty_if_there_are_as_many_groups_as_folds() -> None:
    data = folded("group")
    data = replace(data, rows=data.rows.with_columns(customer=(pl.int_range(pl.len()) % 5).cast(pl.String)))

    for fold in held_out(data):
        found = [it.part("validation")["customer"].unique().to_list() for it in validation_folds(fold.others)]
        assert sorted([it] for it in fold.others.rows["customer"].unique()) == sorted(found)


def test_the_validation_folds_of_two_folds_differ() -> None:
    first, second = (
        next(iter(validation_folds(it.others))).part("validation")["order"] for it in [*held_out(folded())][:2]
    )

    assert {*first} != {*second}


def test_a_training_set_with_folds_has_no_test_rows() -> None:
    data = assembled(customers(400), validation=0.2, test=0.2, folds=5, repeats=3)

    assert [("train", 320), ("validation", 80)] == [(it.split, it.rows) for it in data.summary.windows]
    assert data.summary.split is not None
    assert "at random into 5 folds, 3 times" == data.summary.split.words
    assert date(2024, 3, 31) == data.summary.windows[0].last_day


@pytest.mark.parametrize(
    ("by", "rows", "problem"),
    [
        ("random", customers(60).with_columns(is_late=pl.col("order") < 3), "class 'true' of 'is_late' has 3 rows"),
        ("group", customers(30), "column 'customer' has 3 groups; expected at least 5, one for each fold"),
    ],
)  # fmt: skip
def test_too_few_rows_of_a_class_or_groups_for_the_folds_are_an_error(
    by: Any, rows: pl.DataFrame, problem: str
) -> None:
    with pytest.raises(DataError, match=problem):
        assembled(rows, by, folds=5, repeats=2)


def by_day(*, train: int = 40, validation: int = 10, known_after: int = 0, **changes: object) -> TrainingSet:
    """Return a row of each day, whose label is known after some hours: train days, then validation days."""
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(train + validation)]
    noon = pl.Series(days).cast(pl.Datetime("us")) + timedelta(hours=12)
    rows = pl.DataFrame({
        "day": days, "predicted_at": noon, "known_at": noon + timedelta(hours=known_after),
        "amount": [float(n) for n in range(len(days))], "late": [n % 2 == 0 for n in range(len(days))],
        "query": [n // 4 for n in range(len(days))], "split": ["train"] * train + ["validation"] * validation,
    })  # fmt: skip
    ends = (0, train - 1), (train, train + validation - 1)
    windows = tuple(
        record(Window, split=part, first_day=days[first], last_day=days[last], rows=last - first + 1)
        for part, (first, last) in zip(("train", "validation"), ends, strict=True)
    )
    data = training_set(rows, "binary", FEATURES)
    return replace(data, summary=data.summary.model_copy(update={"windows": windows, **changes}))


def amounts(data: TrainingSet) -> tuple[list[float], list[float]]:
    """Return the train and the validation rows, by their only feature."""
    return tuple(data.part(it)["amount"].to_list() for it in ("train", "validation"))  # type: ignore[return-value]


def test_earlier_validation_windows_are_as_long_and_have_the_rows_before_them_as_train_rows() -> None:
    found = [amounts(it) for it in validation_windows(by_day(), 3)]

    assert [
        ([*range(20)], [*range(20, 30)]), ([*range(30)], [*range(30, 40)]), ([*range(40)], [*range(40, 50)])
    ] == found  # fmt: skip


def test_a_row_whose_label_was_known_after_an_earlier_window_began_is_no_train_row_of_it() -> None:
    first, declared = validation_windows(by_day(known_after=60), 2)

    assert [*range(28)] == amounts(first)[0]  # of the 29th row, the label is known 12 hours after the window begins
    assert [*range(40)] == amounts(declared)[0]  # the training set was built so


def test_a_query_with_rows_on_both_sides_of_an_earlier_window_is_in_neither_part() -> None:
    first, _ = validation_windows(by_day(objective=Objective(loss="lambdarank", query="query")), 2)

    assert ([*range(28)], [*range(32, 40)]) == amounts(first)


def test_an_earlier_window_with_fewer_train_rows_than_validation_rows_is_left_out() -> None:
    assert [15, 25] == [len(amounts(it)[0]) for it in validation_windows(by_day(train=25), 4)]
