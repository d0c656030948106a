"""Give source rows a key and a day, store every version of a row, and compare a landing with the one before.

Not here: reading the source (see `ml_assets.landing.sources`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

import polars as pl

from ml_assets.contracts.changes import retyped
from ml_assets.contracts.checking import RuleResult
from ml_assets.contracts.days import day_of_moment
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import BY_HOUR, DAILY, Calendar
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT, Rule, TableContract, redacted

PARTITION = "__day"
_MOMENT = pl.Datetime("us")
_ROW, _COPY = "__row", "__copy"
KEEPS_ROWS: Final = Rule("no more rows are lost than declared", "expectation")
ALL_DAYS: Final = Rule("every row of the source is of a declared day", "expectation", is_blocking=False)


def with_row_key(rows: pl.DataFrame, name: str, *, seed: str = "") -> pl.DataFrame:
    """Return rows with a column that identifies each: a digest of all rows up to it, and its number, from 1.

    No two rows with the same seed have the same key, even if they are equal. Rows that are added at the end do not
    change the keys before them. A row that is changed, inserted or removed changes its own key and all after it, so a
    key never denotes another row than before.
    """
    columns = sorted(rows.columns)
    texts = rows.select(
        pl.concat_str((pl.col(it).cast(pl.String).fill_null("\0") for it in columns), separator="\x1f")
        if columns
        else pl.lit("")
    ).to_series()
    found = hashlib.blake2b("\x1f".join([seed, *columns]).encode(), digest_size=8, usedforsecurity=False)
    keys = []
    for number, text in enumerate(texts, start=1):
        found.update(b"\x1e")
        found.update(text.encode())
        keys.append(f"{found.hexdigest()}-{number}")
    return rows.with_columns(pl.Series(name, keys, pl.String))


def dtype_of_period(calendar: Calendar) -> pl.DataType:
    """Return the type of what states the period of a row: a date or, by the hour, a moment in UTC."""
    return pl.Datetime("us") if calendar.grain == BY_HOUR else pl.Date()


def day_expression(
    *,
    column: str | None = None,
    year: str | None = None,
    month: str | None = None,
    day: str | None = None,
    timezone: str | None = None,
) -> pl.Expr:
    """Return the day of a row; null if there is no such day (30 February).

    It is in one column (a date, ISO text whose date is used as written, or a timestamp in UTC with the time zone of the
    days) or in three.
    """
    if column is not None and timezone is not None:
        return day_of_moment(pl.col(column), timezone)
    if column is not None:
        return pl.col(column).cast(pl.String).str.head(10).str.to_date("%Y-%m-%d", strict=False)
    if year is None or month is None or day is None:
        raise DataError("the day of a row is either one column, or year, month and day; correct the declaration.")
    parts = (pl.col(name).cast(pl.String).str.zfill(width) for name, width in ((year, 4), (month, 2), (day, 2)))
    return pl.format("{}-{}-{}", *parts).str.to_date("%Y-%m-%d", strict=False)


@dataclass(frozen=True)
class Cut:
    """Source rows by day.

    Attributes:
        parts: the rows of each day of the run, in the order of the source; empty for days without rows.
        outside: number of rows that no run lands, because their day is not declared, by reason.
    """

    parts: Mapping[str, pl.DataFrame]
    outside: Mapping[str, int]


def by_period(
    frame: pl.DataFrame,
    day: pl.Expr,
    keys: Sequence[str],
    *,
    declared: tuple[date, date | None],
    calendar: Calendar = DAILY,
    personal: Collection[str] = (),
) -> Cut:
    """Return the rows of each of some periods, and the number of rows of undeclared days.

    `day` is the day of a row; by the hour, its moment (UTC). Days outside `declared`, whose ends are included and may
    be open, have no partitions.

    Raises:
        DataError: rows have no day.
    """
    marked = _with_day(frame, day, personal)
    inside = marked.with_columns(calendar.key_of_row(PARTITION)).filter(pl.col(PARTITION).is_in(keys))
    earliest, latest = declared
    days = marked.select(calendar.day_of_row(PARTITION)).to_series()
    outside = {f"before the first declared day {earliest}": int((days < earliest).sum())}
    if latest is not None:
        outside[f"after the last declared day {latest}"] = int((days > latest).sum())
    return Cut(apart(inside, keys), {reason: rows for reason, rows in outside.items() if rows})


def check_of_period(
    frame: pl.DataFrame,
    day: pl.Expr,
    wanted: str,
    *,
    where: str,
    calendar: Calendar = DAILY,
    personal: Collection[str] = (),
) -> None:
    """Raise an error if rows of a file are of another period than the file.

    Raises:
        DataError: there are such rows, or rows without a day; with counts.
    """
    found = (
        _with_day(frame, day, personal)
        .with_columns(calendar.key_of_row(PARTITION))
        .filter(pl.col(PARTITION) != wanted)[PARTITION]
        .value_counts(sort=True, name="rows")
    )
    if not found.is_empty():
        others = ", ".join(f"{rows} of {other}" for other, rows in found.head(3).iter_rows())
        raise DataError(
            f"{found['rows'].sum()} of {frame.height} rows in {where} are of {found.height} other {calendar.grain}s "
            f"({others}); "
            f"expected only {wanted}. Correct the file, its name, or 'partition_by' (if absent, a column "
            f"'{calendar.column}')."
        )


def _with_day(frame: pl.DataFrame, day: pl.Expr, personal: Collection[str]) -> pl.DataFrame:
    marked = frame.with_columns(day.alias(PARTITION))
    lost = marked[PARTITION].null_count()
    if lost:
        row = marked.filter(pl.col(PARTITION).is_null()).select(day.meta.root_names()).row(0, named=True)
        shown = ", ".join(f"{name}={redacted(name, value, personal)}" for name, value in row.items())
        raise DataError(
            f"{lost} of {frame.height} rows have no day, for instance {shown}; correct the source or 'partition_by'."
        )
    return marked


def together(parts: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of all partitions as one frame, with a column for the partition."""
    return pl.concat([part.with_columns(pl.lit(key).alias(PARTITION)) for key, part in parts.items()])


