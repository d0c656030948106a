"""Raw tables with one file a day: what is landed, what is rejected, and the manifest."""

import gzip
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import Column
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.lake.manifest import FILES
from ml_assets.stages.raw import raw_tables
from tests.builders import failure
from tests.stages.landings import FIRST, GONE, ORDERS, RECEIVED, SECOND, Landings, orders_of
from tests.stages.landings import LAST as THIRD

N = Column("n", pl.Int64())
VERSIONED = orders_of(
    Column("order", pl.Int64(), is_nullable=False), N, Column("twice", pl.Int64(), expression="n * 2"), RECEIVED, GONE,
    key=("order", "received_at"),
)  # fmt: skip

Opened = Callable[..., Landings]


@pytest.fixture
def inbox_of(tmp_path: Path, instance: dg.DagsterInstance) -> Opened:
    """Return what opens the inbox of a table, by default of orders, with some fields declared."""
    files = f"{tmp_path}/in/{{day}}*"
    return lambda contract=ORDERS, **table: Landings(tmp_path, instance, contract, files=files, **table)


@pytest.fixture
def inbox(inbox_of: Opened) -> Landings:
    return inbox_of()


def facts(inbox: Landings, day: str) -> Any:
    """Return what the manifest of a day records of its files."""
    return inbox.manifest(day).parameters[FILES][day]


def test_only_the_files_of_the_day_are_read_in_the_order_of_their_names(inbox: Landings) -> None:
    inbox.write(f"{FIRST}-b.csv", text="n,day\n3,2024-01-01\n")
    inbox.write(f"{FIRST}-a.csv", 1, 2)
    inbox.write(f"{SECOND}.csv", text="not even CSV\x00")

    assert inbox.land_days(FIRST).success
    assert [1, 2, 3] == inbox.rows(FIRST)
    assert [FIRST] == inbox.lake.partitions("raw/orders")


def test_the_manifest_names_each_file_with_size_and_digest(inbox: Landings) -> None:
    path = inbox.write(f"{FIRST}.csv", 1)
    inbox.land_days(FIRST)

    [file] = facts(inbox, FIRST)
    assert (f"{FIRST}.csv", path.stat().st_size, 32) == (file["name"], file["bytes"], len(file["digest"]))
    assert path.stat().st_mtime_ns // 1000 == round(datetime.fromisoformat(file["modified_at"]).timestamp() * 1e6)


def test_a_day_without_values_in_a_parquet_column_is_landed_with_them_missing(inbox: Landings) -> None:
    pl.DataFrame({"n": [2], "day": [None]}).write_parquet(inbox.folder / f"{FIRST}.parquet")

    assert inbox.land_days(FIRST).success
    assert [(None, 2)] == inbox.rows(FIRST, "day", "n")


def test_files_are_read_as_their_dialect_is_declared_and_a_changed_one_is_seen(inbox_of: Opened) -> None:
    dialect = {"csv": {"delimiter": ";", "thousands": " "}, "formats": {"day": "%d.%m.%Y"}, "null_values": ["-"]}
    inbox = inbox_of(**dialect)
    inbox.write(f"{FIRST}.csv", text="day;n\n01.01.2024;1 234\n-;-\n")

    assert inbox.land_days(FIRST).success
    assert [1234, None] == inbox.rows(FIRST)
    assert dialect == inbox.manifest(FIRST).parameters["reading"]


def test_formats_of_unknown_columns_or_columns_of_other_types_are_rejected_at_load() -> None:
    orders = {"file": "a", "formats": {"dya": "%d.%m.%Y", "n": "%d.%m.%Y", "day": "unix_seconds"}}
    declared = RawDeclaration.model_validate({"days": {"first": FIRST}, "tables": {"orders": orders}})

    with pytest.raises(ContractError) as caught:
        raw_tables(declared, {"raw/orders": ORDERS})

    first, second, third = str(caught.value).splitlines()
    assert "table 'raw/orders' has no column 'dya'; expected one of day, n (did you mean 'day'?)" in first
    assert "column 'n' of table 'raw/orders' is bigint; expected a date or a timestamp; see _sources.yml." in second
    assert "column 'day' of table 'raw/orders' is date; expected a timestamp" in third
    amounts = {"file": "a", "formats": {"day": "$#", "n": "$#"}}
    declared = RawDeclaration.model_validate({"days": {"first": FIRST}, "tables": {"orders": amounts}})
    with pytest.raises(ContractError) as caught:
        raw_tables(declared, {"raw/orders": ORDERS})
    [line] = str(caught.value).splitlines()
    assert "column 'day' of table 'raw/orders' is date; expected a number" in line


