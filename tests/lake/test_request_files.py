"""The files of the request log: which period each belongs to, and which are ignored."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_assets.contracts.periods import Calendar
from ml_assets.lake.request_files import file_name, files_by_period, moments_of_period, newest_settled, quarter_of
from ml_assets.lake.store import Lake


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def write(lake: Lake, *moments: str) -> None:
    for number, moment in enumerate(moments, 1):
        begin = at(moment)
        name = file_name(round(begin.timestamp() * 1000), "0" * 32, "a1b2c3d4", number)
        lake.create(lake.path("requests", "m", str(begin.date()), name), b"rows")


@pytest.mark.parametrize(
    ("calendar", "key", "begin", "end"),
    [
        (Calendar(), "2024-03-31", "2024-03-31T00:00", "2024-04-01T00:00"),
        (Calendar(timezone="Europe/Berlin"), "2024-03-31", "2024-03-30T23:00", "2024-03-31T22:00"),
        (Calendar(timezone="Asia/Kathmandu"), "2024-03-31", "2024-03-30T18:15", "2024-03-31T18:15"),
        (Calendar("week"), "2024-04-01", "2024-04-01T00:00", "2024-04-08T00:00"),
        (Calendar("hour", "Europe/Berlin"), "2024-03-31T01", "2024-03-31T01:00", "2024-03-31T02:00"),
    ],
)
def test_a_period_has_the_moments_of_its_time_zone(calendar: Calendar, key: str, begin: str, end: str) -> None:
    assert (at(begin), at(end)) == moments_of_period(calendar, key)


def test_files_belong_to_the_period_of_their_first_row_in_the_time_zone_of_the_days(lake: Lake) -> None:
    write(lake, "2024-03-30T22:59:59", "2024-03-30T23:00:00", "2024-03-31T12:00", "2024-03-31T22:00")

    found = files_by_period(lake, "m", Calendar(timezone="Europe/Berlin"), ["2024-03-30", "2024-03-31", "2024-04-02"])

    numbers = {key: [name.rpartition("-")[2] for name in files] for key, files in found.items()}
    assert {"2024-03-30": ["000001.parquet"], "2024-03-31": ["000002.parquet", "000003.parquet"]} == numbers


def test_other_files_are_no_files_of_the_log(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    write(lake, "2024-03-31T12:00")
    for name in ("1711886400000-00000000-a1b2c3d4-000002.parquet.part", "notes.parquet"):
        Path(lake.url, "requests", "m", "2024-03-31", name).touch()

    [files] = files_by_period(lake, "m", Calendar(), ["2024-03-31"]).values()

    assert 1 == len(files)


def test_a_model_without_a_log_has_no_files(lake: Lake) -> None:
    assert {} == files_by_period(lake, "m", Calendar(), ["2024-03-31"])


def test_a_period_is_settled_an_hour_after_its_end() -> None:
    assert "2024-03-30" == newest_settled(Calendar(), at("2024-04-01T00:59"))
    assert "2024-03-31" == newest_settled(Calendar(), at("2024-04-01T01:00"))


@pytest.mark.parametrize(("moment", "begin"), [("2024-03-31T12:14:59.999", "12:00"), ("2024-03-31T12:45:00", "12:45")])
def test_a_quarter_of_an_hour_begins_at_a_whole_quarter(moment: str, begin: str) -> None:
    assert at(f"2024-03-31T{begin}") == quarter_of(at(moment))
