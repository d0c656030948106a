from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.table import TableContract
from ml_assets.logic.tables.expectations import Measure, Past, Surprise, report_of, rules_of, surprises

FIRST = date(2024, 1, 1)
TODAY = FIRST + timedelta(days=28)
PAST = [FIRST + timedelta(days=n) for n in range(28)]


def a_day(day: date, *, rows: int = 200, missing: int = 20, shops: str = "aabbc") -> pl.DataFrame:
    """Return a day's orders: shops in turn, the first of the weights missing."""
    return pl.DataFrame(
        {
            "day": [day] * rows,
            "shop": [shops[n % len(shops)] for n in range(rows)],
            "weight_kg": [None if n < missing else 1.0 + n for n in range(rows)],
        },
        schema={"day": pl.Date, "shop": pl.String, "weight_kg": pl.Float64},
    )


def four_weeks() -> pl.DataFrame:
    """Return the days before: 200 to 220 rows, 10 % to 12 % of the weights missing, the shops as they are."""
    return pl.concat(a_day(day, rows=200 + n % 5 * 5, missing=20 + n % 5) for n, day in enumerate(PAST))


def judge(
    today: pl.DataFrame,
    past: pl.DataFrame | None = None,
    columns: Sequence[str] = ("weight_kg",),
    categorical: Sequence[str] = ("shop",),
    **changes: Any,
) -> tuple[Surprise, ...]:
    past = four_weeks() if past is None else past
    compared = Past(**{"days": past["day"].unique().to_list(), **changes})  # type: ignore[arg-type]
    return surprises(pl.concat([past, today]), [TODAY], compared, columns=columns, categorical=categorical)


def test_a_day_like_those_before_it_causes_no_finding() -> None:
    assert () == judge(a_day(TODAY))


@pytest.mark.parametrize("name", ["rows", "of", "figure", "judged", "column", "nulls", "category", "weight kg"])
def test_columns_may_be_called_as_the_figures_are(name: str) -> None:
    def named(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.rename({"weight_kg": name, "shop": f"{name} of shop"})

    today = a_day(TODAY, missing=100, shops="abbbb")
    found, plain = (
        judge(named(today), named(four_weeks()), columns=[name], categorical=[f"{name} of shop"]),
        judge(today),
    )

    assert [it.got for it in found] == [it.got for it in plain]
    assert {"null_share", "category_share"} == {it.measure for it in found}
    assert f"column '{name}' is missing in 50.0% of 200 rows" in found[0].sentence


ROWS = "expected 133 to 289, because the 28 days before had 200 to 220."
NULLS = "200 rows on 2024-01-29; expected 0.9% to 20.3%, because it was 10.0% to 10.9% on the 28 days before."


@pytest.mark.parametrize(
    ("today", "measure", "sentence"),
    [
        (a_day(TODAY, rows=100, missing=10), "row_count", f"2024-01-29 has 100 rows; {ROWS}"),
        (a_day(TODAY, rows=400, missing=40), "row_count", f"2024-01-29 has 400 rows; {ROWS}"),
        (a_day(TODAY, missing=60), "null_share", f"column 'weight_kg' is missing in 30.0% of {NULLS}"),
        (a_day(TODAY, missing=0), "null_share", f"column 'weight_kg' is missing in 0.0% of {NULLS}"),
    ],
    ids=["too few rows", "too many rows", "too many missing", "suddenly none missing"],
)
def test_a_figure_outside_the_range_of_earlier_days_is_reported_with_the_range(
    today: pl.DataFrame, measure: Measure, sentence: str
) -> None:
    assert [(measure, sentence)] == [(it.measure, it.sentence) for it in judge(today)]


def test_a_category_that_vanishes_and_its_replacement_are_reported() -> None:
    found = {it.category: it for it in judge(a_day(TODAY, shops="bbbbc"))}

    assert {"a", "b"} == set(found)
    assert (0.0, 0.8) == (found["a"].got, found["b"].got)
    assert found["a"].sentence.startswith("column 'shop' is 'a' in 0.0% of 200 rows on 2024-01-29; expected 2")


def test_all_new_categories_are_reported_together() -> None:
    (found,) = [it for it in judge(a_day(TODAY, shops="aabbcuvwxyz")) if it.category is None]

    assert "category_share" == found.measure
    assert found.sentence.startswith("column 'shop' is all others in 54.")


def test_a_missing_category_counts_as_missing_and_not_as_a_smaller_share() -> None:
    today = a_day(TODAY).with_columns(shop=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.col("shop")))

    assert ["null_share"] == [it.measure for it in judge(today, columns=["shop"])]


def test_a_day_without_rows_is_too_few_rows_and_nothing_else() -> None:
    assert [("row_count", 0)] == [(it.measure, it.got) for it in judge(a_day(TODAY).clear())]


