"""What the warehouse decides before and after dbt; runs of dbt itself are in the tests of the flow and of bad input."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.periods import DAILY
from ml_assets.lake.errors import WarehouseError
from ml_assets.lake.manifest import Cost
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.warehouse import warehouse
from ml_assets.warehouse.dbt_package import is_linked
from ml_assets.warehouse.nodes import is_by_day, look_back_days, table_name, with_ancestors
from ml_assets.warehouse.warehouse import Build, Quarantine, Warehouse, quarantine_bindings
from tests.builders import dated, days, put

FIRST = date(2013, 1, 1)


def node(name: str, *parents: str, by_day: bool = True, **look_back: int) -> dict[str, Any]:
    """Return a model as dbt's manifest has it."""
    return {
        "resource_type": "model", "name": name, "unique_id": f"model.shop.{name}",
        "config": {"materialized": "by_day" if by_day else "whole", "meta": {"look_back_days": look_back}},
        "depends_on": {"nodes": [parent if "." in parent else f"model.shop.{parent}" for parent in parents]},
    }  # fmt: skip


def source(name: str, *, by_day: bool) -> dict[str, Any]:
    return {
        "resource_type": "source", "name": name, "source_name": "raw", "unique_id": f"source.shop.raw.{name}",
        "meta": {"partitioned": "day"} if by_day else {},
    }  # fmt: skip


NODES = {
    one["unique_id"]: one
    for one in (
        source("orders", by_day=True), source("shops", by_day=False),
        node("orders", "source.shop.raw.orders"),
        node("recent", "orders", "source.shop.raw.shops", orders=2),
        node("totals", "source.shop.raw.orders", by_day=False),
    )
}  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    kept = Lake(str(tmp_path))
    for day in days(FIRST, 6):
        put(kept, dated(day), asset="raw/orders", partition=str(day))
        put(kept, dated(day, rows=1), asset="tables/orders", partition=str(day))
    put(kept, dated(), asset="raw/shops")
    return kept


def bound(lake: Lake, *models: str, over: tuple[int, int] | None) -> dict[str, list[str]]:
    uids = [f"model.shop.{name}" for name in models]
    span = None if over is None else (f"2013-01-0{over[0]}", f"2013-01-0{over[1]}")
    return {uid.split(".", 2)[2]: [*refs] for uid, refs in warehouse._bind(lake, NODES, uids, span, DAILY).items()}


def test_a_node_of_dbt_has_its_name_in_the_lake_its_days_and_its_look_back() -> None:
    recent = NODES["model.shop.recent"]

    assert ["raw/orders", "tables/recent"] == [table_name(NODES["source.shop.raw.orders"]), table_name(recent)]
    assert [True, False, True, True, False] == [is_by_day(one) for one in NODES.values()]
    read = (NODES["model.shop.orders"], NODES["source.shop.raw.shops"])
    assert [2, 0] == [look_back_days(recent, it) for it in read]


@pytest.mark.parametrize(
    ("models", "over", "orders"),
    [
        (["recent"], (4, 5), {"orders": ["2013-01-02", "2013-01-03", "2013-01-04", "2013-01-05"]}),
        (
            ["orders", "recent"], (4, 5),
            {"raw.orders": ["2013-01-04", "2013-01-05"], "orders": ["2013-01-02", "2013-01-03"]},
        ),
        (["recent"], (1, 1), {"orders": ["2013-01-01"]}),
    ],
    ids=["its days and the look-back", "not what it builds itself", "nothing before the first day"],
)  # fmt: skip
def test_a_run_reads_the_days_that_it_needs(
    lake: Lake, models: list[str], over: tuple[int, int], orders: dict[str, list[str]]
) -> None:
    assert orders | {"raw.shops": [""]} == bound(lake, *models, over=over)


def missing(lake: Lake, *models: str, over: tuple[int, int] | None, first: str = str(FIRST)) -> Any:
    """Return what `models` lack over a range of days where gaps are allowed."""
    uids = [f"model.shop.{name}" for name in models]
    span = None if over is None else (f"2013-01-0{over[0]}", f"2013-01-0{over[1]}")
    refs = warehouse._bind(lake, NODES, uids, span, DAILY)
    return warehouse._missing(NODES, uids, span, refs, dict.fromkeys(NODES, first), calendar=DAILY)


def test_a_missing_day_in_a_look_back_stops_the_build_and_is_named(lake: Lake) -> None:
    for name in ("raw/orders", "tables/orders"):
        shutil.rmtree(Path(lake.url) / "artifacts" / name / "2013-01-03")

    with pytest.raises(WarehouseError, match=r"2013-01-04 to 2013-01-05 cannot be built") as error:
        missing(lake, "recent", over=(4, 5))
    assert "- recent reads tables/orders of 2013-01-03" in str(error.value)
    with pytest.raises(WarehouseError, match=r"- orders reads raw/orders of 2013-01-03\n"):
        missing(lake, "orders", "recent", over=(3, 4))  # the hole is among the days of the run

    assert {"model.shop.recent": {}} == missing(lake, "recent", over=(6, 6))
    assert {"model.shop.orders": {}, "model.shop.recent": {}} == missing(lake, "orders", "recent", over=(1, 2))
    assert {"model.shop.recent": {}} == missing(lake, "recent", over=(4, 4), first="2013-01-04")


