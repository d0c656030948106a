"""The keys of rows: messages about repeated ones, and the newest version of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import polars as pl

from ml_assets.contracts.table import redacted
from ml_assets.contracts.words import counted


def repeated_keys(
    frame: pl.DataFrame, key: Sequence[str], *, fix: str, where: str = "", personal: Collection[str] = ()
) -> list[str]:
    """Return a message if rows share a key, with examples; otherwise an empty list."""
    twice = frame.group_by(list(key)).len("__rows").filter(pl.col("__rows") > 1).sort(["__rows", *key], nulls_last=True)
    if twice.height == 0:
        return []
    sample = "; ".join(key_words(row, key, personal) for row in twice.head(3).to_dicts())
    extra = int(twice["__rows"].sum()) - twice.height
    what = f"the key ({', '.join(key)}){f' of the {where}' if where else ''} repeats"
    counts = f"{counted(twice.height, 'key')}, {counted(extra, 'row')} too many"
    return [f"{what}: {counts}, such as {sample}. {fix}"]


def key_words(row: Mapping[str, object], key: Sequence[str], personal: Collection[str]) -> str:
    """Return the key of a row for messages."""
    return ", ".join(f"{name}={redacted(name, row[name], personal)}" for name in key)


def newest_known(labels: pl.DataFrame, key: Sequence[str], known_time: str) -> pl.DataFrame:
    """Return one row per key: the version that became known last. One without a known time counts as the oldest."""
    ordered = labels.sort(known_time, nulls_last=False, maintain_order=True)
    return ordered.unique(list(dict.fromkeys(key)), keep="last", maintain_order=True)
