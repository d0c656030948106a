"""Old files of the request log: which are removed, and that those of other models stay."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from ml_assets.contracts.periods import Calendar
from ml_assets.lake.manifest import FILES
from ml_assets.lake.request_files import REQUESTS
from ml_assets.lake.store import Lake, Origin
from ml_assets.provenance.gc.mark import Policy
from ml_assets.provenance.gc.requests import Retention, old_requests
from ml_assets.provenance.gc.sweep import collect, look

NOW = datetime(2024, 4, 10, 12, tzinfo=UTC)


def log(lake: Lake, model: str, *days: str, is_read: bool = True) -> None:
    """Write one file of each day, which the asset `requests` has read or not."""
    for day in days:
        path = Path(lake.url, REQUESTS, model, day, "1-a.parquet")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"rows")
    if is_read:
        rows = pl.DataFrame({"score": [0.5]})
        lake.put_each(
            f"{model}/requests",
            {it: (rows, Origin(parameters={FILES: {it: [{"name": f"{it}/1-a.parquet"}]}})) for it in days},
        )


def days_left(lake: Lake, model: str) -> list[str]:
    return sorted(it.parent.name for it in Path(lake.url, REQUESTS, model).glob("*/*"))


def test_files_older_than_the_declared_days_are_listed_and_removed_and_others_stay(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for model in ("one", "two"):
        log(lake, model, "2024-03-20", "2024-04-09")
    policy = Policy(NOW, requests={"one": Retention(7, Calendar())})

    shown = look(lake, policy)
    assert {f"{REQUESTS}/one/2024-03-20/1-a.parquet": 4} == shown.loose["logged requests"]
    assert ["2024-03-20", "2024-04-09"] == days_left(lake, "one")

    _, removed = collect(lake, policy, lambda _: None)
    assert 4 == removed.bytes
    assert (["2024-04-09"], ["2024-03-20", "2024-04-09"]) == (days_left(lake, "one"), days_left(lake, "two"))


def test_a_file_that_the_asset_has_not_read_is_kept_however_old_it_is(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    log(lake, "one", "2024-03-20", is_read=False)
    log(lake, "one", "2024-03-21")

    assert [f"{REQUESTS}/one/2024-03-21/1-a.parquet"] == [*old_requests(lake, {"one": Retention(7, Calendar())}, NOW)]


def test_nothing_is_removed_unless_it_is_declared(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    log(lake, "one", "2014-03-20")

    assert {} == look(lake, Policy(NOW)).loose


@pytest.mark.parametrize(
    ("calendar", "first_kept"),
    [
        (Calendar(), date(2024, 4, 1)),  # its end, 2 April in some zones, is eight days ago
        (Calendar("week"), date(2024, 3, 31)),  # it may be of the week from 1 April, which ended three days ago
        (Calendar("month"), date(2024, 3, 31)),
        (Calendar("hour", "Europe/Berlin"), date(2024, 4, 1)),
    ],
)
def test_a_day_is_kept_until_its_whole_period_is_old(tmp_path: Path, calendar: Calendar, first_kept: date) -> None:
    lake = Lake(str(tmp_path))
    days = [date(2024, 3, 20) + timedelta(days=n) for n in range(20)]
    log(lake, "one", *map(str, days))

    found = old_requests(lake, {"one": Retention(7, calendar)}, NOW)

    removed = {date.fromisoformat(path.split("/")[2]) for path in found}
    assert {day for day in days if day < first_kept} == removed