def apart(rows: pl.DataFrame, keys: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Return the rows of each partition, including empty ones; the reverse of `together`."""
    parts = rows.partition_by(PARTITION, as_dict=True, include_key=False, maintain_order=True)
    empty = rows.drop(PARTITION).clear()
    return {key: parts.get((key,), empty) for key in keys}


@dataclass(frozen=True)
class Landing:
    """The rows of one partition with all their versions.

    Attributes:
        rows: the stored rows, followed by the new ones.
        before: number of the source's rows that were stored; None if the partition had never been landed.
        late: number of new rows with a new key.
        corrected: number of new rows with changed values, or that had been removed before.
        gone: number of rows that this landing no longer finds in the source; they stay, with a `gone_at`.
    """

    rows: pl.DataFrame
    before: int | None = None
    now: int = 0
    late: int = 0
    corrected: int = 0
    gone: int = 0
    repeated: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The differences to the landing before, by name."""
        return {
            "late rows": self.late,
            "corrected rows": self.corrected,
            "rows no longer in the source": self.gone,
            "rows repeated in the source": self.repeated,
        }


def keep_versions(
    source: pl.DataFrame, standing: pl.DataFrame | None, *, key: Sequence[str], received_at: datetime
) -> Landing:
    """Return the stored rows, followed by the source's rows that are new or changed.

    The current state of a key is its rows with the newest `received_at`. If the source has other rows, or another
    number of rows, for the key, all of them become a new version. A source with duplicates or contradictions therefore
    breaks the contract's unique rule in every landing, and landing the same source again changes nothing.

    Rows of the first landing have no `received_at`. Later rows have the time of their landing, unless the source has a
    column of that name. If the source no longer has a row, its newest version gets this time as `gone_at`. If the row
    returns, it is a new version. A column that was not stored before is filled in; that is not a correction. `standing`
    is None if the partition was never landed; the key is without `received_at`.

    Raises:
        DataError: rows changed although stored rows have this `received_at` or `gone_at` or a later one; the source has
            a column `gone_at`; or a column has another type, to which stored values cannot be converted without loss.
    """
    if GONE_AT in source.columns:
        raise DataError(f"the source has a column '{GONE_AT}', which landing adds; rename it in the source.")
    has_received_at = RECEIVED_AT in source.columns
    rows = _with_moments(source)
    if standing is None:
        return Landing(rows, now=rows.height)
    standing = _with_moments(retyped(standing, source.schema)).with_row_index(_ROW)
    shared = [name for name in source.columns if name in standing.columns]
    if not shared:
        raise DataError("no column of the source was stored in its earlier landings; land it in a new raw table.")
    identity = [name for name in shared if name in key or name == RECEIVED_AT] or shared
    received = pl.col(RECEIVED_AT)
    newest = standing.filter(received.eq_missing(received.max().over(identity)))
    current = newest.filter(pl.col(GONE_AT).is_null())
    fresh = _beyond(rows, current, shared)
    if not has_received_at:  # duplicates and contradictions in the source break the contract's rule with all rows
        changed = pl.concat([it.select(identity) for it in (fresh, _beyond(current, rows, shared))])
        fresh = rows.join(changed, on=identity, how="semi", nulls_equal=True, maintain_order="left")
    gone = current.join(rows, on=identity, how="anti", nulls_equal=True)
    _check_moment(gone.height if has_received_at else gone.height + fresh.height, standing, received_at)
    if not has_received_at:
        fresh = fresh.with_columns(pl.lit(received_at, _MOMENT).alias(RECEIVED_AT))
    ours = [name for name in rows.columns if name not in (*shared, RECEIVED_AT, GONE_AT)]
    seen = source.select(*shared, *ours).unique(shared, keep="first", maintain_order=True)
    is_gone = pl.col(_ROW).is_in(gone[_ROW].implode())
    landed = (
        standing.with_columns(pl.when(is_gone).then(pl.lit(received_at, _MOMENT)).otherwise(GONE_AT).alias(GONE_AT))
        .select(dict.fromkeys([*shared, RECEIVED_AT, GONE_AT]).keys())
        .join(seen, on=shared, how="left", nulls_equal=True, maintain_order="left")
    )
    corrected = fresh.join(newest, on=identity, how="semi", nulls_equal=True).height
    return Landing(
        rows=pl.concat([landed.select(rows.columns), fresh]),
        before=current.height,
        now=rows.height,
        late=fresh.height - corrected,
        corrected=corrected,
        gone=gone.height,
        repeated=rows.height - rows.select(pl.struct(identity).n_unique()).item() if rows.height else 0,
    )


def nan_as_missing(rows: pl.DataFrame, contract: TableContract) -> pl.DataFrame:
    """Return rows with null instead of NaN in the columns that declare `nan: missing`."""
    return rows.with_columns(
        pl.col(column.name).fill_nan(None)
        for column in contract.columns
        if column.is_nan_missing and column.name in rows.columns
    )


def _with_moments(rows: pl.DataFrame) -> pl.DataFrame:
    lacking = [name for name in (RECEIVED_AT, GONE_AT) if name not in rows.columns]
    return rows.with_columns(pl.lit(None, _MOMENT).alias(name) for name in lacking)


def _beyond(rows: pl.DataFrame, others: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return the rows that the others lack, with multiplicity: of two equal rows, the second if the others have one."""
    counted, known = (it.with_columns(pl.int_range(pl.len()).over(columns).alias(_COPY)) for it in (rows, others))
    on = [*columns, _COPY]
    return counted.join(known, on=on, how="anti", nulls_equal=True, maintain_order="left").drop(_COPY)


def _check_moment(changed: int, standing: pl.DataFrame, received_at: datetime) -> None:
    last = standing.select(pl.max_horizontal(pl.col(RECEIVED_AT).max(), pl.col(GONE_AT).max())).item()
    if changed and isinstance(last, datetime) and last >= received_at:
        raise DataError(
            f"{changed} rows are landed as new or removed at {received_at}, but stored rows were landed at {last}. "
            "A clock was ahead then, or is behind now. Correct it, or give a later 'received_at' in the run's "
            "configuration."
        )


def moved_rows(rows: pl.DataFrame, *, key: Sequence[str], at: datetime) -> int:
    """Return the number of rows that a landing moved from one partition to another."""
    identity = [name for name in key if name != RECEIVED_AT]
    if not identity:
        return 0
    gone, came = (rows.filter(pl.col(name) == at).select(identity) for name in (GONE_AT, RECEIVED_AT))
    return gone.join(came, on=identity, how="semi", nulls_equal=True).height


@dataclass(frozen=True)
class Loss:
    """How many rows each partition loses in a landing, and how many it may lose."""

    table: str
    max_row_loss: float
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def finding(self) -> RuleResult:
        """The finding of the rule about lost rows; a broken rule names the partitions and the field that allows it."""
        over = {
            part: (before, now)
            for part, (before, now) in self.sizes.items()
            if before - now > self.max_row_loss * before
        }
        shown = [
            f"{f'{part} has' if part else 'the source has'} {now:,} rows, {before:,} were landed before"
            for part, (before, now) in over.items()
        ]
        more = f"; and {len(shown) - 3} more" if len(shown) > 3 else ""
        name = self.table.rpartition("/")[2]
        detail = (
            f"rule '{KEEPS_ROWS.name}' of table '{self.table}' is broken: {'; '.join(shown[:3])}{more}. At most "
            f"{self.max_row_loss:.0%} of a partition's rows may be lost. Correct the source; or, if it is right, run "
            f"the landing with 'max_row_loss: 1' in its run configuration, or declare another 'max_row_loss' for "
            f"'{name}'."
        )
        return RuleResult(
            KEEPS_ROWS,
            rows=sum(before for before, _ in self.sizes.values()),
            broken=sum(before - now for before, now in over.values()),
            partitions={part: before - now for part, (before, now) in over.items() if part},
            detail=detail if over else "",
        )


def outside_finding(table: str, outside: Mapping[str, int], *, rows: int) -> RuleResult:
    """Return the finding of the rule about declared days."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in outside.items())
    detail = (
        f"{sum(outside.values()):,} of {rows:,} rows of the source of '{table}' have no declared day and are not "
        f"landed: {counts}. To land them, widen 'days' in the declaration."
    )
    return RuleResult(ALL_DAYS, rows, sum(outside.values()), detail=detail if outside else "")
