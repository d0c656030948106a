"""Files that come day by day: patterns, listings, and what is not read."""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.contracts.periods import Calendar
from ml_assets.lake.access import Access
from ml_assets.lake.errors import SourceError
from ml_assets.landing import listing
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.landing.listing import Arrived, files_of_periods, list_files, read_arrived

DAY = date(2024, 2, 3)
KEY = str(DAY)
FORMS = ("{day}", "{day:%Y%m%d}", "{day:%Y/%m/%d}", "{day:%Y}/{day:%j}", "day={day}/*", "{day:%Y}/{day}-*")


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@given(form=st.sampled_from(FORMS), day=st.dates(date(1000, 1, 1)), root=st.sampled_from(["in", "/in/to", "s3://in"]))
def test_a_name_formatted_for_a_day_is_parsed_as_that_day(form: str, day: date, root: str) -> None:
    pattern = DayPattern.of(f"{root}/{form}.csv")

    name = pattern.for_day(day).prefix + ("" if "*" not in form else "a.csv")
    assert day == pattern.day_of(name)
    assert pattern.resembles(name)


@pytest.mark.parametrize(
    ("text", "root", "prefix"),
    [
        ("landing/orders/{day}.csv", "landing/orders", ""),
        ("/landing/{day:%Y}/orders-{day}.csv", "/landing", ""),
        ("{day}.csv", ".", ""),
        ("/{day}.csv", "/", ""),
        ("s3://in/{day}.csv", "s3://in", ""),
        ("s3://in/orders/day={day}/*.parquet", "s3://in", "orders/day="),
    ],
)
def test_only_names_with_the_prefix_before_the_day_are_listed(text: str, root: str, prefix: str) -> None:
    pattern = DayPattern.of(text)

    assert (root, prefix) == (pattern.root, pattern.prefix)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("landing/orders.csv", r"has no day in it; expected \{day\}"),
        ("landing/{day:%m}.csv", "does not contain year, month and day"),
        ("landing/{week}.csv", r"contains '\{week\}'; expected \{day\}"),
        ("landing/{day!r}.csv", r"contains '\{day\}'"),
        ("landing/{day:%H}.csv", "has '%H' in its day; expected some of %Y, %m, %d, %j"),
        ("landing/{day", "is not a pattern"),
        ("landing/**/{day}.csv", "'\\*\\*' is not supported"),
        ("landing/../{day}.csv", "has an empty part, or '..'"),
        ("s3://in//{day}.csv", "has an empty part, or '..'"),
        ("s3://{day}/a.csv", "has no fixed bucket"),
        ("s3://key:hunter2@in/{day}.csv", "contains a secret, which logs, manifests and the web UI would show"),
        ("https://example.org/{day}.csv", "is neither a folder nor s3://bucket/prefix"),
        ("package://shop/{day}.csv", "is neither a folder nor s3://bucket/prefix"),
        ("landing/\n{day}.csv", "has characters that are not allowed in paths"),
    ],
)
def test_an_invalid_pattern_is_rejected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        DayPattern.of(text)
    assert "hunter2" not in str(caught.value)


def test_names_with_two_days_or_without_a_day_have_no_day() -> None:
    pattern = DayPattern.of("in/{day:%Y}/orders-{day}.csv")

    orders = ["2024/orders-2024-02-03", "2023/orders-2024-02-03", "2024/orders-2024-02-30", "2024/orders-"]
    names = [f"{name}.csv" for name in orders]
    assert [DAY, None, None, None] == [pattern.day_of(name) for name in names]
    assert all(map(pattern.resembles, names))
    assert not pattern.resembles("2024/shops-2024-02-03.csv")
    assert not pattern.resembles("orders-2024-02-03.csv")


def test_files_of_a_month_are_those_of_its_days_and_those_that_are_named_by_it(tmp_path: Path) -> None:
    write(tmp_path, "2024-02-28.csv", "2024-03-01.csv", "2024-03-31.csv", "2024-04-01.csv", "months/2024-03.csv",
          "months/2024-13.csv")  # fmt: skip
    by_day, by_month = DayPattern.of(f"{tmp_path}/{{day}}.csv"), DayPattern.of(f"{tmp_path}/months/{{day:%Y-%m}}.csv")
    march, months = "2024-03-01", Calendar("month")

    found = files_of_periods(by_day, [march, "2024-05-01"], Access(), months)

    assert {march: ["2024-03-01.csv", "2024-03-31.csv"]} == {
        month: [it.name for it in files] for month, files in found.items()
    }
    assert ["2024-02-01", march, "2024-04-01"] == [*list_files(by_day, Access(), months).periods]
    assert [march] == [*list_files(by_month, Access(), months).periods]
    assert ("2024-13.csv",) == list_files(by_month, Access(), months).strange


def test_a_folder_is_listed_by_day_in_the_order_of_names(tmp_path: Path) -> None:
    write(tmp_path, "2024-02-04/a.csv", "2024-02-03/b.csv", "2024-02-03/a.csv", "2024-02-03/.hidden.csv", "soon/a.csv",
          "2024-02-03/deeper/a.csv", "2024-02-03/a.txt", "2024-02-05.csv")  # fmt: skip
    pattern = DayPattern.of(f"{tmp_path}/{{day}}/*.csv")

    found = list_files(pattern, Access())

    assert {KEY: ["2024-02-03/a.csv", "2024-02-03/b.csv"], "2024-02-04": ["2024-02-04/a.csv"]} == {
        day: [it.name for it in files] for day, files in found.periods.items()
    }
    assert ("soon/a.csv",) == found.strange
    assert b"2024-02-03/a.csv" == read_arrived(pattern, found.periods[KEY][0], Access())