def test_a_table_that_was_never_materialized_is_missing_too(lake: Lake) -> None:
    shutil.rmtree(Path(lake.url) / "artifacts" / "raw" / "shops")

    with pytest.raises(WarehouseError, match=r"- recent reads raw/shops\n"):
        missing(lake, "recent", over=(4, 4))


def test_a_table_that_allows_gaps_is_built_over_them_and_each_day_lists_its_own(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(Path(lake.url) / "artifacts" / "tables" / "orders" / "2013-01-03")
    monkeypatch.setitem(NODES["model.shop.recent"]["config"]["meta"], "allow_gaps", True)

    found = missing(lake, "recent", over=(5, 6))

    assert {"model.shop.recent": {"2013-01-05": {"tables/orders": ("2013-01-03",)}}} == found
    with pytest.raises(WarehouseError, match=r"- recent reads tables/orders of 2013-01-03\n"):
        missing(lake, "recent", over=(3, 4))  # its own day is no gap


def test_a_whole_table_cannot_read_one_by_day(lake: Lake) -> None:
    with pytest.raises(WarehouseError, match=r"totals is a whole table, but reads orders"):
        bound(lake, "totals", over=None)


def test_tables_that_a_dbt_test_compares_with_are_read_too(lake: Lake) -> None:
    tests = {
        uid: {"resource_type": "test", "depends_on": {"nodes": [*read]}}
        for uid, read in {
            "test.shop.known": ("model.shop.recent", "source.shop.raw.orders"),
            "test.shop.stranger": ("model.shop.recent", "model.shop.totals"),
        }.items()
    }

    bound = warehouse._bind(lake, {**NODES, **tests}, ["model.shop.recent"], ("2013-01-05", "2013-01-05"), DAILY)

    assert ["2013-01-05"] == [*bound["source.shop.raw.orders"]]  # it is made from orders, which are made from these
    assert "model.shop.totals" not in bound


def test_models_come_after_everything_that_they_read() -> None:
    ordered = with_ancestors(NODES, ["model.shop.recent", "model.shop.orders"])

    assert {"source.shop.raw.orders", "source.shop.raw.shops"} == {*ordered[:-1]} - {"model.shop.orders"}
    assert "model.shop.recent" == ordered[-1]
    assert ordered.index("source.shop.raw.orders") < ordered.index("model.shop.orders")
    assert ["source.shop.raw.shops"] == with_ancestors(NODES, ["source.shop.raw.shops"])


def test_the_plugin_gets_rules_share_and_released_rows(tmp_path: Path) -> None:
    rows = dated(FIRST)
    aside = {
        "model.shop.orders": Quarantine(0.1, {"n is at least 0": "n < 0"}, rows),
        "model.shop.totals": Quarantine(0.2, {}),
    }

    given = quarantine_bindings(NODES, aside, tmp_path)

    path = given["orders"]["released"]
    assert {"share": 0.1, "rules": {"n is at least 0": "n < 0"}, "released": path} == given["orders"]
    assert rows.equals(pl.read_parquet(str(path)))
    assert {"share": 0.2, "rules": {}, "released": None} == given["totals"]


def test_a_dbt_that_cannot_start_is_reported_with_its_output(tmp_path: Path, lake: Lake) -> None:
    project = tmp_path / "no_project"
    project.mkdir()
    house = Warehouse(lake=LakeResource(url=lake.url), project_dir=str(project))
    manifest = {"nodes": {k: v for k, v in NODES.items() if k.startswith("model.")},
                "sources": {k: v for k, v in NODES.items() if k.startswith("source.")}}  # fmt: skip

    with (
        pytest.raises(
            WarehouseError, match=r"(?s)exit code 2 without results. Its last lines:.*No dbt_project.yml found"
        ),
        house.build(manifest, ["model.shop.orders"], (str(FIRST), str(FIRST)), log=lambda _: None),
    ):
        pytest.fail("nothing was built")

    assert is_linked(project)  # the engine's dbt package, before dbt is started


def test_the_cost_of_dbt_is_divided_by_the_seconds_of_tables_and_equally_among_their_days(tmp_path: Path) -> None:
    whole = Cost(seconds=12.0, cpu_seconds=8.0, peak_memory_bytes=100)
    build = Build({"a": 3.0, "b": 1.0}, (), {}, tmp_path, ("a", "b"), cost=whole)

    of_a, of_b = build.cost_of("a", 3), build.cost_of("b", 1)

    assert Cost(seconds=3.0, cpu_seconds=2.0, peak_memory_bytes=100, parts=3) == of_a
    assert Cost(seconds=3.0, cpu_seconds=2.0, peak_memory_bytes=100, parts=1) == of_b
    assert whole == replace(build, seconds={"a": 0.0}).cost_of("a", 1)
