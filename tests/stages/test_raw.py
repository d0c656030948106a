"""Raw tables of one file: what is landed, which versions are stored, and what is rejected or quarantined."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import openpyxl
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.contracts.checking import BROKEN_RULES
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.table import Column, Relationship, TableContract
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import read_declaration
from ml_assets.declaration.tables import RawDeclaration, RawTable
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.quarantine import release, set_aside
from ml_assets.lake.store import Lake
from ml_assets.landing.folders import source_digest
from ml_assets.orchestration.staleness import Wanted, out_of_date
from ml_assets.stages import raw
from ml_assets.stages.landing import _all_versions
from ml_assets.stages.raw import LandingConfig, raw_tables
from ml_assets.stages.raw_source import RawSource
from tests.builders import failure, put
from tests.event_logs import ephemeral_instance
from tests.stages.landings import (
    FIRST,
    LAST,
    ORDERS,
    ROWS,
    SECOND,
    SHOPS,
    VERSIONED,
    Landings,
    orders_of,
)

ONE = "day,order,n\n2024-01-01,1,5\n2024-01-01,2,6\n"
RAW = dg.AssetKey(["raw", "orders"])
ASIDE = dg.AssetKey(["raw", "orders__quarantine"])
LATER = "2024-01-09T03:00:00"
AT = datetime(2024, 1, 9, 3)  # noqa: DTZ001 - naive UTC is the house's form

Opened = Callable[..., Landings]


@pytest.fixture
def landings(tmp_path: Path, instance: dg.DagsterInstance) -> Opened:
    """Return what opens the landings of a table of a contract, with some fields declared."""
    return lambda contract=ORDERS, **table: Landings(tmp_path, instance, contract, **table)


def with_n(contract: TableContract, **changes: Any) -> TableContract:
    """Return a contract with another column `n`."""
    return replace(contract, columns=tuple(replace(it, **changes) if it.name == "n" else it for it in contract.columns))


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def stale(shop: Landings) -> dict[dg.AssetKey, dict[str, str]]:
    """Return why the first day is out of date; nothing where it is not."""
    graph = dg.Definitions(assets=shop.assets, resources=shop.resources).resolve_asset_graph()
    return {**out_of_date(graph, shop.lake, Wanted({RAW: [FIRST]}, {}))}  # type: ignore[dict-item]


@contextmanager
def unchanged(shop: Landings, *assets: str) -> Iterator[None]:
    """Check that readers of the lake find afterwards what they found before."""
    before = [shop.lake.newest(asset) for asset in assets]
    yield
    assert before == [shop.lake.newest(asset) for asset in assets]


# ---------------------------------------------------------------- landing


def test_a_source_is_landed_day_by_day_in_the_order_of_the_file_with_its_digest(landings: Opened) -> None:
    shop = landings()

    assert shop.land(ROWS).success
    assert {FIRST: [2], SECOND: [1, 3], LAST: []} == {day: shop.rows(day) for day in shop.lake.partitions("raw/orders")}
    assert ["day", "n"] == shop.frame(LAST).columns
    assert 32 == len(str(shop.manifest(FIRST).parameters["source"]))


def test_landing_without_versions_replaces_the_day(landings: Opened) -> None:
    shop = landings()
    shop.land(ROWS)
    assert shop.land("day,n\n2024-01-01,7\n2024-01-02,1\n").success

    assert [7] == shop.rows(FIRST)
    assert () == shop.manifest(FIRST).inputs


def test_a_source_without_days_is_landed_whole(landings: Opened) -> None:
    shop = landings(partition_by=None)

    assert shop.land(ROWS, first="").success
    assert [None] == [asset.partitions_def for asset in shop.assets]
    assert [1, 2, 3, 4] == shop.rows("")


def test_rows_of_no_declared_day_are_counted_in_check_manifest_and_log(landings: Opened) -> None:
    shop = landings()
    result = shop.land(ROWS + "2024-02-01,5\n2024-02-03,6\n")

    check = checks(result)["every_row_of_the_source_is_of_a_declared_day"]
    sentence = (
        "3 of 6 rows of the source of 'raw/orders' have no declared day and are not landed: 1 before the first "
        "declared day 2024-01-01, 2 after the last declared day 2024-01-31. To land them, widen 'days' in the "
        "declaration."
    )
    found = (check.passed, check.severity, check.metadata["finding"].value)
    assert (False, dg.AssetCheckSeverity.WARN, sentence) == found
    assert {"before the first declared day 2024-01-01": 1, "after the last declared day 2024-01-31": 2} == (
        shop.manifest(FIRST).parameters["excluded_rows"]
    )
    assert f"orders: {sentence}" in shop.warnings(result)


def test_a_day_that_loses_more_rows_than_declared_is_rejected(landings: Opened) -> None:
    shop = landings()
    shop.land(ROWS)
    with unchanged(shop, "raw/orders"):
        _, message = failure(shop.land("day,n\n2024-01-01,2\n"))

    assert (
        "- rule 'no more rows are lost than declared' of table 'raw/orders' is broken: 2024-01-02 has 0 rows, 2 were "
        "landed before. At most 50% of a partition's rows may be lost. Correct the source; or, if it is right, run the "
        "landing with 'max_row_loss: 1' in its run configuration, or declare another 'max_row_loss' for 'orders'."
    ) in message
    assert [SECOND] == shop.lake.partitions("raw/orders__rejected")
    assert [(SECOND, "rejected", 0)] == [(it.partition, it.kind, it.total) for it in set_aside(shop.lake, "raw/orders")]


@pytest.mark.parametrize("by", [{"column": "day"}, None])
@pytest.mark.parametrize("contract", [ORDERS, VERSIONED])
def test_an_empty_file_replaces_nothing(landings: Opened, contract: TableContract, by: dict[str, str] | None) -> None:
    shop, first = landings(contract, partition_by=by), FIRST if by else ""
    header, row = ("day,n\n", "2024-01-01,2\n") if contract is ORDERS else ("day,order,n\n", "2024-01-01,1,2\n")
    shop.land(header + row, first=first)
    with unchanged(shop, "raw/orders"):
        assert "has 0 rows, 1 were landed before" in failure(shop.land(header, first=first))[1]


@pytest.mark.parametrize(("declared", "config"), [({"max_row_loss": 1}, {}), ({}, {"max_row_loss": 1})])
def test_a_loss_that_the_declaration_or_the_run_allows_is_landed(
    landings: Opened, declared: dict[str, Any], config: dict[str, Any]
) -> None:
    shop = landings(**declared)
    shop.land(ROWS)

    assert shop.land("day,n\n2024-01-01,2\n", **config).success
    assert [] == shop.rows(SECOND)


def test_quarantined_rows_count_as_landed_before(landings: Opened) -> None:
    shop = landings(quarantine=0.5)
    shop.land("day,n\n2024-01-01,2\n2024-01-01,-1\n2024-01-01,-2\n2024-01-01,3\n")

    assert shop.land("day,n\n2024-01-01,2\n2024-01-01,3\n").success
    assert "has 0 rows, 2 were landed before" in failure(shop.land("day,n\n"))[1]


def test_days_may_be_computed_at_landing(landings: Opened) -> None:
    event_day = Column("event_day", pl.Date(), expression="cast(make_timestamp(seen * 1000000) as date)")
    contract = orders_of(Column("seen", pl.Int64()), Column("n", pl.Int64()), event_day)
    shop = landings(contract, partition_by={"column": "event_day"})

    assert shop.land("seen,n\n1704067200,1\n1704153599,2\n1704153600,3\n").success  # 1 January 2024, 0:00 UTC on
    assert {FIRST: [1, 2], SECOND: [3], LAST: []} == {day: shop.rows(day) for day in (FIRST, SECOND, LAST)}
    assert [date(2024, 1, 2)] == shop.rows(SECOND, "event_day")


def test_all_files_of_a_folder_are_one_table_whose_rows_have_the_order_of_the_names(
    landings: Opened, tmp_path: Path
) -> None:
    shop = landings(file=f"{tmp_path}/in/", partition_by={"sql": "day"})
    shop.write("b.csv", text="n,day\n1,2024-01-02\n2,2024-01-01\n")
    pl.DataFrame({"day": [date(2024, 1, 2)], "n": [3]}).write_parquet(shop.folder / "a.parquet")
    shop.write("c.jsonl", text='{"day": "2024-01-02", "n": 4}\n')

    assert shop.land_days(FIRST, LAST).success
    assert {FIRST: [2], SECOND: [3, 1, 4], LAST: []} == {
        day: shop.rows(day) for day in shop.lake.partitions("raw/orders")
    }
    source = source_digest(f"{tmp_path}/in/", shop.lake.access)
    assert source == shop.manifest(FIRST).parameters["source"]
    table = RawTable(file=f"{tmp_path}/in/", partition_by={"column": "day"})  # type: ignore[arg-type]
    raw_source = RawSource("orders", table, ORDERS, Days(first=date(2024, 1, 1)))
    assert date(2024, 1, 2) == raw_source.newest_day(shop.lake.access)


def test_every_file_of_a_folder_that_does_not_fit_is_named(landings: Opened, tmp_path: Path) -> None:
    optional = replace(ORDERS, columns=(*ORDERS.columns, Column("twice", pl.Int64(), expression="2 * n")))
    shop = landings(optional, file=f"{tmp_path}/in/*.csv")
    texts = {
        "a": "n,day\n1,2024-01-01\n", "b": "n,dey\n1,2024-01-01\n", "c": "n,day,twice\n1,2024-01-01,3\n",
        "d": "day,n\n2024-01-01,one\n", "e": "n\n1\n", "f": "n,day\n1,2024-01-01\n",
    }  # fmt: skip
    for name, text in texts.items():
        shop.write(f"{name}.csv", text=text)

    message = failure(shop.land_days(FIRST))[1]

    folder = f"{tmp_path}/in"
    assert (
        f"source file {folder}/b.csv has other columns than its contract: missing ['day'], unknown ['dey']" in message
    )
    different = "has the columns ['n', 'day', 'twice'], but the file a.csv has ['n', 'day']; expected the same ones."
    assert f"source file {folder}/c.csv {different}" in message
    assert (
        f"source file {folder}/d.csv has values of other types: 'n' has 1 value that is not bigint, on line 2"
        in message
    )
    assert "1 more file cannot be read." in message
    assert {} == shop.lake.newest("raw/orders")


def test_json_is_landed_like_the_same_rows_in_csv_and_its_format_is_a_parameter(landings: Opened) -> None:
    shop = landings(format="json")

    assert shop.land(
        '{"day": "2024-01-02", "n": 1}\n{"day": "2024-01-01", "n": 2}\n{"n": 3, "day": "2024-01-02"}'
    ).success
    assert {FIRST: [2], SECOND: [1, 3], LAST: []} == {day: shop.rows(day) for day in shop.lake.partitions("raw/orders")}
    assert {"format": "json"} == shop.manifest(FIRST).parameters["reading"]


KEYED = replace(ORDERS, columns=(*ORDERS.columns, Column("row", pl.String(), is_nullable=False)), key=("row",))


def test_rows_without_a_unique_key_get_one_that_rows_added_at_the_end_do_not_change(landings: Opened) -> None:
    shop = landings(KEYED, row_key="row")
    equal = "day,n\n2024-01-02,1\n2024-01-01,2\n2024-01-02,1\n"

    assert shop.land(equal).success
    before = {day: shop.rows(day, "row") for day in (FIRST, SECOND)}
    assert ["2"] == [key.partition("-")[2] for key in before[FIRST]]
    assert ["1", "3"] == [key.partition("-")[2] for key in before[SECOND]]

    first = shop.lake.find("raw/orders", FIRST)
    assert shop.land(equal + "2024-01-02,1\n").success
    assert first == shop.lake.find("raw/orders", FIRST)
    assert [*before[SECOND], shop.rows(SECOND, "row")[2]] == shop.rows(SECOND, "row")

    assert shop.land(equal.replace("01-01,2", "01-01,7")).success
    assert before[SECOND][0] == shop.rows(SECOND, "row")[0]
    assert not {*before[FIRST], before[SECOND][1]} & {*shop.rows(FIRST, "row"), *shop.rows(SECOND, "row")}


def test_equal_rows_of_several_files_have_different_keys(landings: Opened, tmp_path: Path) -> None:
    shop = landings(KEYED, row_key="row", file=f"{tmp_path}/in/")
    for name in ("a", "b"):
        shop.write(f"{name}.csv", text="day,n\n2024-01-01,1\n")
    by_day = landings(replace(KEYED, is_by_day=True), row_key="row", files=f"{tmp_path}/days/{{day}}.csv")
    (tmp_path / "days").mkdir()
    for day in (FIRST, SECOND):
        (tmp_path / "days" / f"{day}.csv").write_text(f"n,day\n1,{FIRST}\n".replace(FIRST, day), encoding="utf-8")

    assert shop.land_days(FIRST).success
    assert 2 == len({*shop.rows(FIRST, "row")})
    assert by_day.land_days(FIRST, SECOND).success
    assert 2 == len({*by_day.rows(FIRST, "row"), *by_day.rows(SECOND, "row")})


@pytest.mark.parametrize(
    ("contract", "text", "message"),
    [
        (ORDERS, ROWS, "row_key: table 'raw/orders' has no column 'row'; expected one of day, n; see _sources.yml."),
        (orders_of(*ORDERS.columns, Column("row", pl.Int64())), ROWS,
         "row_key: column 'row' of table 'raw/orders' is bigint; expected a text that the contract does not compute"),
        (orders_of(*ORDERS.columns, Column("row", pl.String(), expression="n::varchar")), ROWS,
         "row_key: column 'row' of table 'raw/orders' is varchar; expected a text that the contract does not compute"),
        (KEYED, "day,n,row\n2024-01-01,1,a\n", "has a column 'row', which landing adds because 'row_key' declares it."),
        (KEYED, '{"day": "2024-01-01", "n": 1, "row": "a"}', "has a column 'row', which landing adds because"),
    ],
)  # fmt: skip
def test_a_row_key_that_is_not_a_new_text_column_is_refused(
    landings: Opened, contract: TableContract, text: str, message: str
) -> None:
    def found() -> str:
        try:
            shop = landings(contract, row_key="row", format="json" if text.startswith("{") else "csv")
        except ContractError as error:
            return str(error)
        return failure(shop.land(text))[1]

    assert message in found()


def test_a_sheet_of_a_workbook_is_landed_as_declared(landings: Opened) -> None:
    shop = landings(excel={"sheet": "Orders", "header_row": 2})
    book = openpyxl.Workbook()
    book.create_sheet("Orders")
    for row in (["January"], ["n", "day"], [1, date(2024, 1, 2)], ["2", "2024-01-01"]):
        book["Orders"].append(row)
    book.save(shop.file)

    assert shop.land_days(FIRST, LAST).success
    assert {FIRST: [2], SECOND: [1], LAST: []} == {day: shop.rows(day) for day in shop.lake.partitions("raw/orders")}
    assert {"excel": {"sheet": "Orders", "header_row": 2}} == shop.manifest(FIRST).parameters["reading"]


BATCHES = orders_of(Column("batch", pl.String()), Column("n", pl.Int64()))
BY_SQL = {"sql": "cast(strptime(nullif(batch, 'none'), 'B%Y%m%d') as date)"}


def test_the_day_of_a_row_may_be_sql_over_the_columns_of_the_source(landings: Opened) -> None:
    shop = landings(BATCHES, partition_by=BY_SQL)

    assert shop.land("batch,n\nB20240102,1\nB20240101,2\nB20240102,3\nB20231231,4\n").success
    assert {FIRST: [2], SECOND: [1, 3], LAST: []} == {day: shop.rows(day) for day in shop.lake.partitions("raw/orders")}
    assert ["batch", "n"] == shop.frame(SECOND).columns
    assert {"before the first declared day 2024-01-01": 1} == shop.manifest(FIRST).parameters["excluded_rows"]
    assert BY_SQL["sql"] == shop.manifest(FIRST).parameters["partition_by"]["sql"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "batch,n\nB20240102,1\nnone,2\nB20240101,3\n,4\n",
            (
                "'partition_by' of source 'orders': 2 of 4 rows have no day, because its SQL gives NULL for them: "
                f"{BY_SQL['sql']}. The first is row 2 (batch=none). Correct the source, or give such rows a day, by "
                "coalesce(…)."
            ),
        ),
        ("batch,n\nB20240102,1\nB20240230,2\n", ", in row 2 (batch=B20240230). Expected SQL over the table's own"),
    ],
    ids=["no day", "a value that is not valid"],
)
def test_rows_for_which_the_sql_gives_no_day_land_nothing_and_the_first_is_named(
    landings: Opened, text: str, message: str
) -> None:
    shop = landings(BATCHES, partition_by=BY_SQL)

    assert message in failure(shop.land(text))[1]
    assert {} == shop.lake.newest("raw/orders")


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("to_date(n)", "cannot be evaluated: Scalar Function with name to_date does not exist, at character 1"),
        (
            "cast(bacth as date)",
            "names column 'bacth', which is not one of its columns; expected some of batch, n (did you mean 'batch'?)",
        ),
        ("strptime(batch, 'B%Y')", "gives timestamp; expected date, by cast(... as date)"),
        ("max(cast(batch as date))", "aggregates over rows; expected a value for each single row"),
        ("event_day", "names column 'event_day', which landing computes; replace it by its expression"),
    ],
)
def test_sql_that_can_give_no_day_is_refused_at_load(sql: str, problem: str) -> None:
    contract = replace(BATCHES, columns=(*BATCHES.columns, Column("event_day", pl.Date(), expression="current_date")))
    text = BAD_DAYS.partition("    shops:")[0].replace("column: dey", f'sql: "{sql}"').lstrip()
    declared = read_declaration(text, where="raw/defs.yaml")
    assert isinstance(declared, RawDeclaration)

    with pytest.raises(ContractError) as error:
        raw_tables(declared, {"raw/orders": contract})

    line = "raw/defs.yaml:8: tables.orders.partition_by.sql: the SQL"
    assert f"{line} {problem}; got: {sql}; see _sources.yml." == str(error.value)


@pytest.mark.parametrize(("is_nan_missing", "broken"), [(False, [2, 1]), (True, [2])])
def test_the_values_of_an_expression_must_be_finite_and_nan_is_missing_only_if_declared(
    landings: Opened, *, is_nan_missing: bool, broken: list[int]
) -> None:
    not_finite = "case n when 1 then cast('nan' as double) when 2 then 1e308 * 10 else n end"
    ratio = Column("ratio", pl.Float64(), expression=not_finite, is_nan_missing=is_nan_missing)
    shop = landings(orders_of(*ORDERS.columns, ratio), quarantine=1.0)

    assert shop.land(ROWS).success

    aside = [row for day in (FIRST, SECOND) for row in shop.quarantined(day, "n", "broken_rules")]
    assert [(n, ["ratio is finite"]) for n in broken] == aside
    assert ([None, 3.0] if is_nan_missing else [3.0]) == shop.rows(SECOND, "ratio")


def test_raw_tables_show_their_contract_owner_and_description(landings: Opened) -> None:
    [asset] = landings().assets
    spec = asset.specs_by_key[RAW]

    assert ("raw", ["team:shop"], "Orders.") == (spec.group_name, [*spec.owners], spec.description)
    schema = spec.metadata["dagster/column_schema"]
    assert ["day", "n"] == [column.name for column in getattr(schema, "schema", schema).columns]
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()


def test_a_source_that_dbt_does_not_know_is_rejected() -> None:
    tables = {"orders": {"file": "a"}, "shops": {"file": "b"}}

    with pytest.raises(ContractError, match=r"tables\.shops: source 'shops' has no contract\. Add it with columns"):
        raw_tables(RawDeclaration.model_validate({"days": {"first": FIRST}, "tables": tables}), {"raw/orders": ORDERS})


BAD_DAYS = """
type: ml_assets.RawTables
attributes:
  days: {first: 2024-01-01}
  tables:
    orders:
      file: orders.csv
      partition_by:
        column: dey
    shops:
      files: "shops/{day}.csv"
      partition_by: {year: shop, month: shop, day: shop}
    visits: {file: visits.csv, partition_by: {column: n}}