def test_a_value_of_a_personal_column_is_in_no_message(inbox_of: Opened) -> None:
    inbox = inbox_of(orders_of(Column("n", pl.Int64(), is_pii=True), Column("m", pl.Int64())))
    inbox.write(f"{FIRST}.csv", text="n,m\nJane Roe,many\n")

    _, message = failure(inbox.land_days(FIRST))

    assert "'n' has 1 value that is not bigint, on line 2; " in message
    assert "'many'" in message
    assert "Jane" not in message


@pytest.mark.parametrize("packed", [gzip.compress(b"day,n\n2024-01-01,1\n", mtime=0)[:-9], b"PAR1\x15\x00half of it"])
def test_a_damaged_file_is_named_and_nothing_is_landed(inbox: Landings, packed: bytes) -> None:
    (inbox.folder / f"{FIRST}-x").write_bytes(packed)

    _, message = failure(inbox.land_days(FIRST))

    assert f"source file {inbox.folder}/{FIRST}-x is " in message
    assert "etch it again." in message
    assert [] == inbox.lake.partitions("raw/orders")


def test_a_replaced_file_gives_a_new_version_and_equal_rows_give_the_same(inbox: Landings) -> None:
    path = inbox.write(f"{FIRST}.csv", 1)
    inbox.land_days(FIRST)
    first = inbox.lake.find("raw/orders", FIRST)
    path.write_text(path.read_text().replace("\n", "\r\n"))
    inbox.land_days(FIRST)

    assert first == inbox.lake.find("raw/orders", FIRST)
    assert facts(inbox, FIRST)[0]["bytes"] == path.stat().st_size
    inbox.write(f"{FIRST}.csv", 2)
    inbox.land_days(FIRST)
    assert [2] == inbox.rows(FIRST)
    assert 2 == len(inbox.lake.versions("raw/orders")[FIRST])


def test_rows_of_another_day_than_the_files_name_are_rejected_with_counts(inbox_of: Opened) -> None:
    inbox = inbox_of(partition_by={"column": "day"})
    path = inbox.write(f"{FIRST}.csv", text=f"day,n\n{FIRST},1\n{SECOND},2\n{SECOND},3\n{THIRD},4\n")

    _, message = failure(inbox.land_days(FIRST))

    assert (
        f"3 of 4 rows in {path} are of 2 other days (2 of {SECOND}, 1 of {THIRD}); expected only "
        f"{FIRST}. Correct the file, its name, or 'partition_by' (if absent, a column 'day')."
    ) in message
    assert [] == inbox.lake.partitions("raw/orders")


def test_the_files_of_a_month_are_landed_together_and_rows_of_another_month_are_rejected(inbox_of: Opened) -> None:
    inbox = inbox_of(grain="month", partition_by={"column": "day"})
    inbox.write("2024-01-31.csv", 2)
    inbox.write("2024-01-02.csv", text="day,n\n2024-01-03,1\n")
    path = inbox.write("2024-02-29.csv", text="day,n\n2024-02-29,3\n2024-03-01,4\n")

    assert inbox.land_days(FIRST).success
    assert [1, 2] == inbox.rows(FIRST)
    assert ["2024-01-02.csv", "2024-01-31.csv"] == [it["name"] for it in facts(inbox, FIRST)]
    _, message = failure(inbox.land_days("2024-02-01"))
    assert f"1 of 2 rows in {path} are of 1 other months (1 of 2024-03-01); expected only 2024-02-01." in message
    _, message = failure(inbox.land_days("2024-04-01", "2024-05-01"))
    assert "there is no file of 2024-04-01 to 2024-05-01 for raw/orders" in message


@pytest.mark.parametrize(
    ("there", "last", "missing", "fix"),
    [((), FIRST, FIRST, ""), ((), THIRD, f"{FIRST} to {THIRD}", ""),
     ((FIRST, THIRD), THIRD, SECOND, ". Land the other days")],
)  # fmt: skip
def test_days_that_never_had_a_file_are_an_error_that_names_the_pattern(
    inbox: Landings, there: tuple[str, ...], last: str, missing: str, fix: str
) -> None:
    for day in there:
        inbox.write(f"{day}.csv", 1)

    _, message = failure(inbox.land_days(FIRST, last))

    assert f"there is no file of {missing} for raw/orders; expected {inbox.folder}/{{day}}*{fix}" in message
    assert [] == inbox.lake.partitions("raw/orders")


