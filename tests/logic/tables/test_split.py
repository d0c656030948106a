"""Tests of splits at random and by group: stable, stratified, and which rows a model has seen."""

import math
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature, HashSplit, ModelSpec, Task, TrainingSet
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.logic.tables.split import STRATIFIED_ROWS, Shares, parts, places, was_seen
from ml_assets.logic.tables.training_set import PURGED, assemble_training_set
from tests.records import record

LAST = date(2024, 3, 31)
NOON = datetime(2024, 3, 1, 12)  # noqa: DTZ001
AMOUNT = Feature(name="amount", dtype="Float64")
SPLITS = ("train", "validation", "test")


def customers(rows: int, *, positive: float = 0.3, seed: int = 0, first: int = 0, day: date = LAST) -> pl.DataFrame:
    """Orders of one snapshot, each of one of about `rows / 8` customers."""
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "order": np.arange(first, first + rows),
            "customer": [f"c{it}" for it in generator.integers(0, max(rows // 8, 1), rows)],
            "day": [day] * rows,
            "at": [NOON] * rows,
            "amount": generator.normal(size=rows),
            "is_late": generator.random(rows) < positive,
        }
    )


def assembled(
    rows: pl.DataFrame, by: Literal["random", "group"] = "random", *, task: Task = "binary", **changes: Any
) -> TrainingSet:
    known = rows.select("order", "is_late", known_at=pl.lit(NOON))
    columns = ("order",) if by == "random" else ("customer",)
    model = ModelColumns(
        "late",
        task,
        "is_late",
        ("order",),
        "at",
        "at",
        "known_at",
        (AMOUNT,),
        group="customer" if by == "group" else None,
    )
    shares = {"validation": 0.2, "test": 0.2} | changes
    return assemble_training_set(rows, known, model, Shares(by, columns, last=LAST, **shares))


def part_of(training: TrainingSet) -> dict[int, str]:
    return dict(training.rows.select("order", "split").iter_rows())


def test_the_place_of_a_row_is_the_salted_blake2b_of_its_values() -> None:
    rows = pl.DataFrame({"shop": ["é", "b"], "number": [7, -1]})
    digests = [
        blake2b(text.encode(), digest_size=8, salt=b"ml-assets split").hexdigest() for text in ("é\x1f7", "b\x1f-1")
    ]

    found = places(rows, ["shop", "number"]).to_list()

    assert pytest.approx([int(it, 16) / 2**64 for it in digests], rel=1e-12) == found
    assert [found[0]] == places(rows.head(1).cast({"number": pl.Int8}), ["shop", "number"]).to_list()


def test_the_parts_have_their_shares_of_many_rows() -> None:
    split = assembled(customers(20_000)).summary

    shares = [window.rows / 20_000 for window in split.windows]
    assert pytest.approx([0.6, 0.2, 0.2], abs=4 * math.sqrt(0.24 / 20_000)) == shares
    assert HashSplit(by="random", columns=("order",), validation_share=0.2, test_share=0.2) == split.split


@pytest.mark.parametrize("by", ["random", "group"])
def test_further_rows_move_no_row_of_a_split_that_is_not_stratified(by: Literal["random", "group"]) -> None:
    old, new = customers(STRATIFIED_ROWS), customers(3_000, seed=1, first=STRATIFIED_ROWS)

    before, after = part_of(assembled(old, by)), part_of(assembled(pl.concat([new, old]), by))

    assert before == {order: after[order] for order in before}


def test_no_group_is_in_two_parts() -> None:
    rows = assembled(customers(2_000), "group").rows

    assert 1 == rows.group_by("customer").agg(pl.col("split").n_unique())["split"].max()
    assert {*SPLITS} == {*rows["split"]}


@pytest.mark.parametrize(("rows", "positive"), [(60, 0.1), (300, 0.5), (STRATIFIED_ROWS - 1, 0.02)])
def test_a_small_split_at_random_has_each_share_of_each_class_within_one_row(rows: int, positive: float) -> None:
    training = assembled(customers(rows, positive=positive))

    for is_late in (False, True):
        of_class = training.rows.filter(is_late=is_late)
        for name, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
            assert abs(of_class.filter(split=name).height - share * of_class.height) <= 1


def test_further_rows_move_few_rows_of_a_stratified_split_and_those_count_as_seen() -> None:
    old = customers(1_000)
    first, later = assembled(old), assembled(pl.concat([old, customers(100, seed=1, first=1_000)]))
    model = spec(first.summary.split)
    test = later.part("test")

    moved = [order for order, part in part_of(first).items() if part_of(later)[order] != part]
    trained = first.rows.filter(pl.col("split") != "test").select("order")
    again = test.join(trained, on="order")
    assert 0 < len(moved) <= 40
    assert {*again["order"]} <= {*test.filter(was_seen(model, test, known_time="known_at"))["order"]}
    assert 0 < again.height


def test_a_numeric_target_is_not_stratified() -> None:
    rows = customers(400).with_columns(is_late=pl.col("amount"))

    training = assembled(rows, task="regression")

    assert training.summary.split == HashSplit(by="random", columns=("order",), validation_share=0.2, test_share=0.2)


def test_a_label_that_becomes_known_late_is_not_purged_without_windows() -> None:
    assert 0 == assembled(customers(100)).summary.excluded_rows[PURGED]


def test_rows_are_in_the_order_of_their_places_so_that_folds_are_random_and_groups_stay_together() -> None:
    training = assembled(customers(500), "group")

    found = places(training.rows, ["customer"])
    assert found.to_list() == sorted(found)


def test_a_part_without_rows_is_reported_with_the_number_of_groups() -> None:
    rows = customers(50).with_columns(customer=pl.lit("only"))

    with pytest.raises(DataError, match="column 'customer' has 1 value in the rows with a label up to 2024-03-31"):
        assembled(rows, "group")


def test_a_row_without_a_group_is_an_error() -> None:
    rows = customers(50).with_columns(customer=pl.when(pl.col("order") > 2).then("customer"))

    with pytest.raises(DataError, match="column 'customer' of the features is null in 3 of 50 rows"):
        assembled(rows, "group")


def spec(split: HashSplit | None, last: date = LAST) -> ModelSpec:
    return record(ModelSpec, target="is_late", as_of=last, last_training_day=last, last_tuning_day=last, split=split)


RANDOM = HashSplit(by="random", columns=("order",), validation_share=0.2, test_share=0.2)
LARGER = RANDOM.model_copy(update={"test_share": 0.3})
BY_CUSTOMER = HashSplit(by="group", columns=("customer",), validation_share=0.2, test_share=0.2)


@pytest.mark.parametrize("rule", [RANDOM, BY_CUSTOMER])
def test_a_model_has_seen_the_rows_of_its_days_that_are_not_test_rows(rule: HashSplit) -> None:
    rows = customers(1_000)
    part = parts(rule, places(rows, rule.columns))
    later = rows.with_columns(day=LAST + timedelta(days=1))

    assert (part != "test").to_list() == was_seen(spec(rule), rows, known_time="known_at").to_list()
    assert not was_seen(spec(rule), later, known_time="known_at").any()


def test_a_model_that_was_split_by_time_has_seen_all_rows_of_its_days() -> None:
    rows = customers(10)

    assert was_seen(spec(None), rows, known_time="known_at").all()


def test_rows_without_the_column_of_the_groups_count_as_seen() -> None:
    assert was_seen(spec(BY_CUSTOMER), customers(100).drop("customer"), known_time="known_at").all()


def test_a_larger_test_share_only_moves_rows_into_test() -> None:
    place = places(customers(2_000), ["order"])
    small, large = parts(RANDOM, place), parts(LARGER, place)

    assert {("test", "test"), ("validation", "test"), ("validation", "validation"), ("train", "validation"),
            ("train", "train")} == {*zip(small, large, strict=True)}  # fmt: skip


def test_where_the_class_is_not_what_the_model_knew_a_row_is_new_only_if_it_is_in_every_class() -> None:
    rule = RANDOM.model_copy(update={"edges": {"false": (0.3, 0.5), "true": (0.1, 0.5)}})
    rows = customers(500).with_columns(known_at=pl.lit(NOON), is_late=pl.lit(value=False))
    corrected = rows.with_columns(known_at=pl.lit(NOON + timedelta(days=60)))
    place = places(rows, ["order"])

    def new(frame: pl.DataFrame) -> Sequence[bool]:
        return (~was_seen(spec(rule), frame, known_time="known_at")).to_list()

    assert (place < 0.3).to_list() == new(rows)
    assert (place < 0.1).to_list() == new(corrected)


def test_a_row_without_a_group_has_no_place_and_is_in_no_held_out_part() -> None:
    found = places(pl.DataFrame({"customer": ["a", None, "b", "a"]}), ["customer"])

    assert [False, True, False, False] == found.is_null().to_list()
    assert found[0] == found[3]
    rule = HashSplit(by="group", columns=("customer",), validation_share=0.2, test_share=0.2)
    assert "train" == parts(rule, found)[1]
