"""DuckDB's answers do not depend on the machine's time zone and locale."""

import json
import os
import subprocess
import sys
from datetime import datetime

import polars as pl
import pytest

from ml_assets.contracts.days import day_of_moment
from ml_assets.landing.row_sql import with_columns

_ASK = """
import json
import polars as pl
from ml_assets.landing.row_sql import with_columns
rows = pl.DataFrame({"epoch": [1704096000], "text": ["2024-01-01 08:00:00+00"]})
found = with_columns(rows, {
    "naive": "cast(to_timestamp(epoch) as timestamp)",
    "of_text": "cast(cast(text as timestamptz) as timestamp)",
    "day": "cast(to_timestamp(epoch + 57600) as date)",
    "hour": "hour(to_timestamp(epoch))",
    "month": "strftime(to_timestamp(epoch), '%B %Z')",
}, where="orders")
print(json.dumps({name: str(value) for name, value in found.drop("epoch", "text").row(0, named=True).items()}))
"""


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_expressions_over_times_give_the_same_in_every_time_zone(zone: str) -> None:
    environment = {**os.environ, "TZ": zone, "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", _ASK], env=environment, capture_output=True, text=True, check=True)

    assert {
        "naive": "2024-01-01 08:00:00", "of_text": "2024-01-01 08:00:00", "day": "2024-01-02", "hour": "8",
        "month": "January UTC",
    } == json.loads(done.stdout)  # fmt: skip


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("2024-06-01 00:00", datetime(2024, 5, 31, 22)),  # noqa: DTZ001 - UTC, as all expected moments
        ("2024-03-31 01:59", datetime(2024, 3, 31, 0, 59)),  # noqa: DTZ001
        ("2024-03-31 02:30", datetime(2024, 3, 31, 1, 30)),  # noqa: DTZ001 - clocks skip it
        ("2024-10-27 01:59", datetime(2024, 10, 26, 23, 59)),  # noqa: DTZ001
        ("2024-10-27 02:30", datetime(2024, 10, 27, 1, 30)),  # noqa: DTZ001 - clocks show it twice
        ("2024-10-27 03:00", datetime(2024, 10, 27, 2)),  # noqa: DTZ001
    ],
)
def test_a_clock_time_becomes_its_moment_the_later_one_of_two_and_one_later_if_clocks_skip_it(
    clock: str, expected: datetime
) -> None:
    rows = pl.DataFrame({"ordered_at": [datetime.fromisoformat(clock)]})

    found = with_columns(
        rows,
        {"moment": "timezone('UTC', timezone('Europe/Zurich', ordered_at))", "own_day": "cast(ordered_at as date)"},
        where="orders",
    )

    assert expected == found["moment"].item()
    assert found["own_day"].item() == found.select(day_of_moment(pl.col("moment"), "Europe/Zurich")).item()
