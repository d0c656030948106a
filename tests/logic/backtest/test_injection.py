from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.backtest.injection import KINDS, NEW_CATEGORY, Injection, Kind, inject, inject_prior

FIRST = date(2013, 6, 1)
NOTHING: dict[Kind, float] = dict.fromkeys(KINDS, 0.0) | {"unit": 1.0, "prior": 1.0}
COLUMN: dict[Kind, str] = dict.fromkeys(KINDS, "miles") | {"category": "carrier", "flip": "is_late", "prior": "is_late"}


def table(rows: int = 200, seed: int = 0) -> pl.DataFrame:
    """Return rows of ten days around the first, five before it."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "day": [FIRST + timedelta(days=int(day)) for day in random.integers(-5, 5, rows)],
            "miles": pl.Series(random.integers(0, 3_000, rows)).set(pl.Series(random.random(rows) < 0.1), None),
            "gust": random.normal(20, 5, rows),
            "carrier": random.choice(["AA", "B6"], rows),
            "is_late": random.integers(0, 2, rows),
        }
    )


def hurt(frame: pl.DataFrame, injection: Injection) -> pl.DataFrame:
    if injection.kind != "prior":
        return inject(frame, injection, day="day")
    return inject_prior(frame, frame.select("id", "is_late"), injection, key=["id"], day="day")[0]


kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 50)


@given(kinds, seeds, seeds)
@settings(max_examples=60)
def test_an_injection_of_size_nothing_changes_nothing(kind: Kind, seed: int, rows: int) -> None:
    frame = table(200, rows)

    assert frame.equals(hurt(frame, Injection(kind, COLUMN[kind], FIRST, NOTHING[kind], seed)))


@given(kinds, st.floats(0.01, 1.0), seeds)
@settings(max_examples=60)
def test_rows_of_days_before_the_first_never_change(kind: Kind, size: float, seed: int) -> None:
    frame = table()
    changed = hurt(frame, Injection(kind, COLUMN[kind], FIRST, size, seed))

    assert frame.filter(pl.col("day") < FIRST).equals(changed.filter(pl.col("day") < FIRST))
    assert frame.schema == changed.schema


@given(st.sampled_from(["stuck", "category", "missing", "flip"]), st.floats(0, 1), st.floats(0, 1), seeds)
@settings(max_examples=40)
def test_a_larger_share_takes_the_rows_of_the_smaller_one_too(kind: Kind, one: float, other: float, seed: int) -> None:
    frame, name = table(), COLUMN[kind]
    less, more = (hurt(frame, Injection(kind, name, FIRST, size, seed))[name] for size in sorted((one, other)))

    took = [(changed.ne_missing(frame[name])) for changed in (less, more)]
    assert not (took[0] & ~took[1]).any()


@given(kinds, st.floats(0, 1), seeds)
def test_an_injection_is_read_from_its_own_text(kind: Kind, size: float, seed: int) -> None:
    injection = Injection(kind, COLUMN[kind], FIRST, float(f"{max(size, 0.1):g}"), seed)

    assert Injection.parse(str(injection)) == injection


def since(frame: pl.DataFrame, column: str) -> pl.Series:
    return frame.filter(pl.col("day") >= FIRST)[column]


def test_a_unit_change_multiplies_and_integers_remain_integers() -> None:
    frame = table()
    changed = hurt(frame, Injection.parse("unit:miles:2013-06-01:1.609"))

    assert changed.schema["miles"] == pl.Int64
    assert since(changed, "miles").to_list() == [
        None if miles is None else round(miles * 1.609) for miles in since(frame, "miles").to_list()
    ]


def test_a_stuck_sensor_repeats_the_last_value_before_the_drift_even_for_missing_values() -> None:
    frame = table()
    last = frame.filter(pl.col("day") < FIRST)["miles"].drop_nulls()[-1]

    assert set(since(hurt(frame, Injection("stuck", "miles", FIRST, 1.0)), "miles")) == {last}


def test_a_share_of_the_rows_gets_a_new_category_or_no_value() -> None:
    frame = table(2_000)
    new = since(hurt(frame, Injection("category", "carrier", FIRST, 0.3)), "carrier")
    gone = since(hurt(frame, Injection("missing", "gust", FIRST, 0.3)), "gust")

    assert (new == NEW_CATEGORY).mean() == pytest.approx(0.3, abs=0.05)
    assert gone.null_count() / gone.len() == pytest.approx(0.3, abs=0.05)


def test_a_slope_adds_a_share_of_the_standard_deviation_with_each_day() -> None:
    frame = table(2_000)
    spread = frame.filter(pl.col("day") < FIRST)["gust"].std()
    added = hurt(frame, Injection("slope", "gust", FIRST, 0.5)).with_columns(pl.col("gust") - frame["gust"])

    by_day = added.filter(pl.col("day") >= FIRST).group_by("day").agg(pl.col("gust").mean()).sort("day")["gust"]
    assert by_day.to_list() == pytest.approx([0.5 * spread * day for day in range(1, 6)])  # type: ignore[operator]


def test_all_labels_flipped_are_the_other_answers() -> None:
    frame = table()

    assert (
        since(hurt(frame, Injection("flip", "is_late", FIRST, 1.0)), "is_late").to_list()
        == (1 - since(frame, "is_late")).to_list()
    )


def test_a_prior_shift_multiplies_the_odds_and_rows_leave_features_and_labels_alike() -> None:
    frame = table(8_000)
    features, labels = inject_prior(
        frame, frame.select("id", "is_late"), Injection("prior", "is_late", FIRST, 3.0), key=["id"], day="day"
    )

    assert features["id"].to_list() == labels["id"].to_list()
    assert since(features, "is_late").mean() == pytest.approx(0.75, abs=0.03)


def test_a_pattern_names_several_columns_at_once() -> None:
    frame = pl.DataFrame({"day": [FIRST], "leg_hours": [2.0], "leg_miles": [3.0], "other": [4.0]})

    assert inject(frame, Injection("unit", "leg_*", FIRST, 10), day="day").row(0) == (FIRST, 20.0, 30.0, 4.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unit:miles:2013-06-01", "has 3 parts between colons; expected KIND:COLUMN:FIRST_DAY:SIZE"),
        ("unti:miles:2013-06-01:2", "is of kind 'unti'; expected one of unit, stuck"),
        ("unit:miles:June:2", "expected a day like 2013-06-01"),
        ("unit:miles:2013-06-01:two", "a number as size"),
        ("missing:miles:2013-06-01:1.5", r"has the size 1\.5; expected a share of the rows, from 0 to 1"),
        ("prior:is_late:2013-06-01:0", "expected a factor above 0"),
        ("unit:miles:2013-06-01:nan", "expected a number"),
        ("unit::2013-06-01:2", "names no column"),
        ("unit:miles:2013-06-01:2:-1", "has the seed -1"),
    ],
)
def test_an_invalid_injection_is_rejected_with_the_expected_form(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Injection.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unit:milse:2013-06-01:2", "column 'milse' of injection .* is missing; there are id, day, miles"),
        ("unit:carrier:2013-06-01:2", "column 'carrier' is String; .* expects numbers"),
        ("category:miles:2013-06-01:0.5", "column 'miles' is Int64; .* expects text"),
        ("flip:gust:2013-06-01:0.5", "column 'gust' is Float64; .* expects labels of 0 and 1"),
    ],
)
def test_a_column_that_the_kind_does_not_know_is_refused(text: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        inject(table(), Injection.parse(text), day="day")


def test_a_day_that_is_no_date_and_a_prior_shift_of_a_single_table_are_refused() -> None:
    with pytest.raises(ContractError, match="day column 'id' is Int64"):
        inject(table(), Injection("unit", "miles", FIRST, 2), day="id")
    with pytest.raises(DataError, match="use `inject_prior`"):
        inject(table(), Injection("prior", "is_late", FIRST, 2), day="day")
