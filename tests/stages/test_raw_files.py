"""Raw tables with one file a day: what is landed, what is rejected, and the manifest."""

import gzip
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import Column, TableContract
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.manifest import FILES
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.stages.raw import raw_tables
from tests.builders import failure
from tests.event_logs import ephemeral_instance

ORDERS = TableContract(
    "raw/orders", (Column("day", pl.Date()), Column("n", pl.Int64(), minimum=0)), where="_sources.yml"
)
VERSIONED = TableContract(
    "raw/orders",
    (
        Column("order", pl.Int64(), is_nullable=False),
        Column("n", pl.Int64()),
        Column("twice", pl.Int64(), expression="n * 2"),
        Column("received_at", pl.Datetime("us")),
        Column("gone_at", pl.Datetime("us")),
    ),
    key=("order", "received_at"),
    where="_sources.yml",
)
FIRST, SECOND, THIRD = "2024-01-01", "2024-01-02", "2024-01-03"


class Inbox:
    """A folder with files by day, landed again and again into one lake."""

    def __init__(
        self, folder: Path, instance: dg.DagsterInstance, contract: TableContract = ORDERS, **table: Any
    ) -> None:
        self.folder = folder / "in"
        self.folder.mkdir()
        declared = RawDeclaration.model_validate(
            {"days": {"first": FIRST}, "tables": {"orders": {"files": f"{self.folder}/{{day}}*", **table}}}
        )
        self.assets = raw_tables(declared, {"raw/orders": contract})
        self.lake = Lake(str(folder / "lake"))
        self.instance = instance

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def land(self, first: str, last: str | None = None) -> dg.ExecuteInProcessResult:
        lake = LakeResource(url=self.lake.url)
        return dg.materialize(
            self.assets,
            instance=self.instance,
            resources={"ml_assets_lake": lake, "ml_assets_io_manager": LakeIOManager(lake=lake)},
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def rows(self, day: str) -> list[Any]:
        found: pl.DataFrame = self.lake.get(self.lake.find("raw/orders", day), pl.DataFrame)
        return found["n"].to_list()

    def facts(self, day: str) -> Any:
        return self.lake.manifest(self.lake.find("raw/orders", day)).parameters[FILES]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with ephemeral_instance() as one:
        yield one


Opened = Callable[..., Inbox]


@pytest.fixture
def inbox_of(tmp_path: Path, instance: dg.DagsterInstance) -> Opened:
    """Return what opens the inbox of a table, by default of orders, with some fields declared."""
    return lambda contract=ORDERS, **table: Inbox(tmp_path, instance, contract, **table)


@pytest.fixture
def inbox(inbox_of: Opened) -> Inbox:
    return inbox_of()


def day_of(day: str, *numbers: int) -> str:
    return "day,n\n" + "".join(f"{day},{n}\n" for n in numbers)


def test_only_the_files_of_the_day_are_read_in_the_order_of_their_names(inbox: Inbox) -> None:
    inbox.write(f"{FIRST}-b.csv", "n,day\n3,2024-01-01\n")
    inbox.write(f"{FIRST}-a.csv", day_of(FIRST, 1, 2))
    inbox.write(f"{SECOND}.csv", "not even CSV\x00")

    assert inbox.land(FIRST).success
    assert [1, 2, 3] == inbox.rows(FIRST)
    assert [FIRST] == inbox.lake.partitions("raw/orders")


def test_the_manifest_names_each_file_with_size_and_digest(inbox: Inbox) -> None:
    path = inbox.write(f"{FIRST}.csv", day_of(FIRST, 1))
    inbox.land(FIRST)

    [file] = inbox.facts(FIRST)[FIRST]
    assert (f"{FIRST}.csv", path.stat().st_size, 32) == (file["name"], file["bytes"], len(file["digest"]))
    assert path.stat().st_mtime_ns // 1000 == round(datetime.fromisoformat(file["modified_at"]).timestamp() * 1e6)


def test_files_are_read_by_the_format_of_their_content(inbox: Inbox) -> None:
    text = day_of(FIRST, 1)
    inbox.write(f"{FIRST}-1.csv", text)
    (inbox.folder / f"{FIRST}-2.csv").write_bytes(gzip.compress(text.replace(",1", ",2").encode()))
    with zipfile.ZipFile(inbox.folder / f"{FIRST}-3.csv.zip", "w") as archive:
        archive.writestr("rows.csv", text.replace(",1", ",3"))
    pl.read_csv(text.encode(), try_parse_dates=True).with_columns(n=pl.lit(4, pl.Int8)).write_parquet(
        inbox.folder / f"{FIRST}-4.csv"
    )

    assert inbox.land(FIRST).success
    assert [1, 2, 3, 4] == inbox.rows(FIRST)


def test_a_day_without_values_in_a_parquet_column_is_landed_with_them_missing(inbox: Inbox) -> None:
    pl.DataFrame({"n": [2], "day": [None]}).write_parquet(inbox.folder / f"{FIRST}.parquet")

    assert inbox.land(FIRST).success
    rows: pl.DataFrame = inbox.lake.get(inbox.lake.find("raw/orders", FIRST), pl.DataFrame)
    assert [(None, 2)] == rows.select("day", "n").rows()


def test_files_are_read_as_their_dialect_is_declared_and_a_changed_one_is_seen(inbox_of: Opened) -> None:
    inbox = inbox_of(csv={"delimiter": ";", "thousands": " "}, formats={"day": "%d.%m.%Y"}, null_values=["-"])
    inbox.write(f"{FIRST}.csv", "day;n\n01.01.2024;1 234\n-;-\n")

    assert inbox.land(FIRST).success
    assert [1234, None] == inbox.rows(FIRST)
    manifest = inbox.lake.manifest(inbox.lake.find("raw/orders", FIRST))
    assert {
        "csv": {"delimiter": ";", "thousands": " "}, "formats": {"day": "%d.%m.%Y"}, "null_values": ["-"],
    } == manifest.parameters["reading"]  # fmt: skip


def test_formats_of_unknown_columns_or_columns_without_a_time_are_rejected_at_load() -> None:
    declared = RawDeclaration.model_validate(
        {
            "days": {"first": FIRST},
            "tables": {"orders": {"file": "a", "formats": {"dya": "%d.%m.%Y", "n": "%d.%m.%Y", "day": "unix_seconds"}}},
        }
    )

    with pytest.raises(ContractError) as caught:
        raw_tables(declared, {"raw/orders": ORDERS})

    first, second, third = str(caught.value).splitlines()
    assert "table 'raw/orders' has no column 'dya'; expected one of day, n (did you mean 'day'?)" in first
    assert "column 'n' of table 'raw/orders' is bigint; expected a date or a timestamp; see _sources.yml." in second
    assert "column 'day' of table 'raw/orders' is date; expected a timestamp" in third


def test_a_value_of_a_personal_column_is_in_no_message(inbox_of: Opened) -> None:
    contract = TableContract("raw/orders", (Column("n", pl.Int64(), is_pii=True), Column("m", pl.Int64())))
    inbox = inbox_of(contract)
    inbox.write(f"{FIRST}.csv", "n,m\nJane Roe,many\n")

    _, message = failure(inbox.land(FIRST))

    assert "'n' has 1 value that is not bigint, on line 2; " in message
    assert "'many'" in message
    assert "Jane" not in message


@pytest.mark.parametrize("packed", [gzip.compress(b"day,n\n2024-01-01,1\n", mtime=0)[:-9], b"PAR1\x15\x00half of it"])
def test_a_damaged_file_is_named_and_nothing_is_landed(inbox: Inbox, packed: bytes) -> None:
    (inbox.folder / f"{FIRST}-x").write_bytes(packed)

    _, message = failure(inbox.land(FIRST))

    assert f"source file {inbox.folder}/{FIRST}-x is " in message
    assert "etch it again." in message
    assert [] == inbox.lake.partitions("raw/orders")


def test_a_replaced_file_gives_a_new_version_and_equal_rows_give_the_same(inbox: Inbox) -> None:
    inbox.write(f"{FIRST}.csv", day_of(FIRST, 1))
    inbox.land(FIRST)
    first = inbox.lake.find("raw/orders", FIRST)
    inbox.write(f"{FIRST}.csv", day_of(FIRST, 1).replace("\n", "\r\n"))
    inbox.land(FIRST)

    assert first == inbox.lake.find("raw/orders", FIRST)
    assert inbox.facts(FIRST)[FIRST][0]["bytes"] == (inbox.folder / f"{FIRST}.csv").stat().st_size
    inbox.write(f"{FIRST}.csv", day_of(FIRST, 2))
    inbox.land(FIRST)
    assert [2] == inbox.rows(FIRST)
    assert 2 == len(inbox.lake.versions("raw/orders")[FIRST])


def test_rows_of_another_day_than_the_files_name_are_rejected_with_counts(inbox_of: Opened) -> None:
    inbox = inbox_of(partition_by={"column": "day"})
    inbox.write(f"{FIRST}.csv", day_of(FIRST, 1) + f"{SECOND},2\n{SECOND},3\n{THIRD},4\n")

    _, message = failure(inbox.land(FIRST))

    assert (
        f"3 of 4 rows in {inbox.folder}/{FIRST}.csv are of 2 other days (2 of {SECOND}, 1 of {THIRD}); expected only "
        f"{FIRST}. Correct the file, its name, or 'partition_by' (if absent, a column 'day')."
    ) in message
    assert [] == inbox.lake.partitions("raw/orders")


def test_a_day_without_a_file_is_an_error_that_names_the_pattern(inbox: Inbox) -> None:
    for last in (FIRST, THIRD):
        span = FIRST if last == FIRST else f"{FIRST} to {THIRD}"
        _, message = failure(inbox.land(FIRST, last))
        assert f"there is no file of {span} for raw/orders; expected {inbox.folder}/{{day}}*" in message


def test_days_of_a_range_without_a_file_are_reported_and_unchanged(inbox: Inbox) -> None:
    gone = inbox.write(f"{SECOND}.csv", day_of(SECOND, 2))
    inbox.land(SECOND)
    stood, facts = inbox.lake.find("raw/orders", SECOND), inbox.facts(SECOND)[SECOND]
    gone.unlink()
    inbox.write(f"{FIRST}.csv", day_of(FIRST, 1))

    result = inbox.land(FIRST, SECOND)

    warnings = [event.message for event in inbox.instance.all_logs(result.run_id) if event.level == 30]
    assert (
        f"orders: 1 of 2 days have no file, the first is {SECOND}; expected {inbox.folder}/{{day}}*. Their landed rows "
        "stay in the lake."
    ) in warnings
    assert ([1], [2]) == (inbox.rows(FIRST), inbox.rows(SECOND))
    assert (stood, facts) == (inbox.lake.find("raw/orders", SECOND), inbox.facts(SECOND)[SECOND])


def test_a_day_of_a_range_without_a_file_is_not_landed_as_an_empty_day(inbox: Inbox) -> None:
    for day in (FIRST, THIRD):
        inbox.write(f"{day}.csv", day_of(day, 1))

    _, message = failure(inbox.land(FIRST, THIRD))

    assert (
        f"there is no file of {SECOND} for raw/orders; expected {inbox.folder}/{{day}}*. Land the other days" in message
    )
    assert [] == inbox.lake.partitions("raw/orders")


def test_quarantined_rows_remain_quarantined_if_the_file_is_removed(inbox_of: Opened) -> None:
    inbox = inbox_of(quarantine=0.5)
    gone = inbox.write(f"{FIRST}.csv", day_of(FIRST, 1, -1))
    inbox.land(FIRST)
    gone.unlink()
    inbox.write(f"{SECOND}.csv", day_of(SECOND, 2))
    before = inbox.lake.newest("raw/orders__quarantine")[FIRST]

    assert inbox.land(FIRST, SECOND).success
    assert [1] == inbox.rows(FIRST)
    assert before == inbox.lake.newest("raw/orders__quarantine")[FIRST]


def test_a_corrected_row_is_stored_with_the_first_and_a_computed_column_is_computed(inbox_of: Opened) -> None:
    inbox = inbox_of(VERSIONED)
    inbox.write(f"{FIRST}.csv", "order,n\n1,1\n")
    inbox.write(f"{SECOND}.csv", "order,n,twice\n2,2,5\n")
    assert inbox.land(FIRST, SECOND).success
    inbox.write(f"{FIRST}-corrected.csv", "order,n\n1,3\n")
    (inbox.folder / f"{FIRST}.csv").unlink()
    assert inbox.land(FIRST).success

    rows: pl.DataFrame = inbox.lake.get(inbox.lake.find("raw/orders", FIRST), pl.DataFrame)
    assert [(1, 1, 2), (1, 3, 6)] == rows.select("order", "n", "twice").rows()
    other: pl.DataFrame = inbox.lake.get(inbox.lake.find("raw/orders", SECOND), pl.DataFrame)
    assert [(2, 2, 5)] == other.select("order", "n", "twice").rows()


def test_files_of_one_day_with_other_columns_are_refused(inbox_of: Opened) -> None:
    inbox = inbox_of(VERSIONED)
    inbox.write(f"{FIRST}-a.csv", "order,n\n1,1\n")
    inbox.write(f"{FIRST}-b.csv", "order,n,twice\n2,2,5\n")

    _, message = failure(inbox.land(FIRST))

    assert f"{FIRST}-b.csv has the columns ['order', 'n', 'twice'], but {FIRST}-a.csv of the same day has" in message


def test_rows_of_a_day_without_a_file_do_not_count_as_removed(inbox_of: Opened) -> None:
    inbox = inbox_of(VERSIONED)
    inbox.write(f"{FIRST}.csv", "order,n\n1,1\n")
    inbox.write(f"{SECOND}.csv", "order,n\n2,2\n")
    inbox.land(FIRST, SECOND)
    (inbox.folder / f"{FIRST}.csv").unlink()

    assert inbox.land(FIRST, SECOND).success
    found: pl.DataFrame = inbox.lake.get(inbox.lake.find("raw/orders", FIRST), pl.DataFrame)
    assert [(1, None, None)] == found.select("order", "received_at", "gone_at").rows()


def test_the_day_of_a_file_is_compared_with_days_computed_at_landing(inbox_of: Opened) -> None:
    contract = TableContract(
        "raw/orders",
        (Column("n", pl.Int64()), Column("event_day", pl.Date(), expression="date '2024-01-01' + cast(n as integer)")),
        where="_sources.yml",
    )
    inbox = inbox_of(contract, partition_by={"column": "event_day"})
    inbox.write(f"{FIRST}.csv", "n\n0\n0\n")
    inbox.write(f"{SECOND}.csv", "n\n1\n2\n")

    assert inbox.land(FIRST).success
    _, message = failure(inbox.land(SECOND))
    assert "are of 1 other days (1 of 2024-01-03); expected only 2024-01-02" in message


@pytest.mark.parametrize("expression", [None, "cast(seen_at as date)"])
def test_a_column_day_is_compared_with_the_day_in_the_name_where_no_other_is_declared(
    inbox_of: Opened, expression: str | None
) -> None:
    columns = (Column("seen_at", pl.Datetime("us")), Column("day", pl.Date(), expression=expression))
    contract = TableContract("raw/orders", columns, is_by_day=True, where="_sources.yml")
    inbox = inbox_of(contract)
    late = datetime(2024, 11, 3, 7)  # noqa: DTZ001 - naive UTC is the house's form
    rows = pl.DataFrame({"seen_at": [datetime(2024, 1, 1, 7), late, late]})  # noqa: DTZ001
    if expression is None:
        rows = rows.with_columns(day=pl.col("seen_at").dt.date())
    rows.write_parquet(inbox.folder / f"{FIRST}.parquet")

    _, message = failure(inbox.land(FIRST))

    assert f"2 of 3 rows in {inbox.folder}/{FIRST}.parquet are of 1 other days (2 of 2024-11-03); expected" in message
    rows.head(1).write_parquet(inbox.folder / f"{FIRST}.parquet")
    assert inbox.land(FIRST).success


def test_a_column_day_that_is_no_date_does_not_contradict_the_name(inbox_of: Opened) -> None:
    contract = TableContract("raw/orders", (Column("day", pl.Int64()), Column("n", pl.Int64())), is_by_day=True)
    inbox = inbox_of(contract)
    inbox.write(f"{FIRST}.csv", "day,n\n31,1\n")

    assert inbox.land(FIRST).success
