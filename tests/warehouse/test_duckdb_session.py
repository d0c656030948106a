"""DuckDB's answers do not depend on the machine's time zone and locale."""

import json
import os
import subprocess
import sys

import pytest

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