@pytest.mark.parametrize("count", [1, 9])
def test_the_files_of_some_days_are_those_of_the_whole_listing(tmp_path: Path, count: int) -> None:
    write(tmp_path, *(f"{DAY + timedelta(days=n)}-{part}.csv" for n in range(0, 12, 2) for part in "ab"))
    pattern = DayPattern.of(f"{tmp_path}/{{day}}-*.csv")
    days = [str(DAY + timedelta(days=n)) for n in range(count)]

    whole = list_files(pattern, Access()).periods

    assert {day: files for day, files in whole.items() if day in days} == files_of_periods(pattern, days, Access())


def test_one_day_costs_no_look_at_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "2024-02-03/a.csv", "2024-02-04/a.csv")
    seen: list[str] = []
    scan = os.scandir
    monkeypatch.setattr("os.scandir", lambda path: (seen.append(str(path)), scan(path))[1])

    files_of_periods(DayPattern.of(f"{tmp_path}/{{day}}/*.csv"), [KEY], Access())

    assert [str(tmp_path), f"{tmp_path}/2024-02-03/"] == seen


def test_links_pipes_and_folders_are_no_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write(tmp_path, "secret", "far/2024-02-06/a.csv", "in/2024-02-07/a.csv")
    (tmp_path / "in" / "2024-02-03").mkdir(parents=True)
    (tmp_path / "in" / "2024-02-03" / "a.csv").symlink_to(secret)
    (tmp_path / "in" / "2024-02-04" / "a.csv").mkdir(parents=True)
    (tmp_path / "in" / "2024-02-05").mkdir()
    os.mkfifo(tmp_path / "in" / "2024-02-05" / "a.csv")
    (tmp_path / "in" / "2024-02-06").symlink_to(tmp_path / "far" / "2024-02-06")
    for text in ("{day}/a.csv", "{day}/*.csv"):
        pattern = DayPattern.of(f"{tmp_path}/in/{text}")
        wanted = [f"2024-02-0{n}" for n in range(3, 7)]

        assert ["2024-02-07"] == [*list_files(pattern, Access()).periods]
        assert {} == files_of_periods(pattern, wanted[:1], Access())
        assert {} == files_of_periods(pattern, wanted[3:], Access())
    as_if = Arrived("2024-02-03/a.csv", 6, datetime(2024, 1, 1, tzinfo=UTC))
    with pytest.raises(SourceError, match=r"cannot be read: it is a link, which is not followed\. Put the file itself"):
        read_arrived(pattern, as_if, Access())
    with pytest.raises(SourceError, match="is not a regular file"):
        read_arrived(pattern, Arrived("2024-02-05/a.csv", 0, as_if.modified_at), Access())


def test_a_file_that_is_missing_or_larger_than_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "2024-02-03.csv")
    pattern = DayPattern.of(f"{tmp_path}/{{day}}.csv")
    [arrived] = list_files(pattern, Access()).periods[KEY]
    monkeypatch.setattr(listing, "memory_bytes", lambda: 3)

    with pytest.raises(SourceError, match=r"2024-02-03\.csv has 14 bytes, more than this machine's memory"):
        read_arrived(pattern, arrived, Access())
    (tmp_path / "2024-02-03.csv").unlink()
    with pytest.raises(SourceError, match="was removed after it was listed; materialize the table again"):
        read_arrived(pattern, arrived, Access())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"/gone cannot be listed for .*: No such file or directory\. Create it"):
        list_files(DayPattern.of(f"{tmp_path}/gone/{{day}}.csv"), Access())


def test_a_bucket_is_listed_page_by_page(
    s3: Callable[[str], Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    options = s3("pages")
    client = boto3.client("s3", endpoint_url=options["endpoint_url"], region_name="us-east-1",
                          aws_access_key_id="key", aws_secret_access_key="secret")  # fmt: skip
    names = [f"in/{DAY + timedelta(days=n)}/a b+%.csv" for n in range(5)]
    for name in ["in/other.csv", "out/2024-02-03/a.csv", *names]:
        client.put_object(Bucket="pages", Key=name, Body=name.encode())
    client.close()
    access = Access.of({**options, "client_kwargs": {"region_name": "us-east-1"}})
    pattern = DayPattern.of("s3://pages/in/{day}/*.csv")
    from ml_assets.lake.s3 import PatientS3

    ask = PatientS3.call_s3
    monkeypatch.setattr(
        PatientS3, "call_s3",
        lambda self, method, **it: ask(self, method, **it, **({"MaxKeys": 2} if method.startswith("list") else {})),
    )  # fmt: skip

    found = list_files(pattern, access).periods

    assert names == [it.name for files in found.values() for it in files]
    assert names[0].encode() == read_arrived(pattern, found[KEY][0], access)
    assert found[KEY] == files_of_periods(pattern, [KEY], access)[KEY]
    assert not found[KEY][0].is_growing(datetime.now(UTC), 60)


def test_a_relative_folder_starts_at_the_projects_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, f"landing/{DAY}.csv")
    (tmp_path / "pyproject.toml").write_text("[tool.ml-assets]\n", encoding="utf-8")
    monkeypatch.setenv("ML_ASSETS_PROJECT", str(tmp_path))
    pattern = DayPattern.of("landing/{day}.csv")

    [arrived] = files_of_periods(pattern, [KEY], Access())[KEY]

    assert f"landing/{DAY}.csv".encode() == read_arrived(pattern, arrived, Access())
