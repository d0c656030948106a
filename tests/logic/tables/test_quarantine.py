from dataclasses import replace
from datetime import datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.contracts.table import Column, TableContract
from ml_assets.logic.tables.quarantine import Audit, audit, quarantine_findings, refusal

CONTRACT = TableContract(
    "orders",
    (
        Column("order", pl.Int64(), is_nullable=False),
        Column("amount", pl.Float64(), minimum=0),
        Column("note", pl.Int64(), maximum=0),
    ),
    key=("order",),
    warnings=frozenset({"note is at most 0"}),
    where="_models.yml",
)
SCHEMA = {"day": pl.String, "order": pl.Int64, "amount": pl.Float64, "note": pl.Int64}


def orders(*rows: tuple[str, int | None, float | None]) -> pl.DataFrame:
    return pl.DataFrame([(*row, 1) for row in rows], schema=SCHEMA, orient="row")


def held(rows: pl.DataFrame, *, share: float | None = None, released: pl.DataFrame | None = None) -> Audit:
    return audit(rows, CONTRACT, partition="day", share=share, released=released)


ROWS = orders(("a", 1, 1.0), ("a", 2, -1.0), ("b", None, None), ("b", 4, 2.0))


def test_without_a_share_broken_rows_are_published_or_block() -> None:
    found = held(ROWS)

    assert found.rows.equals(ROWS)
    assert found.quarantined.is_empty()
    assert ["order is never missing", "amount is at least 0"] == [it.rule.name for it in found.report.blocking]
    assert ["a", "b"] == found.refused


def test_with_a_share_broken_rows_are_quarantined_with_their_rules_and_only_warn() -> None:
    found = held(ROWS, share=0.5)

    assert [1, 4] == found.rows["order"].to_list()
    assert [["amount is at least 0"], ["order is never missing"]] == found.quarantined["broken_rules"].to_list()
    assert () == found.report.blocking
    assert {"a": 1} == next(it for it in found.report.broken if it.rule.name == "amount is at least 0").partitions
    assert {"order is never missing": {"quarantined": 1}, "amount is at least 0": {"quarantined": 1}} == found.counts
    assert "" == found.refusal("tables/orders", share=0.5)


def test_only_a_day_over_its_share_is_rejected_and_reported_with_the_share() -> None:
    found = held(pl.concat([ROWS, orders(("b", None, 1.0))]), share=0.5)

    assert ["b"] == found.refused
    assert found.rows.height == 5
    assert "- 66.67% of the rows of b break rules; 50.00% may be quarantined." in found.refusal("t/orders", share=0.5)


def test_rows_with_a_duplicate_key_are_not_quarantined() -> None:
    found = held(orders(("a", 1, 1.0), ("a", 1, 2.0), ("a", 2, -1.0)), share=0.5)

    assert ["order is unique"] == [it.rule.name for it in found.report.blocking]


def test_uniqueness_is_checked_among_the_published_rows() -> None:
    found = held(orders(("a", 1, 1.0), ("a", 1, -1.0)), share=0.5)

    assert () == found.report.blocking
    assert [1.0] == found.rows["amount"].to_list()


def test_a_wrong_shape_quarantines_nothing() -> None:
    found = held(ROWS.drop("amount"), share=1.0)

    assert "column 'amount' of table 'orders' is missing" in found.refusal("tables/orders", share=1.0)
    assert found.quarantined.is_empty()


@pytest.mark.parametrize("share", [None, 0.5])
def test_released_rows_pass_row_rules_and_are_counted(share: float | None) -> None:
    released = ROWS.filter(pl.col("amount") < 0).drop("day")

    found = held(ROWS, share=share, released=released)

    assert 2 in found.rows["order"].to_list()
    assert {"amount is at least 0": 1} == found.released
    assert "amount is at least 0" not in [it.rule.name for it in found.report.broken]


def test_released_rows_are_still_unique_or_nothing() -> None:
    rows = orders(("a", 2, -1.0), ("a", 2, 1.0))

    assert ["order is unique"] == [it.rule.name for it in held(rows, released=rows.head(1).drop("day")).report.blocking]


def test_a_release_does_not_depend_on_the_time_a_row_was_received() -> None:
    contract = replace(CONTRACT, columns=(*CONTRACT.columns, Column("received_at", pl.Datetime("us"))))
    rows = orders(("a", 2, -1.0)).with_columns(received_at=pl.lit(datetime(2024, 1, 2), pl.Datetime("us")))  # noqa: DTZ001
    earlier = rows.drop("day").with_columns(received_at=pl.lit(datetime(2024, 1, 1), pl.Datetime("us")))  # noqa: DTZ001

    assert {"amount is at least 0": 1} == audit(rows, contract, partition="day", released=earlier).released


def test_rows_released_under_another_contract_release_nothing() -> None:
    assert {} == held(ROWS, released=ROWS.drop("day", "note")).released


@given(
    rows=st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.integers(0, 9), st.none() | st.integers(-2, 2))),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_every_row_is_published_or_quarantined_and_published_rows_satisfy_their_row_rules(
    rows: list[tuple[str, int | None, int | None]], share: float
) -> None:
    given_rows = orders(*((day, order, None if amount is None else float(amount)) for day, order, amount in rows))

    found = held(given_rows, share=share)

    together = pl.concat([found.rows, found.quarantined.drop("broken_rules")])
    assert sorted(given_rows.rows(), key=str) == sorted(together.rows(), key=str)
    if not found.over:
        assert not [it for it in held(found.rows).report.blocking if it.rule.is_row_rule]


def test_findings_of_quarantined_rows_are_counted_by_rule_and_day() -> None:
    aside = held(ROWS, share=0.5).quarantined

    found = quarantine_findings(aside, CONTRACT, rows=4, partition="day")["amount is at least 0"]

    assert (4, 1, {"a": 1}, False) == (found.rows, found.broken, found.partitions, found.rule.is_blocking)
    assert [2] == found.samples["order"].to_list()


def test_a_refusal_names_ten_days_and_counts_the_others() -> None:
    days = [f"2024-01-{n:02d}" for n in range(1, 13)]

    assert "rejected partitions: 2024-01-01, " in refusal("raw/orders", days, ["so it is."])
    assert "2024-01-10 and 2 more:\n- so it is.\n" in refusal("raw/orders", days, ["so it is."])
