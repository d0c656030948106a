"""A declared source: its table, contract and days, and its content as it is now.

Not here: landing the rows (see `ml_assets.stages.landing`), and detection of changed files (see
`ml_assets.automation.arrivals`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import dagster as dg
import polars as pl
from pydantic import JsonValue

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import BY_HOUR, Calendar
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT, Rule, TableContract
from ml_assets.contracts.words import counted
from ml_assets.declaration.parts import Days
from ml_assets.declaration.tables import DayColumns, RawTable
from ml_assets.lake.access import Access
from ml_assets.lake.days import in_rows, span_of
from ml_assets.lake.errors import SourceError
from ml_assets.lake.manifest import FILES
from ml_assets.lake.store import Lake
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.landing.folders import content_of, each_file, is_several, joint_digest
from ml_assets.landing.listing import Arrived, file_facts, files_of_periods, landed_files, read_arrived
from ml_assets.landing.row_sql import shown_row, with_columns
from ml_assets.landing.source_bytes import digest
from ml_assets.landing.sources import Source
from ml_assets.logic.tables.raw import (
    ALL_DAYS,
    KEEPS_ROWS,
    by_period,
    check_of_period,
    day_expression,
    dtype_of_period,
    with_row_key,
)

GROUP = "raw"
_DAY_OF_ROW = "__day_of_row"
_SHOWN = 3


@dataclass(frozen=True)
class SourceContent:
    """The current content of a source.

    Attributes:
        rows: by partition; none if a day has no file.
        facts: the files, for the manifests.
        outside: the number of rows that belong to no declared day, by reason.
        total: the number of rows of the source.
        absent: days of a longer run without a file; their landed rows stay.
        warnings: warnings for the operator.
    """

    rows: Mapping[str, pl.DataFrame]
    facts: Mapping[str, JsonValue]
    outside: Mapping[str, int] = field(default_factory=dict)
    total: int = 0
    absent: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class RawSource:
    """A declared source with its contract, the declared days and their calendar."""

    name: str
    table: RawTable
    contract: TableContract
    days: Days
    calendar: Calendar = field(init=False)

    def __post_init__(self) -> None:
        """Compute what follows from the declared days."""
        object.__setattr__(self, "calendar", self.days.calendar)

    @property
    def key(self) -> dg.AssetKey:
        """The key of its asset."""
        return dg.AssetKey([GROUP, self.name])

    @property
    def asset(self) -> str:
        """The name of its asset in the lake."""
        return f"{GROUP}/{self.name}"

    @property
    def is_versioned(self) -> bool:
        """Whether every version of a row is stored."""
        return {RECEIVED_AT, GONE_AT} <= {*self.contract.names}

    @property
    def is_cut(self) -> bool:
        """Whether one file holds all days."""
        return self.table.file is not None and self.table.partition_by is not None

    @property
    def landing_rules(self) -> list[Rule]:
        """The rules for a landing beside the contract."""
        return [KEEPS_ROWS, ALL_DAYS] if self.is_cut else [KEEPS_ROWS]

    @property
    def expressions(self) -> dict[str, str]:
        """The columns that landing computes if the source does not contain them, by name."""
        return {column.name: column.expression for column in self.contract.columns if column.expression is not None}

    @property
    def day_columns(self) -> DayColumns | None:
        """The columns that contain the day of a row: the declared ones, else a date column `day`."""
        declared, contract = self.table.partition_by, self.contract
        name = self.calendar.column
        is_there = contract.is_by_day and contract.schema.get(name) == dtype_of_period(self.calendar)
        return DayColumns(column=name) if declared is None and is_there else declared

    def file(self, where: str) -> Source:
        """Return one of its files, without the columns that landing adds."""
        table, optional = self.table, (RECEIVED_AT, GONE_AT, *self.expressions)
        schema = {name: dtype for name, dtype in self.contract.schema.items() if name != table.row_key}
        return Source(
            where, schema, table.null_values, optional, table.csv, table.formats, self.contract.personal, table.format,
            table.row_key, table.excel,
        )  # fmt: skip

    def computed(self, rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
        """Return rows with those of some columns that landing computes and the source does not contain."""
        lacking = {it: sql for it, sql in self.expressions.items() if it in names and it not in rows.columns}
        where = f"{self.contract.where}: table '{self.contract.name}'"
        return with_columns(rows, lacking, where=where, personal=self.contract.personal)

    def dated(self, rows: pl.DataFrame, by: DayColumns) -> tuple[pl.DataFrame, pl.Expr]:
        """Return rows with their day columns, and the day of a row. A timestamp in UTC has the time zone's day.

        By the hour, it is the moment of the row instead.

        Raises:
            WarehouseError: DuckDB cannot evaluate the declared SQL for a row.
            DataError: the SQL gives no day for a row.
        """
        if by.sql is not None:
            return self._dated_by_sql(rows, by.sql), pl.col(_DAY_OF_ROW)
        is_moment = by.column is not None and isinstance(self.contract.column(by.column).dtype, pl.Datetime)
        if self.calendar.grain == BY_HOUR and by.column is not None:
            return self.computed(rows, [by.column]), pl.col(by.column)
        day = day_expression(**by.columns, timezone=self.calendar.timezone if is_moment else None)
        return self.computed(rows, [*by.columns.values()]), day

    def _dated_by_sql(self, rows: pl.DataFrame, sql: str) -> pl.DataFrame:
        where, personal = f"'partition_by' of source '{self.name}'", self.contract.personal
        found = with_columns(rows, {_DAY_OF_ROW: sql}, where=where, personal=personal)
        lost = found[_DAY_OF_ROW].is_null()
        if lost.any():
            raise DataError(
                f"{where}: {lost.sum()} of {rows.height} rows have no day, because its SQL gives NULL for them: {sql}. "
                f"The first is {shown_row(rows, int(lost.arg_true()[0]), sql, personal)}. Correct the source, or give "
                "such rows a day, by coalesce(…)."
            )
        return found

    def newest_day(self, access: Access) -> date | None:
        """Return the newest day with rows in its `file`; None if there is none or it has no days."""
        if self.table.partition_by is None:
            return None
        rows, day = self.dated(self._whole(access)[0], self.table.partition_by)
        newest: date | None = rows.select(at=day.max()).select(self.calendar.day_of_row("at")).item()
        return newest

    def read(self, lake: Lake, span: tuple[str, str] | None) -> SourceContent:
        """Read the source: one file, split by day if it has days, or the files of the requested periods.

        Raises:
            SourceError: a period has no file and was never landed, or a file cannot be read.
            DataError: a file contains rows of another period.
        """
        keys = [] if span is None else self.calendar.between(*span)
        if self.table.files is not None and keys:
            return self._of_files(lake, keys)
        rows, source = self._whole(lake.access)
        facts: dict[str, JsonValue] = {"source": source}
        if self.table.partition_by is None or not keys:
            return SourceContent({"": rows}, facts)
        cut = by_period(
            *self.dated(rows, self.table.partition_by),
            keys,
            declared=(self.days.first, self.days.last),
            calendar=self.calendar,
            personal=self.contract.personal,
        )
        parts = {key: part.select(rows.columns) for key, part in cut.parts.items()}
        return SourceContent(parts, facts, cut.outside, rows.height)

    def _whole(self, access: Access) -> tuple[pl.DataFrame, str]:
        """Return the rows of its `file`, and the digest of the file; or of all files that it stands for.

        Raises:
            SourceError: files cannot be read; all are listed.
        """
        if not is_several(str(self.table.file)):
            file = self.file(str(self.table.file))
            content = content_of(file, access)
            return self._keyed(file.frame(content)), digest(content)
        frames: list[pl.DataFrame] = []
        digests, problems, first = list[tuple[str, str]](), list[str](), ""
        for name, where, data in each_file(str(self.table.file), access):
            digests.append((name, digest(data)))
            try:
                frame = self.file(where).frame(data)
                first = first or name
                frames.append(_alike(frame, frames, where, f"the file {first}"))
            except SourceError as error:
                problems.append(str(error))
        if problems:
            rest = len(problems) - _SHOWN
            more = [f"{counted(rest, 'more file')} cannot be read."] if rest > 0 else []
            raise SourceError("\n".join([*problems[:_SHOWN], *more]))
        return self._keyed(pl.concat(frames)), joint_digest(digests)

    def _keyed(self, rows: pl.DataFrame, *, day: str = "") -> pl.DataFrame:
        """Return the rows of the table, or of a day's files, with the declared key."""
        return rows if self.table.row_key is None else with_row_key(rows, self.table.row_key, seed=day)

    def _of_files(self, lake: Lake, keys: Sequence[str]) -> SourceContent:
        pattern, calendar = DayPattern.of(str(self.table.files)), self.calendar
        found = files_of_periods(pattern, keys, lake.access, calendar)
        absent = [key for key in keys if key not in found]
        standing = lake.newest(self.asset, absent) if absent else {}
        lacking = [key for key in absent if key not in standing or not found]
        if lacking:
            spans = " and ".join(span_of(row) for row in in_rows(lacking, calendar=calendar))
            raise SourceError(
                f"there is no file of {spans} for {self.asset}; "
                f"expected {pattern.text}. Land the other days until it arrives, or correct 'files' in the declaration."
            )
        rows: dict[str, pl.DataFrame] = {}
        facts: dict[str, list[JsonValue]] = {}
        for key, files in found.items():
            rows[key], facts[key] = self._of_period(lake, pattern, key, files)
        source = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16, usedforsecurity=False).hexdigest()
        for part, ref in standing.items():
            facts[part] = [dict(it) for it in landed_files(lake.manifest(ref))]  # the same file may be read again
        empty = next(iter(rows.values())).clear()
        return SourceContent(
            rows={key: rows.get(key, empty) for key in keys},
            facts={"source": source, FILES: {key: facts.get(key, []) for key in keys}},
            absent=absent,
            warnings=[
                f"{len(absent)} of {len(keys)} {calendar.grain}s have no file, the first is {key}; expected "
                f"{pattern.text}. Their "
                "landed rows stay in the lake."
                for key in absent[:1]
            ],
        )

    def _of_period(
        self, lake: Lake, pattern: DayPattern, key: str, files: Sequence[Arrived]
    ) -> tuple[pl.DataFrame, list[JsonValue]]:
        """Return the rows of a period's files in the order of their names, and the facts of each for the manifest."""
        frames: list[pl.DataFrame] = []
        facts: list[JsonValue] = []
        for arrived in files:
            where = f"{pattern.root}/{arrived.name}"
            data = read_arrived(pattern, arrived, lake.access)
            frame = self.file(where).frame(data)
            if (by := self.day_columns) is not None:
                check_of_period(
                    *self.dated(frame, by), key, where=where, calendar=self.calendar,
                    personal=self.contract.personal,
                )  # fmt: skip
            frames.append(_alike(frame, frames, where, f"{files[0].name} of the same day"))
            facts.append(file_facts(arrived, data))
        return self._keyed(pl.concat(frames), day=key), facts


def _alike(frame: pl.DataFrame, others: Sequence[pl.DataFrame], where: str, first: str) -> pl.DataFrame:
    """Return the rows of a file with its columns in the order of the files before it.

    Raises:
        SourceError: it has other columns than they have.
    """
    if not others:
        return frame
    if {*frame.columns} != {*others[0].columns}:
        raise SourceError(
            f"source file {where} has the columns {frame.columns}, but {first} has {others[0].columns}; expected the "
            "same ones. Correct the files."
        )
    return frame.select(others[0].columns)