def test_a_weekly_closing_day_causes_no_finding() -> None:
    open_days = four_weeks().filter(pl.col("day").dt.weekday() != TODAY.isoweekday())

    assert () == judge(a_day(TODAY).clear(), open_days, days=PAST)
    assert ["row_count"] == [it.measure for it in judge(a_day(TODAY).clear(), open_days)]


def test_too_few_days_before_it_and_a_day_is_not_judged() -> None:
    odd = a_day(TODAY, rows=1, missing=1)

    assert () == judge(odd, four_weeks().filter(pl.col("day") >= TODAY - timedelta(days=6)))
    assert judge(odd, four_weeks().filter(pl.col("day") >= TODAY - timedelta(days=7)))
    assert (TODAY,) == Past([TODAY - timedelta(days=n) for n in range(1, 7)]).not_judged([TODAY])
    assert () == Past([TODAY - timedelta(days=n) for n in range(1, 8)]).not_judged([TODAY])


def test_days_further_back_do_not_count() -> None:
    long_ago = a_day(TODAY - timedelta(days=29), rows=1_000, missing=100)

    assert judge(a_day(TODAY, rows=1_000, missing=100), pl.concat([long_ago, four_weeks()]))
    assert () == judge(a_day(TODAY, rows=1_000, missing=100), pl.concat([long_ago, four_weeks()]), reach=29)


def test_a_wider_margin_reports_less() -> None:
    odd = a_day(TODAY, rows=300, missing=30)

    assert judge(odd)
    assert () == judge(odd, margin=2.0)


def test_few_rows_may_differ_by_chance() -> None:
    small = pl.concat(a_day(day, rows=10, missing=0) for day in PAST)

    assert () == judge(a_day(TODAY, rows=10, missing=3), small)


@settings(max_examples=20)
@given(rows=st.lists(st.integers(0, 40), min_size=9, max_size=9), missing=st.lists(st.integers(0, 9), min_size=9))
def test_a_range_of_days_gives_the_findings_of_each_day_alone(rows: list[int], missing: list[int]) -> None:
    days = PAST[:9]
    frame = pl.concat(
        a_day(day, rows=rows[n] * 5, missing=missing[n], shops="aab"[n % 2 :] + "c") for n, day in enumerate(days)
    )
    reported = partial(surprises, columns=["weight_kg", "shop"], categorical=["shop"])

    at_once = reported(frame, days[5:], Past(days[:5], reach=4, min_days=3))
    alone = [
        it
        for n, day in enumerate(days[5:], start=5)
        for it in reported(frame.filter(pl.col("day") <= day), [day], Past(days[:n], reach=4, min_days=3))
    ]

    assert alone == [*at_once]


@settings(max_examples=10)
@given(seed=st.integers(0, 2**16))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    rows = pl.concat([four_weeks(), a_day(TODAY, rows=300, missing=90, shops="abd")])
    shuffled = rows.sample(fraction=1, shuffle=True, seed=seed)
    reported = partial(surprises, columns=["weight_kg"], categorical=["shop"])

    assert reported(rows, [TODAY], Past(PAST)) == reported(shuffled, [TODAY], Past(PAST))


def test_a_report_has_a_finding_for_each_expectation_with_its_days() -> None:
    odd = pl.concat([a_day(TODAY, rows=100, missing=60), a_day(TODAY + timedelta(days=1))])
    found = surprises(
        pl.concat([four_weeks(), odd]), [TODAY, TODAY + timedelta(days=1)], Past(PAST), columns=["weight_kg"],
        categorical=["shop"],
    )  # fmt: skip
    rows_by_day = {TODAY: 100, TODAY + timedelta(days=1): 200}

    report = report_of(found, rows_by_day, TableContract("orders", ()), is_blocking=True)

    assert rules_of(is_blocking=True) == tuple(finding.rule for finding in report.findings)
    assert [(300, 100, {"2024-01-29": 100}), (300, 100, {"2024-01-29": 100}), (300, 0, {})] == [
        (finding.rows, finding.broken, finding.partitions) for finding in report.findings
    ]
    assert "2024-01-29 has 100 rows" in report.sentence(report.findings[0])
    assert 2 == len(report.blocking)
    assert () == report_of(found, rows_by_day, TableContract("orders", ()), is_blocking=False).blocking


def test_a_message_lists_ten_surprises_of_a_kind_and_counts_the_others() -> None:
    days = [TODAY + timedelta(days=n) for n in range(12)]
    odd = [Surprise("row_count", day, None, None, 1, 5, 9, f"{day} is odd.") for day in days]

    (rows, *_) = report_of(odd, dict.fromkeys(days, 1), TableContract("orders", ()), is_blocking=False).findings

    assert [
        *(f"{day} is odd." for day in days[:10]),
        "2 more like these, on 12 days in total.",
    ] == rows.detail.splitlines()
