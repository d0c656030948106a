"""Adds rows to an artifact as a landing does. Processes import it, so it imports little: no Dagster, no pytest."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars as pl

from ml_assets.lake.errors import PublicationConflictError
from ml_assets.lake.store import Lake, Origin

ASSET: Final = "shop/orders"


def add(lake: Lake, row: int) -> None:
    """Add a row to the current artifact, and try again as long as another writer is first."""
    while True:
        after = lake.last_numbers(ASSET, [""])[""]
        rows = [] if not after else lake.get(lake.find(ASSET), pl.DataFrame)["n"].to_list()
        try:
            lake.put(ASSET, None, pl.DataFrame({"n": [*rows, row]}), Origin(after=after))
        except PublicationConflictError:
            continue
        return


def add_many(url: str, options: Mapping[str, Any], rows: Iterable[int]) -> None:
    """Add rows one after the other."""
    lake = Lake(url, options)
    for row in rows:
        add(lake, row)
