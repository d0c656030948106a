"""Rebuilds of a shop's table, in a dbt project of two models made for the purpose.

The example's own project stays out; see tests/test_leaks.py.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.lake.errors import WarehouseError
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.dbt_package import LINK
from ml_assets.warehouse.rebuild import Rebuilds, reach_of
from ml_assets.warehouse.warehouse import Quarantine

PROJECT = Path(__file__).parents[2] / "dbt_project"
DAY = date(2024, 3, 10)
KEY = str(DAY)
ORDERS = "source.shop.raw.orders"
MODELS = {
    "stg_orders": "select day, amount from {{ source('raw', 'orders') }}"
    " where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}",
    "order_sums": "select {{ ml_assets.last_day() }} as day, cast(sum(amount) as bigint) as amount"
    " from {{ ref('stg_orders') }}"
    " where day between {{ ml_assets.look_back_first_day(3) }} and {{ ml_assets.last_day() }}",
}
Shop = tuple[Path, Mapping[str, Any]]
COLUMNS = [{"name": "day", "data_type": "date"}, {"name": "amount", "data_type": "bigint"}]


def node(kind: str, name: str, *parents: str, by_day: bool = True, **look_back_days: int) -> dict[str, Any]:
    meta = {"partitioned": "day" if by_day else None, "look_back_days": look_back_days}
    return {
        "resource_type": kind, "name": name, "source_name": "raw", "depends_on": {"nodes": [*parents]}, "meta": meta,
        "config": {"materialized": "by_day" if by_day else "whole"},
    }  # fmt: skip


def manifest_of(*nodes: Mapping[str, Any]) -> dict[str, Any]:
    ids = {f"{it['resource_type'][0]}.{it['name']}": it for it in nodes}
    return {
        "nodes": {uid: it for uid, it in ids.items() if uid.startswith("m.")},
        "sources": {uid: it for uid, it in ids.items() if uid.startswith("s.")},
    }


def test_each_table_is_needed_as_far_back_as_its_readers_look_together() -> None:
    manifest = manifest_of(
        node("source", "orders"),
        node("source", "shops", by_day=False),
        node("model", "clean", "s.orders", orders=1),
        node("model", "recent", "m.clean", clean=28),
        node("model", "places", "s.shops", by_day=False),
        node("model", "features", "m.clean", "m.recent", "m.places", recent=2),
        node("model", "unrelated", "s.orders"),
    )

    reach = reach_of(manifest, "features", KEY, KEY)

    assert {
        "m.features": (KEY, KEY),
        "m.recent": ("2024-03-08", KEY),
        "m.clean": ("2024-02-09", KEY),
        "m.places": None,
    } == reach.models
    assert {"s.orders": ("2024-02-08", KEY), "s.shops": None} == reach.sources


def test_a_table_that_dbt_does_not_know_is_named() -> None:
    with pytest.raises(WarehouseError, match="the dbt project has no model 'fetures'"):
        reach_of(manifest_of(node("model", "features")), "fetures", KEY, KEY)


def test_a_whole_table_over_one_by_day_is_refused() -> None:
    manifest = manifest_of(
        node("source", "orders"), node("model", "totals", "s.orders", by_day=False), node("model", "sums", "m.totals")
    )

    with pytest.raises(WarehouseError, match="totals is a whole table, but reads orders, a table by day"):
        reach_of(manifest, "sums", KEY, KEY)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A project with the flights' profile, one source and two models, the second with a look-back."""
    folder = tmp_path_factory.mktemp("shop") / "dbt_project"
    folder.mkdir()
    shutil.copy(PROJECT / "profiles.yml", folder)
    settings = (PROJECT / "dbt_project.yml").read_text(encoding="utf-8")
    (folder / "dbt_project.yml").write_text(settings.replace("flights", "shop"), encoding="utf-8")
    (folder / "models").mkdir()
    for name, sql in MODELS.items():
        (folder / "models" / f"{name}.sql").write_text(sql, encoding="utf-8")
    look_back = {"stg_orders": {}, "order_sums": {"stg_orders": 3}}
    schema = {
        "sources": [{"name": "raw", "tables": [
            {"name": "orders", "config": {"meta": {"partitioned": "day"}}, "columns": COLUMNS}]}],
        "models": [{"name": name, "config": {"meta": {"partitioned": "day", "look_back_days": days}},
                    "columns": COLUMNS} for name, days in look_back.items()],
    }  # fmt: skip
    (folder / "models" / "schema.yml").write_text(json.dumps(schema), encoding="utf-8")  # JSON is YAML
    prepare_manifest(folder)
    return folder, json.loads((folder / "target" / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rebuilds(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rebuilds]:
    with Rebuilds(*shop, tmp_path_factory.mktemp("rebuilds"), workers=1) as found:
        yield found


@pytest.fixture
def sums(shop: Shop, rebuilds: Rebuilds) -> Callable[..., pl.DataFrame]:
    """Return how the sums of a day are rebuilt over some orders."""
    return lambda rows, day=DAY: rebuilds.build(reach_of(shop[1], "order_sums", str(day), str(day)), {ORDERS: rows})


def orders(*amounts: int, last: date = DAY) -> pl.DataFrame:
    """Return one order a day, the last one on a day."""
    return pl.DataFrame(
        {"day": [last.replace(day=last.day - past) for past in range(len(amounts))], "amount": [*amounts]},
        schema={"day": pl.Date, "amount": pl.Int64},
    )


def test_a_range_built_again_executes_the_same_sql_over_other_rows_without_dbt(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, manifest = shop
    reach = reach_of(manifest, "order_sums", KEY, KEY)
    aside = {"model.shop.stg_orders": Quarantine(1.0, {"amount is at most 99": "amount > 99"}, released=orders(500))}

    with Rebuilds(project, manifest, tmp_path, workers=1, quarantines=aside) as found:
        first = found.build(reach, {ORDERS: orders(1, 10, 100)})
        monkeypatch.setattr(Rebuilds, "_built", None)  # dbt is not needed any more
        second = found.build(reach, {ORDERS: orders(2, 20, 100, 1000)})
        released = found.build(reach, {ORDERS: orders(500, 20, 100, 1000)})

    assert_frame_equal(pl.DataFrame({"day": [DAY], "amount": [11]}), first)
    assert_frame_equal(pl.DataFrame({"day": [DAY], "amount": [22]}), second)
    assert_frame_equal(pl.DataFrame({"day": [DAY], "amount": [520]}), released)


def test_a_day_is_built_with_its_look_back_and_nothing_before(sums: Callable[..., pl.DataFrame]) -> None:
    assert_frame_equal(pl.DataFrame({"day": [DAY], "amount": [1111]}), sums(orders(1, 10, 100, 1000, 10000)))


def test_each_rebuild_sees_its_own_rows_and_days(sums: Callable[..., pl.DataFrame]) -> None:
    assert [(DAY, 3)] == sums(orders(1, 2)).rows()
    assert [(date(2024, 3, 9), 2)] == sums(orders(1, 2), date(2024, 3, 9)).rows()
    assert [(DAY, None)] == sums(orders()).rows()


def test_dbts_error_about_a_model_is_reported_and_the_next_rebuild_works(sums: Callable[..., pl.DataFrame]) -> None:
    with pytest.raises(
        WarehouseError, match=r"order_sums cannot be rebuilt in a scratch folder; dbt reports:\nstg_orders: "
    ):
        sums(orders(1).with_columns(amount=pl.lit("many")))

    assert [(DAY, 7)] == sums(orders(7)).rows()


def test_nothing_is_left_behind(rebuilds: Rebuilds, sums: Callable[..., pl.DataFrame]) -> None:
    sums(orders(1))

    assert [] == [*rebuilds.folder.iterdir()]


def test_a_dangling_link_to_the_engines_dbt_package_is_repaired_before_a_rebuild(shop: Shop, tmp_path: Path) -> None:
    project, manifest = shop
    (project / LINK).unlink()
    (project / LINK).symlink_to(tmp_path / "gone")

    with Rebuilds(project, manifest, tmp_path, workers=1) as found:
        built = found.build(reach_of(manifest, "order_sums", KEY, KEY), {ORDERS: orders(1)})

    assert 1 == built.height


def test_a_project_that_dbt_cannot_parse_is_reported_with_dbts_message(shop: Shop, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    with (
        Rebuilds(empty, shop[1], tmp_path, workers=1) as broken,
        pytest.raises(WarehouseError, match=r"order_sums cannot be rebuilt (.|\n)*No dbt_project.yml found"),
    ):
        broken.build(reach_of(shop[1], "order_sums", KEY, KEY), {ORDERS: orders(1)})
