"""Cutting source rows into days, and keeping every version of a row that comes again with other values.

Reading the source stays out; see `resources.sources`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.table import RECEIVED_AT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

PARTITION = "__day"
_MOMENT = pl.Datetime("us")


def day_expression(
    *, column: str | None = None, year: str | None = None, month: str | None = None, day: str | None = None
) -> pl.Expr:
    """Return the day of a row: a date or timestamp column (or ISO text), or year, month and day."""
    if column is not None:
        return pl.col(column).cast(pl.String).str.head(10).str.to_date("%Y-%m-%d", strict=False)
    if year is None or month is None or day is None:
        raise DataError("the day of a row is either one column, or year, month and day; correct the declaration.")
    return pl.date(pl.col(year), pl.col(month), pl.col(day))


def by_day(frame: pl.DataFrame, day: pl.Expr, *, first: date, last: date) -> dict[str, pl.DataFrame]:
    """Return the rows of each day of a range, both ends included, in the order of the source; empty days are empty.

    Raises:
        DataError: rows whose day cannot be told.
    """
    marked = _with_day(frame, day)
    inside = marked.filter(pl.col(PARTITION).is_between(first, last)).with_columns(pl.col(PARTITION).cast(pl.String))
    wanted = pl.date_range(first, last, eager=True).cast(pl.String)
    return apart(inside, wanted.to_list())


def check_of_day(frame: pl.DataFrame, day: pl.Expr, wanted: date, *, where: str) -> None:
    """Refuse rows of another day than that of the file they came in.

    Raises:
        DataError: there are such rows, or rows whose day cannot be told; with counts.
    """
    found = _with_day(frame, day).filter(pl.col(PARTITION) != wanted)[PARTITION].value_counts(sort=True, name="rows")
    if not found.is_empty():
        told = ", ".join(f"{rows} of {other}" for other, rows in found.head(3).iter_rows())
        raise DataError(
            f"{found['rows'].sum()} of {frame.height} rows in {where} are of {found.height} other days ({told}); "
            f"expected only {wanted}. Correct the file, its name, or 'by'."
        )


def _with_day(frame: pl.DataFrame, day: pl.Expr) -> pl.DataFrame:
    marked = frame.with_columns(day.alias(PARTITION))
    lost = marked[PARTITION].null_count()
    if lost:
        row = marked.filter(pl.col(PARTITION).is_null()).drop(PARTITION).row(0)
        raise DataError(f"{lost} of {frame.height} rows have no day, for instance {row}; correct the source or 'by'.")
    return marked


def together(parts: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of all partitions as one frame that says of each row where it belongs."""
    return pl.concat([part.with_columns(pl.lit(key).alias(PARTITION)) for key, part in parts.items()])


def apart(rows: pl.DataFrame, keys: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Return the rows of each partition, empty ones too: what `together` put together."""
    parts = rows.partition_by(PARTITION, as_dict=True, include_key=False, maintain_order=True)
    empty = rows.drop(PARTITION).clear()
    return {key: parts.get((key,), empty) for key in keys}


@dataclass(frozen=True)
class Landing:
    """The rows of one partition with all their versions.

    Attributes:
        rows: what stood, then what came now.
        late: how many rows came now whose key had not come before.
        corrected: how many came now with other values than before.
        gone: how many keys stand that the source no longer has; they stay.
    """

    rows: pl.DataFrame
    late: int = 0
    corrected: int = 0
    gone: int = 0


def keep_versions(
    source: pl.DataFrame, standing: pl.DataFrame | None, *, key: Sequence[str], received_at: datetime
) -> Landing:
    """Return what stood, and after it what the source now says that did not stand.

    What was landed first has no `received_at`; what comes later has the moment at which it came, unless the source has
    a column of that name. A column that did not stand is filled in: that the contract asks for more is no correction.

    Args:
        source: the source's rows of one partition.
        standing: what was landed of it before, in any order of versions; None where it never was.
        key: what identifies a row; its `received_at` plays no part.
        received_at: the moment of landing, UTC.

    Raises:
        DataError: rows came, and others that stand were received at that moment or after it.
    """
    is_told = RECEIVED_AT in source.columns
    rows = source if is_told else source.with_columns(pl.lit(None, _MOMENT).alias(RECEIVED_AT))
    if standing is None:
        return Landing(rows)
    if RECEIVED_AT not in standing.columns:
        standing = standing.with_columns(pl.lit(None, _MOMENT).alias(RECEIVED_AT))
    shared = [name for name, dtype in source.schema.items() if standing.schema.get(name) == dtype]
    identity = [name for name in shared if name in key or name == RECEIVED_AT] or shared
    newest = standing.sort(RECEIVED_AT, maintain_order=True).unique(identity, keep="last", maintain_order=True)
    fresh = rows.join(newest, on=shared, how="anti", nulls_equal=True, maintain_order="left")
    if not is_told:
        _check_moment(fresh, standing, received_at)
        fresh = fresh.with_columns(pl.lit(received_at, _MOMENT).alias(RECEIVED_AT))
    ours = [name for name in rows.columns if name not in shared and name != RECEIVED_AT]
    seen = source.select(*shared, *ours).unique(shared, keep="first", maintain_order=True)
    stood = standing.select(dict.fromkeys([*shared, RECEIVED_AT]).keys()).join(
        seen, on=shared, how="left", nulls_equal=True, maintain_order="left"
    )
    corrected = fresh.join(newest, on=identity, how="semi", nulls_equal=True).height
    return Landing(
        rows=pl.concat([stood.select(rows.columns), fresh]),
        late=fresh.height - corrected,
        corrected=corrected,
        gone=newest.join(rows, on=identity, how="anti", nulls_equal=True).height,
    )


def _check_moment(fresh: pl.DataFrame, standing: pl.DataFrame, received_at: datetime) -> None:
    last = standing[RECEIVED_AT].max()
    if not fresh.is_empty() and isinstance(last, datetime) and last >= received_at:
        raise DataError(
            f"{fresh.height} new rows are landed as received at {received_at}, but rows received at {last} stand "
            "already; land in the order of time: give a later 'received_at', or none for now."
        )
