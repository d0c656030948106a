"""Checks of dbt's tables: what is checked, rejected, quarantined and released, in real runs of dbt."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.errors import ContractError
from ml_assets.lake.quarantine import release, set_aside
from ml_assets.lake.store import Lake
from tests.builders import failure, put
from tests.event_logs import ephemeral_instance
from tests.stages.shop_dbt import FIRST, SECOND, Shop, dbt_project, orders

GOOD = ((1, "a", 5.0), (2, "b", 6.0))


@pytest.fixture(scope="session")
def shop_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dbt_project(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(shop_project: Path, tmp_path: Path) -> Iterator[Shop]:
    lake = Lake(str(tmp_path))
    put(lake, pl.DataFrame({"shop": ["a", "b"]}), asset="tables/shops")
    with ephemeral_instance() as instance:
        yield Shop(shop_project, lake, instance)


def checks(result: dg.ExecuteInProcessResult, table: str = "orders") -> dict[str, dg.AssetCheckEvaluation]:
    found = result.get_asset_check_evaluations()
    return {check.check_name: check for check in found if check.asset_key.path[-1] == table}


def facts(check: dg.AssetCheckEvaluation, *names: str) -> list[Any]:
    return [check.metadata[name].value for name in names]


def test_a_day_that_breaks_a_rule_is_not_published_and_the_previous_version_remains(shop: Shop) -> None:
    shop.land(first=orders(*GOOD), second=orders(day=SECOND))
    clean = shop.build()
    assert clean.success
    assert {
        "columns_are_as_in_the_contract", "order_id_is_unique", "order_id_is_at_most_100", "day_is_never_missing",
        "shop_is_the_shop_of_a_row_of_shops", "amount_is_never_missing", "amount_is_finite", "amount_is_at_least_0",
        "no_order_is_number_thirteen",
    } == {*checks(clean)}  # fmt: skip
    assert all(check.passed for check in checks(clean).values())
    stood = shop.lake.newest("tables/orders")

    shop.land(first=orders((1, "a", 7.0)), second=orders((3, "a", -1.0), (4, "b", 2.0), day=SECOND))
    result = shop.build()

    step, message = failure(result)
    assert "ml_assets_tables_by_day" == step
    assert "- orders: rule 'amount is at least 0' of table 'orders' is broken in 1 of 3 rows" in message
    assert "on 2024-01-02, for instance by -1.0" in message
    assert f"- orders: to see the rejected rows: ml-assets quarantine tables/orders {SECOND}" in message
    assert "- totals: it depends on orders." in message
    assert stood == shop.lake.newest("tables/orders")
    assert [SECOND] == shop.lake.partitions("tables/orders__rejected")
    assert [(3, "a", -1.0, ["amount is at least 0"]), (4, "b", 2.0, [])] == shop.rows("orders__rejected", SECOND)
    check = checks(result)["amount_is_at_least_0"]
    assert (False, dg.AssetCheckSeverity.ERROR) == (check.passed, check.severity)
    assert [1, 3, {SECOND: 1}] == facts(check, "broken", "rows", "days")


def test_a_day_that_was_landed_with_narrower_numbers_is_read_together_with_wider_ones(shop: Shop) -> None:
    narrow = orders((1, "a", 5.0)).cast({"order_id": pl.Int32, "amount": pl.Float32})
    shop.land(first=narrow, second=orders((2**40, "b", 1e300), day=SECOND))

    assert shop.build().success

    assert [(1, "a", 5.0), (2**40, "b", 1e300)] == [row for day in (FIRST, SECOND) for row in shop.rows("orders", day)]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_day_with_a_number_that_is_not_finite_is_not_visible(shop: Shop, number: float) -> None:
    """The range has no maximum: a comparison alone would let these numbers pass."""
    shop.land(first=orders(*GOOD), second=orders((3, "a", number), (4, "b", 2.0), day=SECOND))

    result = shop.build()

    assert (
        "rule 'amount is finite' of table 'orders' is broken in 1 of 4 rows (25.00%), on 2024-01-02"
        in failure(result)[1]
    )
    assert shop.lake.newest("tables/orders") == {}
    assert [(3, number, ["amount is finite"])] == [
        (order, pytest.approx(amount, nan_ok=True), rules)
        for order, _, amount, rules in shop.rows("orders__rejected", SECOND) if rules
    ]  # fmt: skip


def test_a_number_that_is_not_finite_is_quarantined_if_the_table_has_a_quarantine(shop: Shop) -> None:
    shop.land(first=orders(*GOOD, (3, "a", math.nan)), second=orders(day=SECOND))

    assert shop.build(quarantine={"orders": 0.5}).success

    assert [1, 2] == [order for order, *_ in shop.rows("orders")]
    assert [(3, ["amount is finite"])] == [(row[0], row[-1]) for row in shop.rows("orders__quarantine")]


def test_every_kind_of_test_is_reported_in_one_run_and_a_warning_does_not_block(shop: Shop) -> None:
    shop.land(first=orders((13, "a", 1.0), (101, "z", 1.0)))

    result = shop.build(last=FIRST)

    found = checks(result)
    assert {"no_order_is_number_thirteen", "shop_is_the_shop_of_a_row_of_shops", "order_id_is_at_most_100"} == {
        name for name, check in found.items() if not check.passed
    }
    assert dg.AssetCheckSeverity.WARN == found["order_id_is_at_most_100"].severity
    _, message = failure(result)
    assert "dbt's test 'no_order_is_number_thirteen' found 1 rows" in message
    assert "rule 'shop is the shop of a row of shops' of table 'orders' is broken in 1 of 2 rows" in message
    assert "at most 100" not in message
    assert {} == shop.lake.newest("tables/orders") | shop.lake.newest("tables/totals")


def test_a_constraint_that_dbt_names_fails_its_check(shop: Shop) -> None:
    shop.land(first=orders((1, "a", None)))

    result = shop.build(last=FIRST)

    assert ["amount_is_never_missing"] == [name for name, check in checks(result).items() if not check.passed]
    _, message = failure(result)
    assert "- orders: " in message
    assert "NOT NULL constraint failed" in message
    assert {} == shop.lake.newest("tables/orders")


def test_rows_are_quarantined_in_the_run_and_pass_after_their_release(shop: Shop) -> None:
    shop.land(first=orders((1, "a", 5.0), (2, "z", -1.0), (3, "a", None), (4, None, 1.0)), second=orders(day=SECOND))
    result = shop.build(quarantine={"orders": 0.5})

    assert result.success, failure(result)
    assert [(1, "a", 5.0), (4, None, 1.0)] == shop.rows("orders")
    assert [(2,)] == shop.rows("totals")
    assert [
        (2, "z", -1.0, ["shop is the shop of a row of shops", "amount is at least 0"]),
        (3, "a", None, ["amount is never missing"]),
    ] == shop.rows("orders__quarantine")
    assert [] == shop.rows("orders__quarantine", SECOND)
    check = checks(result)["amount_is_at_least_0"]
    assert (False, dg.AssetCheckSeverity.WARN) == (check.passed, check.severity)
    assert [1, 4, {FIRST: 1}, 1] == facts(check, "broken", "rows", "days", "quarantined")

    [aside] = set_aside(shop.lake, "tables/orders")
    released = release(shop.lake, aside, why="returns, booked by hand", by="sam")
    result = shop.build(quarantine={"orders": 0.5})

    assert result.success
    assert 4 == len(shop.rows("orders"))
    assert [(4,)] == shop.rows("totals")
    assert [] == [*set_aside(shop.lake, "tables/orders")]
    assert released.ref in shop.lake.manifest(shop.lake.find("tables/orders", FIRST)).inputs
    assert released.ref not in shop.lake.manifest(shop.lake.find("tables/orders", SECOND)).inputs
    check = checks(result)["amount_is_never_missing"]
    assert check.passed
    assert [1] == facts(check, "released")


def test_a_table_without_days_quarantines_rows_and_is_rejected_over_the_share(shop: Shop) -> None:
    put(shop.lake, pl.DataFrame({"shop": ["a", None]}), asset="raw/shops")

    result = shop.build("shops", "shops__quarantine", quarantine={"shops": 0.5})
    stood = shop.lake.find("tables/shops")
    put(shop.lake, pl.DataFrame({"shop": ["a", None, None]}), asset="raw/shops")
    over = shop.build("shops", "shops__quarantine", quarantine={"shops": 0.5})

    assert result.success
    assert [("a",)] == shop.rows("shops", None)
    assert [(None, ["shop is never missing"])] == shop.rows("shops__quarantine", None)
    assert {"columns_are_as_in_the_contract": True, "shop_is_never_missing": False, "shop_is_unique": True} == {
        name: check.passed for name, check in checks(result, "shops").items()
    }
    assert "66.67% of the rows break rules; 50.00% may be quarantined." in failure(over)[1]
    assert stood == shop.lake.find("tables/shops")
    assert 3 == len(shop.rows("shops__rejected", None))


def test_a_quarantine_for_an_unknown_table_is_rejected_with_a_suggestion(shop: Shop) -> None:
    with pytest.raises(
        ContractError, match=r"quarantine\.order: there is no table 'order' in dbt .*did you mean 'orders'"
    ):
        shop.build(quarantine={"order": 0.1})
