"""Guards against leaks: each planted column is named by its guard, and no honest one is left out."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from ml_assets.logic.inspection.candidates import Candidates, LeakFinding
from ml_assets.logic.inspection.guards import find_leaks
from tests.logic.inspection.tables import START, demand, orders

RANDOM = np.random.default_rng(1)
NOT_FEATURES = {"at", "returned", "load", "count"}


def found(rows: pl.DataFrame, target: str, **given: str) -> dict[str, LeakFinding]:
    columns = tuple(it for it in rows.columns if it not in NOT_FEATURES)
    task = "binary" if rows.schema[target] == pl.Boolean else "regression"
    return {it.column: it for it in find_leaks(Candidates(rows, target, task, columns, **given))}


def left_out(findings: dict[str, LeakFinding]) -> dict[str, str]:
    return {name: it.guard for name, it in findings.items() if it.verdict == "left out"}


def test_a_date_is_later_than_a_moment_of_its_own_day_in_no_time_zone() -> None:
    rows = orders().with_columns(
        on=pl.col("at").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo").dt.date()
    )
    tomorrow = rows.with_columns(on=pl.col("on") + pl.duration(days=1))

    honest, leak = (found(it, "returned", time="at", timezone="Asia/Tokyo") for it in (rows, tomorrow))

    assert ("on" in honest, leak["on"].guard) == (False, "known later")


def test_honest_columns_are_not_left_out() -> None:
    assert {"order_id": "identifier"} == left_out(found(orders(), "returned", time="at"))


@pytest.mark.parametrize(
    ("name", "guard", "column"),
    [
        ("refund", "copy of the target", lambda it: it["returned"] * it["amount"]),
        ("status", "copy of the target", lambda it: it["returned"].replace_strict({True: "R", False: "K"})),
        ("why", "missing values", lambda it: pl.select(pl.when(it["returned"]).then(it["amount"])).to_series()),
        ("risk", "golden feature", lambda it: it["returned"] + pl.Series(RANDOM.normal(0, 0.25, it.height))),
        ("settled_at", "known later", lambda it: it["at"] + timedelta(hours=30)),
        ("batch", "marker of time", lambda it: pl.Series([f"b{n // 100}" for n in range(it.height)])),
        ("token", "identifier", lambda it: pl.Series([f"t{n * 7919 % 104729}" for n in range(it.height)])),
    ],
)
def test_a_planted_column_is_left_out_by_its_guard(name: str, guard: str, column: object) -> None:
    rows = orders().drop("order_id")

    findings = found(rows.with_columns(column(rows).alias(name)), "returned", time="at")  # type: ignore[operator]

    assert {name: guard} == left_out(findings)


def test_a_column_that_has_a_value_only_when_a_later_time_has_one_is_known_as_late() -> None:
    rows = orders().drop("order_id").with_columns(
        closed_at=pl.when(pl.col("customer") % 2 == 0).then(pl.col("at") + timedelta(days=2)),
        grade=pl.when(pl.col("customer") % 2 == 0).then(pl.col("customer") % 3),
    )  # fmt: skip

    assert {"closed_at": "known later", "grade": "known later"} == left_out(found(rows, "returned", time="at"))


def test_the_parts_of_a_sum_are_left_out() -> None:
    rows = pl.DataFrame(
        {"casual": RANDOM.poisson(30, 2_000), "member": RANDOM.poisson(120, 2_000), "warm": RANDOM.normal(size=2_000)}
    ).with_columns(count=pl.col("casual") + pl.col("member"))

    assert {"casual": "sum of the target", "member": "sum of the target"} == left_out(found(rows, "count"))


def test_a_rescaled_target_is_a_copy_and_its_lags_are_cleared() -> None:
    rows = demand().with_columns(
        kilowatts=pl.col("load") * 1000, yesterday=pl.col("load").shift(24), before=pl.col("load").shift(1)
    )

    findings = found(rows, "load", time="at")

    assert {"kilowatts": "copy of the target"} == left_out(findings)
    assert ["cleared", "cleared"] == [findings[name].verdict for name in ("yesterday", "before")]


def test_a_lag_within_each_thing_is_cleared() -> None:
    shops = [demand(24 * 60).with_columns(shop=pl.lit(n), load=pl.col("load") * (1 + n)) for n in range(4)]
    rows = pl.concat(shops).sort("at", "shop").with_columns(before=pl.col("load").shift(1).over("shop"))

    findings = found(rows, "load", time="at", entity="shop")

    assert "cleared" == findings["before"].verdict


@pytest.mark.parametrize("entity", [{}, {"entity": "customer"}])
def test_a_leak_of_a_rare_class_is_not_taken_for_a_lag(entity: dict[str, str]) -> None:
    # 3 % of the rows have the class, so most values of any lag are 0; and of a customer there are few earlier rows
    rare = orders().drop("order_id").with_columns(returned=pl.Series(RANDOM.random(4_000) < 0.03))
    rows = rare.with_columns(refund=pl.col("returned") * pl.col("amount"))

    assert "left out" == found(rows, "returned", time="at", **entity)["refund"].verdict


def test_what_a_suspect_would_have_added_is_measured() -> None:
    rows = orders().drop("order_id").with_columns(refund=pl.col("returned") * pl.col("amount"))

    added = found(rows, "returned", time="at")["refund"].added

    assert added is not None
    assert 0.7 < added < 1.0  # the rest explains a part of the returns by itself


def test_a_column_that_is_much_stronger_than_all_others_is_noted_and_left_in() -> None:
    rows = pl.DataFrame({"at": orders()["at"], "size": RANDOM.normal(size=4_000), "town": RANDOM.integers(0, 5, 4_000)})
    rows = rows.with_columns(load=pl.col("size") * 3 + pl.Series(RANDOM.normal(0, 2, 4_000)))

    findings = found(rows, "load", time="at")

    assert ["size"] == [*findings]
    assert ("golden feature", "noted") == (findings["size"].guard, findings["size"].verdict)
    assert pytest.approx(9 / 13, abs=0.03) == findings["size"].figure  # 3² of 3² + 2²


def test_missing_values_of_most_rows_of_one_class_are_left_out_if_no_other_column_says_as_much() -> None:
    rows = orders().drop("order_id")
    is_missing = pl.Series(RANDOM.random(4_000) < np.where(rows["returned"], 0.85, 0.05))
    rows = rows.with_columns(survey=pl.when(~is_missing).then(pl.Series(RANDOM.integers(1, 6, 4_000))))

    assert {"survey": "missing values"} == left_out(found(rows, "returned", time="at"))
    # without other columns there is nothing to compare with
    assert {} == left_out(found(rows.select("at", "returned", "survey"), "returned", time="at"))


def test_a_name_alone_is_noted_and_left_in() -> None:
    rows = orders().drop("order_id").with_columns(final_grade=pl.Series(RANDOM.integers(0, 5, 4_000)))

    assert ("name", "noted") == ((it := found(rows, "returned", time="at")["final_grade"]).guard, it.verdict)


def test_repeated_rows_are_noted_with_their_share() -> None:
    rows = orders(2_000).drop("order_id")
    twice = pl.concat([rows, rows.head(500)]).sort("at")

    [noted] = [it for it in found(twice, "returned", time="at").values() if it.guard == "duplicate rows"]

    assert pytest.approx(500 / 2_500) == noted.figure


def test_a_table_that_drifts_is_better_on_random_rows_and_the_moving_column_is_named() -> None:
    rows, height = orders().drop("order_id"), 4_000
    trend = pl.Series("price", np.linspace(0, 10, height) + RANDOM.normal(0, 0.1, height))
    rows = rows.with_columns(trend, load=np.sin(trend.to_numpy()) * 5 + RANDOM.normal(0, 2, height))

    [noted] = [it for it in found(rows, "load", time="at").values() if it.guard == "random against time"]

    assert "it is drift: 'price' alone tells" in noted.sentence


def test_a_table_without_time_is_not_asked_about_time() -> None:
    rows = orders().with_columns(at=pl.lit(START))

    assert {"order_id": "identifier"} == {name: it.guard for name, it in found(rows, "returned").items()}