"""


def test_the_day_columns_are_compared_with_the_contract_at_load() -> None:
    declared = read_declaration(BAD_DAYS.lstrip(), where="raw/defs.yaml")
    assert isinstance(declared, RawDeclaration)
    visits = replace(ORDERS, name="raw/visits")

    with pytest.raises(ContractError) as error:
        raw_tables(declared, {"raw/orders": ORDERS, "raw/shops": SHOPS, "raw/visits": visits})

    text = "column 'shop' of table 'raw/shops' is varchar; expected a whole number; see shops.yml."
    assert [
        (
            "raw/defs.yaml:8: tables.orders.partition_by.column: table 'raw/orders' has no column 'dey'; expected one "
            "of day, n (did you mean 'day'?); see _sources.yml."
        ),
        *(f"raw/defs.yaml:11: tables.shops.partition_by.{field}: {text}" for field in ("year", "month", "day")),
        (
            "raw/defs.yaml:12: tables.visits.partition_by.column: column 'n' of table 'raw/visits' is bigint; expected "
            "a date, a timestamp or text such as 2024-01-31; see _sources.yml."
        ),
    ] == str(error.value).splitlines()


@pytest.mark.parametrize(("timezone", "day"), [("UTC", SECOND), ("America/New_York", FIRST)])
def test_the_day_of_a_timestamp_is_that_of_the_declared_time_zone(landings: Opened, timezone: str, day: str) -> None:
    contract = orders_of(Column("n", pl.Int64()), Column("seen_at", pl.Datetime("us")))
    shop = landings(contract, partition_by={"column": "seen_at"}, timezone=timezone)

    assert shop.land("n,seen_at\n1,2024-01-02 03:00:00\n").success
    assert [1] == shop.rows(day)


@pytest.mark.parametrize(
    ("contract", "text", "message"),
    [
        (ORDERS, "day,m\n2024-01-01,1\n", "missing ['n'], unknown ['m']"),
        (
            orders_of(*ORDERS.columns, Column("twice", pl.Int64(), expression="n * 2.5")), ROWS,
            "column 'twice' of table 'raw/orders' is",
        ),
    ],
    ids=["other columns", "an expression of another type than its column"],
)  # fmt: skip
def test_a_file_that_does_not_fit_the_contract_lands_nothing(
    landings: Opened, contract: TableContract, text: str, message: str
) -> None:
    shop = landings(contract)

    step, found = failure(shop.land(text))

    assert "raw__orders" == step
    assert message in found
    assert {} == shop.lake.newest("raw/orders")


# ---------------------------------------------------------------- versions


def test_corrected_and_late_rows_are_stored_with_the_time_they_were_received(landings: Opened) -> None:
    shop = landings(VERSIONED)
    shop.land(ONE)
    first = shop.lake.find("raw/orders", FIRST)
    result = shop.land("day,order,n\n2024-01-01,3,1\n2024-01-01,2,8\n2024-01-01,1,5\n", at=LATER)

    assert [(1, 5, None), (2, 6, None), (3, 1, AT), (2, 8, AT)] == shop.rows(FIRST, "order", "n", "received_at")
    assert (first,) == shop.manifest(FIRST).inputs
    facts = result.asset_materializations_for_node("raw__orders")[0].metadata
    assert (1, 1) == (facts["late rows"].value, facts["corrected rows"].value)


def test_landing_the_same_source_again_changes_nothing(landings: Opened) -> None:
    shop, more = landings(VERSIONED), ONE + "2024-01-01,3,7\n"
    shop.land(ONE)
    shop.land(more, at="2024-01-05T00:00:00")
    before = shop.lake.find("raw/orders", FIRST), shop.manifest(FIRST).inputs

    assert shop.land(more, at="2024-01-06T00:00:00").success
    assert before == (shop.lake.find("raw/orders", FIRST), shop.manifest(FIRST).inputs)


def test_two_concurrent_landings_of_a_day_store_the_corrections_of_both(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    shop, other = (Landings(tmp_path / name, instance, VERSIONED, quarantine=0.5) for name in ("one", "other"))
    (tmp_path / "other" / "lake").symlink_to(tmp_path / "one" / "lake")  # another process has a lake object of its own
    assert shop.land("day,order,n\n2024-01-01,1,5\n2024-01-01,2,7\n", at="2024-01-01T00:00").success
    land, attempts = raw.land_rows, []

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        landed = land(*args, **kwargs)
        if threading.current_thread() is threading.main_thread():
            attempts.append(landed)
            if len(attempts) == 1:  # both have read what stands, and the other one publishes first
                theirs = "day,order,n\n2024-01-01,1,5\n2024-01-01,2,8\n"
                with ThreadPoolExecutor(1) as pool, ephemeral_instance() as other.instance:
                    assert pool.submit(other.land, theirs, at="2024-01-01T09:00").result().success
        return landed

    monkeypatch.setattr(raw, "land_rows", overtaken)
    assert shop.land("day,order,n\n2024-01-01,1,6\n2024-01-01,2,7\n", at="2024-01-01T10:00").success

    assert 2 == len(attempts)
    assert [(1, 5), (1, 6), (2, 7), (2, 7), (2, 8)] == sorted(shop.rows(FIRST, "order", "n"))
    for asset in ("raw/orders", "raw/orders__quarantine"):
        assert {FIRST: 3} == shop.lake.last_numbers(asset, [FIRST])


@pytest.mark.parametrize("other", ["2024-01-01,2,8\n", "2024-01-01,2,6\n"])
def test_a_key_that_the_source_has_twice_is_rejected_in_a_first_landing_and_in_later_ones(
    landings: Opened, other: str
) -> None:
    shop, rule = landings(VERSIONED), "rule 'order and received_at are unique together' of table 'raw/orders'"
    assert f"{rule} is broken in 2 of 3 rows" in failure(shop.land(ONE + other))[1]

    shop.land(ONE)
    with unchanged(shop, "raw/orders"):
        _, message = failure(shop.land(ONE + other, at=LATER))

    example = "on 2024-01-01, for instance by 2, 2024-01-09 03:00:00"
    assert f"{rule} is broken in 2 of 4 rows (50.00%), {example}" in message


def test_a_row_that_the_source_removed_remains_with_the_time_of_its_removal(landings: Opened) -> None:
    shop = landings(VERSIONED)
    shop.land(ONE)
    result = shop.land("day,order,n\n2024-01-01,1,5\n2024-01-02,2,6\n", at=LATER)

    assert [(1, None, None), (2, None, AT)] == shop.rows(FIRST, "order", "received_at", "gone_at")
    assert [(2, AT, None)] == shop.rows(SECOND, "order", "received_at", "gone_at")
    warned = (
        "orders: the source no longer has 1 row on 1 day, the first on 2024-01-01; moved to another day: 1. The lake "
        "has them, with gone_at."
    )
    assert [warned] == [line for line in shop.warnings(result) if "no longer" in line]
    assert {FIRST: {"rows no longer in the source": 1}} == shop.manifest(FIRST).parameters["changed_rows"]
    assert {LAST: {}} == shop.manifest(LAST).parameters["changed_rows"]


def test_a_computed_column_is_computed_unless_the_source_contains_it(landings: Opened) -> None:
    shop = landings(VERSIONED)

    assert shop.land("day,order,n,ready_at\n2024-01-01,1,5,2024-01-01 09:30:00\n2024-01-01,2,5,\n").success
    assert [datetime(2024, 1, 1, 9, 30), None] == shop.rows(FIRST, "ready_at")  # noqa: DTZ001

    assert shop.land("day,order,n\n2024-01-01,1,5\n2024-01-01,2,5\n2024-01-02,3,5\n").success
    assert [datetime(2024, 1, 2, 5)] == shop.rows(SECOND, "ready_at")  # noqa: DTZ001


def test_a_moment_without_a_zone_counts_as_utc_and_others_are_brought_there() -> None:
    for text, hour in (("2024-01-01T12:00:00", 12), ("2024-01-01T12:00:00+02:00", 10)):
        assert datetime(2024, 1, 1, hour) == LandingConfig(received_at=text).moment(datetime.now(UTC))  # noqa: DTZ001
    with pytest.raises(ValueError, match="Invalid isoformat string"):
        LandingConfig(received_at="at noon")


def test_a_landing_within_the_second_of_the_one_before_comes_after_it(
    landings: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = landings(VERSIONED)
    for microsecond, rows in ((1, ONE), (2, ONE.replace(",5", ",7"))):
        moment = datetime(2024, 1, 9, 3, microsecond=microsecond, tzinfo=UTC)
        monkeypatch.setattr(Lake, "now", lambda _, moment=moment: moment)
        assert shop.land(rows).success

    assert 7 in shop.rows(FIRST)


# ---------------------------------------------------------------- checks, audit before publish, quarantine


def test_each_rule_is_a_check_and_satisfied_rules_are_reported_too(landings: Opened) -> None:
    found = checks(landings().land(ROWS))

    assert {
        "columns_are_as_in_the_contract": True, "n_is_at_least_0": True, "no_more_rows_are_lost_than_declared": True,
        "every_row_of_the_source_is_of_a_declared_day": False,  # the last one is of the year before
    } == {name: check.passed for name, check in found.items()}  # fmt: skip
    assert 3 == found["n_is_at_least_0"].metadata["rows"].value


def test_a_broken_rule_publishes_no_day_of_the_run_and_stores_the_rejected_ones_in_quarantine(landings: Opened) -> None:
    shop = landings()
    shop.land(ROWS)
    with unchanged(shop, "raw/orders"):
        result = shop.land("day,n\n2024-01-01,2\n2024-01-02,-1\n2024-01-02,3\n2024-01-03,-7\n")

    assert (
        "nothing of table 'raw/orders' was published, and its current artifacts are unchanged; rejected partitions: "
        "2024-01-02, 2024-01-03:\n"
        "- rule 'n is at least 0' of table 'raw/orders' is broken in 2 of 4 rows (50.00%), on 2024-01-02, 2024-01-03, "
        "for instance by -1 | -7; see _sources.yml.\n"
        "Fix the data or the contract, then materialize the table again. The rejected rows: ml-assets quarantine "
        "raw/orders 2024-01-02"
    ) == failure(result)[1].strip().removeprefix("ml_assets.contracts.errors.ContractError: ")
    check = checks(result)["n_is_at_least_0"]
    assert (False, True, {SECOND: 1, LAST: 1}) == (check.passed, check.blocking, check.metadata["days"].value)
    assert [SECOND, LAST] == shop.lake.partitions("raw/orders__rejected")
    assert [(-1, ["n is at least 0"]), (3, [])] == shop.rows(SECOND, "n", "broken_rules", asset="raw/orders__rejected")


def test_rows_that_break_a_rule_are_quarantined_if_a_share_is_declared(landings: Opened) -> None:
    shop = landings(quarantine=0.5)

    result = shop.land("day,n\n2024-01-01,2\n2024-01-02,-1\n2024-01-02,3\n")

    check = checks(result)["n_is_at_least_0"]
    assert result.success
    assert [3] == shop.rows(SECOND)
    assert [(-1, ["n is at least 0"])] == shop.quarantined(SECOND, "n", "broken_rules")
    found = (check.passed, check.severity, check.metadata["quarantined"].value)
    assert (False, dg.AssetCheckSeverity.WARN, 1) == found


def test_a_month_has_one_partition_and_one_quarantine_for_all_its_days(landings: Opened) -> None:
    shop = landings(quarantine=0.5, grain="month")
    rows = "day,n\n2024-01-02,1\n2024-02-29,-1\n2024-01-31,2\n2024-02-01,3\n"
    shop.file.write_text(rows)

    assert shop.land_days(FIRST, "2024-03-01").success

    months = [FIRST, "2024-02-01", "2024-03-01"]
    assert months == shop.lake.partitions("raw/orders")
    assert [[1, 2], [3], []] == [shop.rows(month) for month in months]
    assert [[], [(date(2024, 2, 29), -1)], []] == [shop.quarantined(month, "day", "n") for month in months]
    shop.file.write_text(f"{rows}2024-02-03,-4\n2024-02-05,-5\n")
    _, message = failure(shop.land_days(FIRST, "2024-03-01"))
    assert "2024-02-01" in message


def test_a_clean_day_has_an_empty_quarantine_of_the_same_columns(landings: Opened) -> None:
    shop = landings(quarantine=0.1)
    shop.land(ROWS)

    aside = shop.frame(FIRST, "raw/orders__quarantine")
    assert {"day": pl.Date(), "n": pl.Int64(), "broken_rules": pl.List(pl.String())} == dict(aside.schema)
    assert 0 == aside.height
    assert {RAW, ASIDE} == {*shop.assets[0].keys}
    assert {RAW} == shop.assets[0].asset_deps[ASIDE]


def test_landing_quarantined_rows_again_changes_nothing(landings: Opened) -> None:
    shop = landings(VERSIONED, quarantine=0.5)
    rows = "day,order,n\n2024-01-01,1,-5\n2024-01-01,2,6\n"
    shop.land(rows)
    with unchanged(shop, "raw/orders", "raw/orders__quarantine"):
        assert shop.land(rows, at="2024-02-01T00:00:00").success

    assert [None] == shop.quarantined(FIRST, "received_at")


def test_released_rows_pass_as_they_are_and_are_counted(landings: Opened) -> None:
    shop = landings(quarantine=0.5)
    rows = "day,n\n2024-01-02,-1\n2024-01-02,3\n"
    shop.land(rows)
    [aside] = set_aside(shop.lake, "raw/orders")
    released = release(shop.lake, aside, why="they were returns", by="sam")

    check = checks(shop.land(rows))["n_is_at_least_0"]

    assert [-1, 3] == shop.rows(SECOND)
    assert [] == [*set_aside(shop.lake, "raw/orders")]
    assert (True, 1) == (check.passed, check.metadata["released"].value)
    assert released.ref in shop.manifest(SECOND).inputs
    assert () == shop.manifest(FIRST).inputs


def test_relationships_are_checked_against_the_rows_of_the_lake(landings: Opened) -> None:
    shop_of = Column("shop", pl.String(), relationship=Relationship("raw/shops", "shop"))
    shop = landings(orders_of(Column("day", pl.Date()), shop_of))
    rows = "day,shop\n2024-01-01,a\n2024-01-01,b\n"
    assert shop.land(rows).success
    put(shop.lake, pl.DataFrame({"shop": ["a"]}), asset="raw/shops")

    rule = "rule 'shop is the shop of a row of raw/shops' of table 'raw/orders'"
    assert f"{rule} is broken in 1 of 2 rows" in failure(shop.land(rows))[1]


# ---------------------------------------------------------------- another contract


def test_rows_are_landed_again_under_a_wider_type_and_none_is_corrected(landings: Opened) -> None:
    wide, narrow = landings(VERSIONED), landings(with_n(VERSIONED, dtype=pl.Int32()))
    narrow.land(ONE)
    stored = narrow.frame(FIRST)

    assert {RAW: {FIRST: "parameters"}} == stale(wide)
    assert wide.land(ONE, at=LATER).success
    assert {} == stale(wide)
    assert (pl.Int32, pl.Int64) == (stored.schema["n"], wide.frame(FIRST).schema["n"])
    assert_frame_equal(stored.cast({"n": pl.Int64}), wide.frame(FIRST))


def test_landed_rows_are_checked_again_under_a_stricter_rule(landings: Opened) -> None:
    loose, strict = landings(), landings(with_n(ORDERS, maximum=1))
    assert loose.land(ROWS).success
    assert {} == stale(loose)

    assert {RAW: {FIRST: "code"}} == stale(strict)
    assert not strict.land(ROWS).success  # n is 2 on the first day


def test_rows_quarantined_before_a_change_of_type_are_read_with_those_landed_after_it() -> None:
    ref = ArtifactRef(asset="raw/orders", version="a" * 32)
    landed, aside = pl.DataFrame({"n": [1]}), pl.DataFrame({"n": [2.0], BROKEN_RULES: [["n is odd"]]})

    assert_frame_equal(pl.DataFrame({"n": [1, 2]}), _all_versions([(ref, landed), (ref, aside)]))
    with pytest.raises(DataError, match="column 'n' is stored as double and is now bigint"):
        _all_versions([(ref, landed), (ref, aside.with_columns(n=2.5))])