def test_landed_days_without_a_file_are_reported_and_unchanged(inbox_of: Opened) -> None:
    inbox = inbox_of(quarantine=0.5)
    gone = inbox.write(f"{SECOND}.csv", 2, -1)
    inbox.land_days(SECOND)
    assets = ("raw/orders", "raw/orders__quarantine")
    before, recorded = [inbox.lake.find(asset, SECOND) for asset in assets], facts(inbox, SECOND)
    gone.unlink()
    inbox.write(f"{FIRST}.csv", 1)

    result = inbox.land_days(FIRST, SECOND)

    assert (
        f"orders: 1 of 2 days have no file, the first is {SECOND}; expected {inbox.folder}/{{day}}*. Their landed rows "
        "stay in the lake."
    ) in inbox.warnings(result)
    assert ([1], [2]) == (inbox.rows(FIRST), inbox.rows(SECOND))
    assert before == [inbox.lake.find(asset, SECOND) for asset in assets]
    assert recorded == facts(inbox, SECOND)


def test_a_corrected_row_is_stored_with_the_first_and_a_computed_column_is_computed(inbox_of: Opened) -> None:
    inbox = inbox_of(VERSIONED)
    first = inbox.write(f"{FIRST}.csv", text="order,n\n1,1\n")
    inbox.write(f"{SECOND}.csv", text="order,n,twice\n2,2,5\n")
    assert inbox.land_days(FIRST, SECOND).success
    inbox.write(f"{FIRST}-corrected.csv", text="order,n\n1,3\n")
    first.unlink()
    assert inbox.land_days(FIRST).success

    assert [(1, 1, 2), (1, 3, 6)] == inbox.rows(FIRST, "order", "n", "twice")
    assert [(2, 2, 5)] == inbox.rows(SECOND, "order", "n", "twice")


def test_files_of_one_day_with_other_columns_are_refused(inbox_of: Opened) -> None:
    inbox = inbox_of(VERSIONED)
    inbox.write(f"{FIRST}-a.csv", text="order,n\n1,1\n")
    inbox.write(f"{FIRST}-b.csv", text="order,n,twice\n2,2,5\n")

    _, message = failure(inbox.land_days(FIRST))

    assert f"{FIRST}-b.csv has the columns ['order', 'n', 'twice'], but {FIRST}-a.csv of the same day has" in message


def test_rows_of_a_day_without_a_file_do_not_count_as_removed(inbox_of: Opened) -> None:
    inbox = inbox_of(VERSIONED)
    first = inbox.write(f"{FIRST}.csv", text="order,n\n1,1\n")
    inbox.write(f"{SECOND}.csv", text="order,n\n2,2\n")
    inbox.land_days(FIRST, SECOND)
    first.unlink()

    assert inbox.land_days(FIRST, SECOND).success
    assert [(1, None, None)] == inbox.rows(FIRST, "order", "received_at", "gone_at")


@pytest.mark.parametrize("by", [{"column": "event_day"}, {"sql": "date '2024-01-01' + cast(n as integer)"}])
def test_the_day_of_a_file_is_compared_with_days_computed_at_landing(inbox_of: Opened, by: dict[str, str]) -> None:
    event_day = Column("event_day", pl.Date(), expression="date '2024-01-01' + cast(n as integer)")
    inbox = inbox_of(orders_of(N, event_day), partition_by=by)
    inbox.write(f"{FIRST}.csv", text="n\n0\n0\n")
    inbox.write(f"{SECOND}.csv", text="n\n1\n2\n")

    assert inbox.land_days(FIRST).success
    expected = "are of 1 other days (1 of 2024-01-03); expected only 2024-01-02"
    assert expected in failure(inbox.land_days(SECOND))[1]


@pytest.mark.parametrize("expression", [None, "cast(seen_at as date)"])
def test_a_column_day_is_compared_with_the_day_in_the_name_where_no_other_is_declared(
    inbox_of: Opened, expression: str | None
) -> None:
    columns = (Column("seen_at", pl.Datetime("us")), Column("day", pl.Date(), expression=expression))
    inbox = inbox_of(orders_of(*columns, is_by_day=True))
    late = datetime(2024, 11, 3, 7)  # noqa: DTZ001 - naive UTC is the house's form
    rows = pl.DataFrame({"seen_at": [datetime(2024, 1, 1, 7), late, late]})  # noqa: DTZ001
    if expression is None:
        rows = rows.with_columns(day=pl.col("seen_at").dt.date())
    path = inbox.folder / f"{FIRST}.parquet"
    rows.write_parquet(path)

    _, message = failure(inbox.land_days(FIRST))

    assert f"2 of 3 rows in {path} are of 1 other days (2 of 2024-11-03); expected" in message
    rows.head(1).write_parquet(path)
    assert inbox.land_days(FIRST).success


def test_a_column_day_that_is_no_date_does_not_contradict_the_name(inbox_of: Opened) -> None:
    inbox = inbox_of(orders_of(Column("day", pl.Int64()), N, is_by_day=True))
    inbox.write(f"{FIRST}.csv", text="day,n\n31,1\n")

    assert inbox.land_days(FIRST).success
