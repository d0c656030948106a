import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.contracts.checking import BROKEN_RULES
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.table import Column, Relationship, TableContract
from ml_assets.declaration.reading import read_declaration
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.quarantine import release, set_aside
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.orchestration.staleness import Wanted, out_of_date
from ml_assets.stages import raw
from ml_assets.stages.landing import _all_versions
from ml_assets.stages.raw import LandingConfig, raw_tables
from tests.builders import failure, put
from tests.event_logs import ephemeral_instance

ORDERS = TableContract(
    "raw/orders",
    (Column("day", pl.Date(), "When."), Column("n", pl.Int64(), "How many.", minimum=0)),
    "Orders.",
    where="_sources.yml",
)
VERSIONED = TableContract(
    "raw/orders",
    (
        Column("day", pl.Date(), is_nullable=False),
        Column("order", pl.Int64(), is_nullable=False),
        Column("n", pl.Int64(), minimum=0),
        Column("ready_at", pl.Datetime("us"), expression="cast(day as timestamp) + n * interval '1 hour'"),
        Column("received_at", pl.Datetime("us")),
        Column("gone_at", pl.Datetime("us")),
    ),
    key=("order", "received_at"),
    where="_sources.yml",
)
SHOPS = TableContract("raw/shops", (Column("shop", pl.String()),), "Shops.", where="shops.yml")
ROWS = "day,n\n2024-01-02,1\n2024-01-01,2\n2024-01-02,3\n2023-12-31,4\n"
FIRST, LAST = "2024-01-01", "2024-01-03"
RAW = dg.AssetKey(["raw", "orders"])
ASIDE = dg.AssetKey(["raw", "orders__quarantine"])


class Landings:
    """The raw table `orders` of a shop, landed again and again into one lake."""

    def __init__(
        self,
        folder: Path,
        contract: TableContract,
        instance: dg.DagsterInstance,
        *,
        timezone: str = "UTC",
        **table: Any,
    ) -> None:
        self.file = folder / "orders.csv"
        declared = {
            "owner": "team:shop",
            "days": {"first": FIRST, "last": "2024-01-31", "timezone": timezone},
            "tables": {"orders": {"file": str(self.file), "partition_by": {"column": "day"}, **table}},
        }
        contracts = {"raw/orders": contract, "raw/shops": SHOPS}
        self.assets = raw_tables(RawDeclaration.model_validate(declared), contracts)
        self.lake = Lake(str(folder / "lake"))
        self.instance = instance

    def land(
        self, text: str, *, at: str | None = None, last: str = LAST, max_row_loss: float | None = None
    ) -> dg.ExecuteInProcessResult:
        """Land a source file for a range of days, as received at a moment; without days where `last` is empty."""
        self.file.write_text(text)
        lake = LakeResource(url=self.lake.url)
        given = {"received_at": at, "max_row_loss": max_row_loss}
        config = {"ops": {"raw__orders": {"config": {name: it for name, it in given.items() if it is not None}}}}
        return dg.materialize(
            self.assets,
            instance=self.instance,
            resources={"ml_assets_lake": lake, "ml_assets_io_manager": LakeIOManager(lake=lake)},
            tags={"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": last}
            if last
            else {},
            run_config={**config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def rows(self, day: str, asset: str = "raw/orders") -> pl.DataFrame:
        """Return what a reader of the lake sees of a day."""
        found: pl.DataFrame = self.lake.get(self.lake.find(asset, day or None), pl.DataFrame)
        return found

    def stale(self) -> dict[dg.AssetKey, dict[str, str]]:
        """Return why the first day is out of date; nothing where it is not."""
        lake = LakeResource(url=self.lake.url)
        resources = {"ml_assets_lake": lake, "ml_assets_io_manager": LakeIOManager(lake=lake)}
        graph = dg.Definitions(assets=self.assets, resources=resources).resolve_asset_graph()
        return {**out_of_date(graph, self.lake, Wanted({RAW: [FIRST]}, {}))}  # type: ignore[dict-item]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with ephemeral_instance() as one:
        yield one


Opened = Callable[..., Landings]


@pytest.fixture
def landings(tmp_path: Path, instance: dg.DagsterInstance) -> Opened:
    """Return what opens the landings of a table of a contract, with some fields declared."""
    return lambda contract, **table: Landings(tmp_path, contract, instance, **table)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


@contextmanager
def unchanged(shop: Landings, *assets: str) -> Iterator[None]:
    """See that readers of the lake find afterwards what they found before."""
    before = [shop.lake.newest(asset) for asset in assets]
    yield
    assert before == [shop.lake.newest(asset) for asset in assets]


# ---------------------------------------------------------------- landing


def test_a_source_is_landed_day_by_day_in_the_order_of_the_file_with_its_digest(landings: Opened) -> None:
    shop = landings(ORDERS)

    assert shop.land(ROWS).success
    assert {FIRST: [2], "2024-01-02": [1, 3], LAST: []} == {
        day: shop.rows(day)["n"].to_list() for day in shop.lake.partitions("raw/orders")
    }
    assert ["day", "n"] == shop.rows(LAST).columns
    assert 32 == len(str(shop.lake.manifest(shop.lake.find("raw/orders", FIRST)).parameters["source"]))


def test_landing_without_versions_replaces_the_day(landings: Opened) -> None:
    shop = landings(ORDERS)
    shop.land(ROWS)
    assert shop.land("day,n\n2024-01-01,7\n2024-01-02,1\n").success

    assert [7] == shop.rows(FIRST)["n"].to_list()
    assert () == shop.lake.manifest(shop.lake.find("raw/orders", FIRST)).inputs


def test_a_source_without_days_is_landed_whole(landings: Opened) -> None:
    shop = landings(ORDERS, partition_by=None)
    [asset] = shop.assets

    assert shop.land(ROWS, last="").success
    assert None is asset.partitions_def
    assert [1, 2, 3, 4] == shop.rows("")["n"].to_list()


def test_rows_of_no_declared_day_are_counted_in_check_manifest_and_log(landings: Opened) -> None:
    shop = landings(ORDERS)
    result = shop.land(ROWS + "2024-02-01,5\n2024-02-03,6\n")

    check = checks(result)["every_row_of_the_source_is_of_a_declared_day"]
    sentence = (
        "3 of 6 rows of the source of 'raw/orders' have no declared day and are not landed: 1 before the first "
        "declared day 2024-01-01, 2 after the last declared day 2024-01-31. To land them, widen 'days' in the "
        "declaration."
    )
    assert (False, dg.AssetCheckSeverity.WARN, sentence) == (
        check.passed,
        check.severity,
        check.metadata["finding"].value,
    )
    left_out = shop.lake.manifest(shop.lake.find("raw/orders", FIRST)).parameters["excluded_rows"]
    assert {"before the first declared day 2024-01-01": 1, "after the last declared day 2024-01-31": 2} == left_out
    assert f"orders: {sentence}" in [event.message for event in shop.instance.all_logs(result.run_id)]


def test_a_day_that_loses_more_rows_than_declared_is_rejected(landings: Opened) -> None:
    shop = landings(ORDERS)
    shop.land(ROWS)
    with unchanged(shop, "raw/orders"):
        result = shop.land("day,n\n2024-01-01,2\n")

    _, message = failure(result)
    assert (
        "- rule 'no more rows are lost than declared' of table 'raw/orders' is broken: 2024-01-02 has 0 rows, 2 were "
        "landed before. At most 50% of a partition's rows may be lost. Correct the source; or, if it is right, run the "
        "landing with 'max_row_loss: 1' in its run configuration, or declare another 'max_row_loss' for 'orders'."
    ) in message
    assert ["2024-01-02"] == shop.lake.partitions("raw/orders__rejected")
    assert [("2024-01-02", "rejected", 0)] == [
        (it.partition, it.kind, it.total) for it in set_aside(shop.lake, "raw/orders")
    ]


@pytest.mark.parametrize("by", [{"column": "day"}, None])
@pytest.mark.parametrize("contract", [ORDERS, VERSIONED])
def test_an_empty_file_replaces_nothing(landings: Opened, contract: TableContract, by: dict[str, str] | None) -> None:
    shop = landings(contract, partition_by=by)
    rows = "day,n\n2024-01-01,2\n" if contract is ORDERS else "day,order,n\n2024-01-01,1,2\n"
    shop.land(rows, last=LAST if by else "")
    with unchanged(shop, "raw/orders"):
        _, message = failure(shop.land(rows.partition("\n")[0] + "\n", last=LAST if by else ""))

    assert "has 0 rows, 1 were landed before" in message


@pytest.mark.parametrize(("declared", "config"), [({"max_row_loss": 1}, {}), ({}, {"max_row_loss": 1})])
def test_a_loss_that_the_declaration_or_the_run_allows_is_landed(
    landings: Opened, declared: dict[str, Any], config: dict[str, Any]
) -> None:
    shop = landings(ORDERS, **declared)
    shop.land(ROWS)

    assert shop.land("day,n\n2024-01-01,2\n", **config).success
    assert 0 == shop.rows("2024-01-02").height


def test_quarantined_rows_count_as_landed_before(landings: Opened) -> None:
    shop = landings(ORDERS, quarantine=0.5)
    shop.land("day,n\n2024-01-01,2\n2024-01-01,-1\n2024-01-01,-2\n2024-01-01,3\n")

    assert shop.land("day,n\n2024-01-01,2\n2024-01-01,3\n").success
    _, message = failure(shop.land("day,n\n"))
    assert "has 0 rows, 2 were landed before" in message


DATED = TableContract(
    "raw/orders",
    (
        Column("seen", pl.Int64()),
        Column("n", pl.Int64()),
        Column("event_day", pl.Date(), expression="cast(make_timestamp(seen * 1000000) as date)"),
    ),
    where="_sources.yml",
)


def test_days_may_be_computed_at_landing(landings: Opened) -> None:
    shop = landings(DATED, partition_by={"column": "event_day"})

    assert shop.land("seen,n\n1704067200,1\n1704153599,2\n1704153600,3\n").success  # 1 January 2024, 0:00 UTC on
    assert {FIRST: [1, 2], "2024-01-02": [3], LAST: []} == {
        day: shop.rows(day)["n"].to_list() for day in (FIRST, "2024-01-02", LAST)
    }
    assert [datetime(2024, 1, 2).date()] == shop.rows("2024-01-02")["event_day"].to_list()  # noqa: DTZ001


NOT_FINITE = "case n when 1 then cast('nan' as double) when 2 then 1e308 * 10 else n end"


@pytest.mark.parametrize(("is_nan_missing", "broken"), [(False, [2, 1]), (True, [2])])
def test_the_values_of_an_expression_must_be_finite_and_nan_is_missing_only_if_declared(
    landings: Opened, *, is_nan_missing: bool, broken: list[int]
) -> None:
    ratio = Column("ratio", pl.Float64(), expression=NOT_FINITE, is_nan_missing=is_nan_missing)
    contract = replace(ORDERS, columns=(*ORDERS.columns, ratio))
    shop = landings(contract, quarantine=1.0)

    assert shop.land(ROWS).success

    aside = pl.concat([shop.rows(day, "raw/orders__quarantine") for day in shop.lake.partitions("raw/orders")])
    assert [(n, ["ratio is finite"]) for n in broken] == aside.select("n", "broken_rules").rows()
    assert shop.rows("2024-01-02")["ratio"].to_list() == ([None, 3.0] if is_nan_missing else [3.0])


def test_raw_tables_show_their_contract_owner_and_description(landings: Opened) -> None:
    [asset] = landings(ORDERS).assets
    spec = asset.specs_by_key[RAW]

    assert ("raw", ["team:shop"], "Orders.") == (spec.group_name, [*spec.owners], spec.description)
    schema = spec.metadata["dagster/column_schema"]
    assert ["day", "n"] == [column.name for column in getattr(schema, "schema", schema).columns]
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()


def test_a_source_that_dbt_does_not_know_is_rejected() -> None:
    declared = RawDeclaration.model_validate(
        {"days": {"first": FIRST}, "tables": {"orders": {"file": "a"}, "shops": {"file": "b"}}}
    )

    with pytest.raises(ContractError, match=r"tables\.shops: source 'shops' has no contract\. Add it with columns"):
        raw_tables(declared, {"raw/orders": ORDERS})


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
    assert str(error.value).splitlines() == [
        (
            "raw/defs.yaml:8: tables.orders.partition_by.column: table 'raw/orders' has no column 'dey'; expected one "
            "of day, n (did you mean 'day'?); see _sources.yml."
        ),
        *(f"raw/defs.yaml:11: tables.shops.partition_by.{field}: {text}" for field in ("year", "month", "day")),
        (
            "raw/defs.yaml:12: tables.visits.partition_by.column: column 'n' of table 'raw/visits' is bigint; expected "
            "a date, a timestamp or text such as 2024-01-31; see _sources.yml."
        ),
    ]


@pytest.mark.parametrize(("timezone", "day"), [("UTC", "2024-01-02"), ("America/New_York", "2024-01-01")])
def test_the_day_of_a_timestamp_is_that_of_the_declared_time_zone(landings: Opened, timezone: str, day: str) -> None:
    contract = TableContract("raw/orders", (Column("n", pl.Int64()), Column("seen_at", pl.Datetime("us"))))
    shop = landings(contract, partition_by={"column": "seen_at"}, timezone=timezone)
    assert shop.land("n,seen_at\n1,2024-01-02 03:00:00\n").success

    assert [1] == shop.rows(day)["n"].to_list()


def test_a_file_with_other_columns_lands_nothing(landings: Opened) -> None:
    shop = landings(ORDERS)

    step, message = failure(shop.land("day,m\n2024-01-01,1\n"))

    assert "raw__orders" == step
    assert "missing ['n'], unknown ['m']" in message
    assert {} == shop.lake.newest("raw/orders")


# ---------------------------------------------------------------- versions

ONE = "day,order,n\n2024-01-01,1,5\n2024-01-01,2,6\n"


def test_corrected_and_late_rows_are_stored_with_the_time_they_were_received(landings: Opened) -> None:
    shop = landings(VERSIONED)
    shop.land(ONE)
    first = shop.lake.find("raw/orders", FIRST)
    result = shop.land("day,order,n\n2024-01-01,3,1\n2024-01-01,2,8\n2024-01-01,1,5\n", at="2024-01-09T03:00:00")
    at = datetime(2024, 1, 9, 3)  # noqa: DTZ001 - naive UTC is the house's form

    assert [(1, 5, None), (2, 6, None), (3, 1, at), (2, 8, at)] == shop.rows(FIRST).select(
        "order", "n", "received_at"
    ).rows()
    assert (first,) == shop.lake.manifest(shop.lake.find("raw/orders", FIRST)).inputs
    facts = result.asset_materializations_for_node("raw__orders")[0].metadata
    assert (1, 1) == (facts["late rows"].value, facts["corrected rows"].value)


def test_landing_the_same_source_again_changes_nothing(landings: Opened) -> None:
    shop = landings(VERSIONED)
    shop.land(ONE)
    shop.land(ONE + "2024-01-01,3,7\n", at="2024-01-05T00:00:00")
    stood = shop.lake.find("raw/orders", FIRST)
    inputs = shop.lake.manifest(stood).inputs

    assert shop.land(ONE + "2024-01-01,3,7\n", at="2024-01-06T00:00:00").success
    assert stood == shop.lake.find("raw/orders", FIRST)
    assert inputs == shop.lake.manifest(stood).inputs


def test_two_concurrent_landings_of_a_day_store_the_corrections_of_both(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    shop, other = (Landings(tmp_path / name, VERSIONED, instance, quarantine=0.5) for name in ("one", "other"))
    (tmp_path / "other" / "lake").symlink_to(tmp_path / "one" / "lake")  # another process has a lake object of its own
    assert shop.land("day,order,n\n2024-01-01,1,5\n2024-01-01,2,7\n", at="2024-01-01T00:00").success
    land, attempts = raw.land_rows, []

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        landed = land(*args, **kwargs)
        if threading.current_thread() is threading.main_thread():
            attempts.append(landed)
            if len(attempts) == 1:  # both have read what stands, and the other one publishes first
                theirs = "day,order,n\n2024-01-01,1,5\n2024-01-01,2,8\n"
                with ThreadPoolExecutor(1) as pool:
                    with ephemeral_instance() as elsewhere:
                        other.instance = elsewhere
                        assert pool.submit(other.land, theirs, at="2024-01-01T09:00").result().success
        return landed

    monkeypatch.setattr(raw, "land_rows", overtaken)
    assert shop.land("day,order,n\n2024-01-01,1,6\n2024-01-01,2,7\n", at="2024-01-01T10:00").success

    assert 2 == len(attempts)
    assert [(1, 5), (1, 6), (2, 7), (2, 7), (2, 8)] == sorted(shop.rows(FIRST).select("order", "n").iter_rows())
    assert {"raw/orders": 3, "raw/orders__quarantine": 3} == {
        asset: shop.lake.last_numbers(asset, [FIRST])[FIRST] for asset in ("raw/orders", "raw/orders__quarantine")
    }


@pytest.mark.parametrize("other", ["2024-01-01,2,8\n", "2024-01-01,2,6\n"])
def test_a_key_that_the_source_has_twice_is_rejected_in_a_first_landing_and_in_later_ones(
    landings: Opened, other: str
) -> None:
    shop = landings(VERSIONED)
    _, message = failure(shop.land(ONE + other))
    assert "rule 'order and received_at are unique together' of table 'raw/orders' is broken in 2 of 3 rows" in message

    shop.land(ONE)
    with unchanged(shop, "raw/orders"):
        _, message = failure(shop.land(ONE + other, at="2024-01-09T03:00:00"))

    assert (
        "rule 'order and received_at are unique together' of table 'raw/orders' is broken in 2 of 4 rows (50.00%), on "
        "2024-01-01, for instance by 2, 2024-01-09 03:00:00"
    ) in message


def test_a_row_that_the_source_removed_remains_with_the_time_of_its_removal(landings: Opened) -> None:
    shop = landings(VERSIONED)
    shop.land(ONE)
    result = shop.land("day,order,n\n2024-01-01,1,5\n2024-01-02,2,6\n", at="2024-01-09T03:00:00")
    at = datetime(2024, 1, 9, 3)  # noqa: DTZ001 - naive UTC is the house's form

    assert [(1, None, None), (2, None, at)] == shop.rows(FIRST).select("order", "received_at", "gone_at").rows()
    assert [(2, at, None)] == shop.rows("2024-01-02").select("order", "received_at", "gone_at").rows()
    warnings = [event.message for event in shop.instance.all_logs(result.run_id) if event.level == 30]
    sentence = (
        "orders: the source no longer has 1 row on 1 day, the first on 2024-01-01; moved to another day: 1. The lake "
        "has them, with gone_at."
    )
    assert [sentence] == [line for line in warnings if "no longer" in line]
    parameters = {day: shop.lake.manifest(shop.lake.find("raw/orders", day)).parameters for day in (FIRST, LAST)}
    assert {FIRST: {"rows no longer in the source": 1}} == parameters[FIRST]["changed_rows"]
    assert {LAST: {}} == parameters[LAST]["changed_rows"]


def test_a_computed_column_is_computed_unless_the_source_contains_it(landings: Opened) -> None:
    shop = landings(VERSIONED)

    assert shop.land("day,order,n,ready_at\n2024-01-01,1,5,2024-01-01 09:30:00\n2024-01-01,2,5,\n").success
    assert [datetime(2024, 1, 1, 9, 30), None] == shop.rows(FIRST)["ready_at"].to_list()  # noqa: DTZ001

    assert shop.land("day,order,n\n2024-01-01,1,5\n2024-01-01,2,5\n2024-01-02,3,5\n").success
    assert [datetime(2024, 1, 2, 5)] == shop.rows("2024-01-02")["ready_at"].to_list()  # noqa: DTZ001


def test_an_expression_of_another_type_than_its_column_lands_nothing(landings: Opened) -> None:
    wrong = TableContract(
        "raw/orders", (*ORDERS.columns, Column("twice", pl.Int64(), expression="n * 2.5")), where="_sources.yml"
    )
    shop = landings(wrong)

    _, message = failure(shop.land(ROWS))

    assert "column 'twice' of table 'raw/orders' is" in message
    assert {} == shop.lake.newest("raw/orders")


def test_a_moment_without_a_zone_counts_as_utc_and_others_are_brought_there() -> None:
    assert datetime(2024, 1, 1, 12) == LandingConfig(received_at="2024-01-01T12:00:00").moment(datetime.now(UTC))  # noqa: DTZ001
    assert datetime(2024, 1, 1, 10) == LandingConfig(received_at="2024-01-01T12:00:00+02:00").moment(datetime.now(UTC))  # noqa: DTZ001
    with pytest.raises(ValueError, match="Invalid isoformat string"):
        LandingConfig(received_at="at noon")


# ---------------------------------------------------------------- checks, audit before publish, quarantine

BROKEN = "day,n\n2024-01-01,2\n2024-01-02,-1\n2024-01-02,3\n2024-01-03,-7\n"


def test_each_rule_is_a_check_and_satisfied_rules_are_reported_too(landings: Opened) -> None:
    shop = landings(ORDERS)

    found = checks(shop.land(ROWS))

    assert {
        "columns_are_as_in_the_contract": True, "n_is_at_least_0": True, "no_more_rows_are_lost_than_declared": True,
        "every_row_of_the_source_is_of_a_declared_day": False,  # the last one is of the year before
    } == {name: check.passed for name, check in found.items()}  # fmt: skip
    assert 3 == found["n_is_at_least_0"].metadata["rows"].value


def test_a_broken_rule_publishes_no_day_of_the_run_and_stores_the_rejected_ones_in_quarantine(landings: Opened) -> None:
    shop = landings(ORDERS)
    shop.land(ROWS)
    with unchanged(shop, "raw/orders"):
        result = shop.land(BROKEN)

    _, message = failure(result)
    check = checks(result)["n_is_at_least_0"]
    assert message.strip().removeprefix("ml_assets.contracts.errors.ContractError: ") == (
        "nothing of table 'raw/orders' was published, and its current artifacts are unchanged; rejected partitions: "
        "2024-01-02, 2024-01-03:\n"
        "- rule 'n is at least 0' of table 'raw/orders' is broken in 2 of 4 rows (50.00%), on 2024-01-02, 2024-01-03, "
        "for instance by -1 | -7; see _sources.yml.\n"
        "Fix the data or the contract, then materialize the table again. The rejected rows: ml-assets quarantine "
        "raw/orders 2024-01-02"
    )
    assert (False, True) == (check.passed, check.blocking)
    assert {"2024-01-02": 1, "2024-01-03": 1} == check.metadata["days"].value
    assert ["2024-01-02", "2024-01-03"] == shop.lake.partitions("raw/orders__rejected")
    assert [(-1, ["n is at least 0"]), (3, [])] == shop.rows("2024-01-02", "raw/orders__rejected").select(
        "n", "broken_rules"
    ).rows()


def test_rows_that_break_a_rule_are_quarantined_if_a_share_is_declared(landings: Opened) -> None:
    shop = landings(ORDERS, quarantine=0.5)

    result = shop.land("day,n\n2024-01-01,2\n2024-01-02,-1\n2024-01-02,3\n")

    check = checks(result)["n_is_at_least_0"]
    assert result.success
    assert [3] == shop.rows("2024-01-02")["n"].to_list()
    assert [(-1, ["n is at least 0"])] == shop.rows("2024-01-02", "raw/orders__quarantine").select(
        "n", "broken_rules"
    ).rows()
    assert (False, dg.AssetCheckSeverity.WARN, 1) == (
        check.passed, check.severity, check.metadata["quarantined"].value
    )  # fmt: skip


def test_a_clean_day_has_an_empty_quarantine_of_the_same_columns(landings: Opened) -> None:
    shop = landings(ORDERS, quarantine=0.1)
    shop.land(ROWS)

    aside = shop.rows(FIRST, "raw/orders__quarantine")
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

    assert [None] == shop.rows(FIRST, "raw/orders__quarantine")["received_at"].to_list()


def test_released_rows_pass_as_they_are_and_are_counted(landings: Opened) -> None:
    shop = landings(ORDERS, quarantine=0.5)
    rows = "day,n\n2024-01-02,-1\n2024-01-02,3\n"
    shop.land(rows)
    [aside] = set_aside(shop.lake, "raw/orders")
    released = release(shop.lake, aside, why="they were returns", by="sam")

    result = shop.land(rows)

    check = checks(result)["n_is_at_least_0"]
    assert [-1, 3] == shop.rows("2024-01-02")["n"].to_list()
    assert [] == [*set_aside(shop.lake, "raw/orders")]
    assert (True, 1) == (check.passed, check.metadata["released"].value)
    assert released.ref in shop.lake.manifest(shop.lake.find("raw/orders", "2024-01-02")).inputs
    assert () == shop.lake.manifest(shop.lake.find("raw/orders", FIRST)).inputs


def test_relationships_are_checked_against_the_rows_of_the_lake(landings: Opened) -> None:
    contract = TableContract(
        "raw/orders",
        (Column("day", pl.Date()), Column("shop", pl.String(), relationship=Relationship("raw/shops", "shop"))),
    )
    shop = landings(contract)
    rows = "day,shop\n2024-01-01,a\n2024-01-01,b\n"
    assert shop.land(rows).success
    put(shop.lake, pl.DataFrame({"shop": ["a"]}), asset="raw/shops")
    _, message = failure(shop.land(rows))

    assert f"rule '{contract.rules[-1].name}' of table 'raw/orders' is broken in 1 of 2 rows" in message


def test_a_landing_within_the_second_of_the_one_before_comes_after_it(
    landings: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = landings(VERSIONED)
    second = datetime(2024, 1, 9, 3, tzinfo=UTC)
    for microsecond, rows in ((1, ONE), (2, ONE.replace(",5", ",7"))):
        moment = second.replace(microsecond=microsecond)
        monkeypatch.setattr(Lake, "now", lambda _, moment=moment: moment)
        assert shop.land(rows).success

    assert 7 in shop.rows(FIRST)["n"].to_list()


# ---------------------------------------------------------------- another type in the contract


def test_rows_are_landed_again_under_a_wider_type_and_none_is_corrected(landings: Opened) -> None:
    wide = landings(VERSIONED)
    columns = [replace(column, dtype=pl.Int32()) if column.name == "n" else column for column in VERSIONED.columns]
    narrow = landings(replace(VERSIONED, columns=tuple(columns)))
    narrow.land(ONE)
    stood = narrow.rows(FIRST)

    assert {RAW: {FIRST: "parameters"}} == wide.stale()
    assert wide.land(ONE, at="2024-01-09T03:00:00").success
    assert {} == wide.stale()
    assert (pl.Int32, pl.Int64) == (stood.schema["n"], wide.rows(FIRST).schema["n"])
    assert_frame_equal(stood.cast({"n": pl.Int64}), wide.rows(FIRST))


# ---------------------------------------------------------------- other rules in the contract


def test_landed_rows_are_checked_again_under_a_stricter_rule(landings: Opened) -> None:
    columns = [replace(column, maximum=1) if column.name == "n" else column for column in ORDERS.columns]
    loose = landings(ORDERS)
    strict = landings(replace(ORDERS, columns=tuple(columns)))
    assert loose.land(ROWS).success
    assert {} == loose.stale()

    assert {RAW: {FIRST: "code"}} == strict.stale()
    assert not strict.land(ROWS).success  # n is 2 on the first day


def test_rows_quarantined_before_a_change_of_type_are_read_with_those_landed_after_it() -> None:
    ref = ArtifactRef(asset="raw/orders", version="a" * 32)
    landed, aside = pl.DataFrame({"n": [1]}), pl.DataFrame({"n": [2.0], BROKEN_RULES: [["n is odd"]]})

    assert_frame_equal(pl.DataFrame({"n": [1, 2]}), _all_versions([(ref, landed), (ref, aside)]))
    with pytest.raises(DataError, match="column 'n' is stored as double and is now bigint"):
        _all_versions([(ref, landed), (ref, aside.with_columns(n=2.5))])
