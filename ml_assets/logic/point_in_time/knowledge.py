"""Cut source rows at a time to what was known then, and list in which order the rest became known.

Known times are columns here. Not here: evaluating their SQL (see `ml_assets.stages.leak_test.as_known`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.leaks import KnownTime
from ml_assets.contracts.table import ALWAYS, RECEIVED_AT, TableContract
from ml_assets.logic.tables.features import is_naive

PARTITION: Final = "__partition"
_HALF: Final = 0.5
_ROW: Final = "__row"
_KNOWN: Final = "__known"
_NEVER: Final = datetime(9999, 12, 31)  # noqa: DTZ001 - every time of these tables is naive UTC


def time_expressions(contract: TableContract) -> dict[str, str]:
    """Return the SQL of every known time of a table, by the name of the column in which `Known.of` expects it.

    Raises:
        ContractError: the table does not declare when its rows are known.
    """
    if contract.known_time is None:
        raise ContractError(
            f"table '{contract.name}' does not declare when its rows are known, so features cannot be tested for "
            f"leaks. Give it `known_time` in its meta, SQL over the row or '{ALWAYS}'; see {contract.where}."
        )
    row = "timestamp '0001-01-01 00:00:00'" if contract.known_time == ALWAYS else contract.known_time
    return {_KNOWN: row, **{name: sql for sql, name in _names(contract).items()}}


def known_times(contract: TableContract) -> tuple[KnownTime, ...]:
    """Return the declared known times of a source table: of its rows, then of later columns.

    If a known time names a column that landing computes, the column's expression is returned.
    """
    expressions = {column.name: column.expression for column in contract.columns}
    found = []
    for sql, columns in [
        (contract.known_time or ALWAYS, ()),
        *((sql, tuple(c.name for c in contract.columns if c.known_time == sql)) for sql in _names(contract)),
    ]:
        is_observed = sql in expressions and expressions[sql] is None
        shown = " ".join((expressions.get(sql) or sql).split())
        found.append(KnownTime(table=contract.name, columns=columns, sql=shown, is_observed=is_observed))
    return tuple(found)


def _names(contract: TableContract) -> dict[str, str]:
    """Return the column of each distinct known time of values, by its SQL."""
    distinct = dict.fromkeys(column.known_time for column in contract.columns if column.known_time)
    return {sql: f"{_KNOWN}_{number}" for number, sql in enumerate(distinct)}


@dataclass(frozen=True)
class Moment:
    """A time. Of what became known exactly then, it includes all, or the tables and rows up to a position."""

    at: datetime
    table: int | None = None
    row: int = -1


EVERYTHING: Final = Moment(_NEVER)


@dataclass(frozen=True)
class Event:
    """Something that became known: a row of a table, or some of its columns.

    Attributes:
        columns: the columns that became known; empty for the whole row.
    """

    table: str
    partition: str
    key: Mapping[str, object]
    columns: tuple[str, ...]
    known_at: datetime

    @property
    def sentence(self) -> str:
        """The event as text."""
        place = f"{self.table} of {self.partition}" if self.partition else self.table
        row = ", ".join(f"{name}={value}" for name, value in self.key.items())
        what = f"{', '.join(self.columns)} of row {row}" if self.columns else f"row {row}"
        when = "no known time at all" if self.known_at >= _NEVER else f"known at {self.known_at}"
        return f"{what} in {place}, {when}"


@dataclass(frozen=True)
class Known:
    """A table's rows with the times from which the rows, and single values of them, are known.

    Attributes:
        gates: the columns that are known later than their row, by the column with the time.
    """

    contract: TableContract
    rows: pl.DataFrame
    gates: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, contract: TableContract, rows: pl.DataFrame) -> Known:
        """Join rows with their known times.

        A value is known once its own time has passed, its row is known and its version was received. If the time is
        missing, the value is never known.

        Args:
            contract: the table's contract.
            rows: the columns of the contract, those of `time_expressions`, and the partition of each row.

        Raises:
            ContractError: known times have another type; all are listed.
        """
        expressions = time_expressions(contract)
        wrong = [
            f"known_time ({sql}) of table '{contract.name}' gives {rows.schema[name]}; expected a timestamp in UTC "
            f"without a zone. Cast it; see {contract.where}."
            for name, sql in expressions.items()
            if not is_naive(rows.schema[name])
        ]
        if wrong:
            raise ContractError("\n".join(wrong))
        received = [RECEIVED_AT] if RECEIVED_AT in contract.names else []
        times = {
            name: pl.max_horizontal(pl.col(_KNOWN, name).cast(pl.Datetime("us")).fill_null(_NEVER), *received)
            for name in expressions
        }
        gates = {
            name: tuple(column.name for column in contract.columns if column.known_time == sql)
            for sql, name in _names(contract).items()
        }
        return cls(contract, rows.with_columns(**times).with_row_index(_ROW), gates)

    def by(self, moment: Moment, number: int) -> pl.DataFrame:
        """Return the table as it was known at a time: the rows known by then, with null for later values.

        Args:
            moment: the time.
            number: the position of this table among those that the moment refers to.
        """
        return self.rows.filter(self._is_known(_KNOWN, moment, number)).select(
            pl.col(name) if gate is None else pl.when(self._is_known(gate, moment, number)).then(name).alias(name)
            for name, gate in ((name, self._gate(name)) for name in self.contract.names)
        )

    def with_other_future(self, at: datetime, random: np.random.Generator) -> pl.DataFrame:
        """Return the table with everything that became known after a time removed or replaced at random.

        Half of the later rows are removed, the other half is unchanged, because their columns may show when they
        arrived. Half of the later values become null. The others are replaced by those of another row, so that values
        of one row belong together; rows with rare values are chosen as often as others. Times, and columns from which
        known times are computed, become null instead, so that what was known before the time is unchanged.
        """
        sampled = self.rows.filter((pl.col(_KNOWN) <= at) | pl.Series(random.random(self.rows.height) < _HALF))
        others = {gate: self._others(gate, sampled.height, random) for gate in self.gates}
        return sampled.select(
            pl.col(name)
            if gate is None
            else pl.when(pl.col(gate) <= at).then(name).otherwise(self._value(name, others[gate])).alias(name)
            for name, gate in ((name, self._gate(name)) for name in self.contract.names)
        )

    def _value(self, name: str, others: pl.Series) -> pl.Series:
        """Return a column's values in other rows; null if there is no other row, or if the column is not replaced."""
        values = self.rows[name]
        if name in self._fixed:
            return pl.repeat(None, others.len(), dtype=values.dtype, eager=True)
        return values.gather(others)

    def _others(self, gate: str, count: int, random: np.random.Generator) -> pl.Series:
        """Return, for each of a number of rows, the row from which its later values are taken; null for none."""
        firsts = self._firsts[gate]
        if not firsts:
            return pl.repeat(None, count, dtype=pl.UInt32, eager=True)
        taken = np.empty(count, dtype=np.int64)
        column = random.integers(0, len(firsts), count)
        for number, rows in enumerate(firsts):
            hit = column == number
            taken[hit] = rows[random.integers(0, len(rows), int(hit.sum()))]
        return pl.Series(taken).set(pl.Series(random.random(count) < _HALF), None)

    @functools.cached_property
    def _firsts(self) -> dict[str, list[np.ndarray]]:
        """By gate, for each of its replaced columns, the first row with each value."""
        found: dict[str, list[np.ndarray]] = {}
        for gate, columns in self.gates.items():
            firsts = (pl.col(name).is_not_null() & pl.col(name).is_first_distinct() for name in columns
                      if name not in self._fixed)  # fmt: skip
            rows = (self.rows.filter(is_first)[_ROW].to_numpy() for is_first in firsts)
            found[gate] = [it for it in rows if len(it)]
        return found

    @functools.cached_property
    def _fixed(self) -> frozenset[str]:
        """The columns that are not replaced: keys, unique columns, times, and what known times are computed from."""
        contract = self.contract
        sql = [contract.known_time or "", *(text for c in contract.columns for text in (c.known_time, c.expression))]
        words = {word.lower() for text in sql if text for word in re.findall(r"\w+", text)}
        unique = {name for group in contract.unique_together for name in group}
        return frozenset(
            column.name
            for column in contract.columns
            if column.expression or column.is_unique or column.dtype.is_temporal()
            or column.name in {*contract.key, *unique} or column.name.lower() in words
        )  # fmt: skip

    def without_half(self, random: np.random.Generator) -> pl.DataFrame:
        """Return the table without a random half of its rows; reference data, which is always known, is unchanged."""
        rows = self.rows.select(self.contract.names)
        if self.contract.known_time == ALWAYS:
            return rows
        return rows.filter(pl.Series(random.random(rows.height) < _HALF))

    def _gate(self, column: str) -> str | None:
        return next((gate for gate, columns in self.gates.items() if column in columns), None)

    @staticmethod
    def _is_known(time: str, moment: Moment, number: int) -> pl.Expr:
        before, then = pl.col(time) < moment.at, pl.col(time) == moment.at
        if moment.table is None or number < moment.table:
            return before | then
        return before | (then & (pl.col(_ROW) <= moment.row)) if number == moment.table else before

    def moments(self, after: datetime) -> pl.DataFrame:
        """Return when something of which row became known after a time: columns `at` and `row`.

        Missing values do not become known.
        """
        rows = self.rows.select(at=_KNOWN, row=_ROW)
        values = [
            self.rows.filter(pl.any_horizontal(pl.col(columns).is_not_null())).select(at=gate, row=_ROW)
            for gate, columns in self.gates.items()
        ]
        return pl.concat([rows, *values]).filter(pl.col("at") > after).unique()

    def event(self, row: int, at: datetime) -> Event:
        """Return what became known of a row at a time."""
        found = self.rows.row(row, named=True)
        late = tuple(name for gate, columns in self.gates.items() if found[gate] == at for name in columns)
        return Event(
            table=self.contract.name,
            partition=str(found.get(PARTITION) or ""),
            key={name: self.contract.shown(name, found[name]) for name in self.contract.key},
            columns=() if found[_KNOWN] == at else late,
            known_at=at,
        )


def moments_after(tables: Sequence[Known], after: datetime) -> pl.DataFrame:
    """Return all that became known after a time, in order: columns `at`, `table` (its position) and `row`."""
    found = [table.moments(after).with_columns(table=pl.lit(n, pl.Int64)) for n, table in enumerate(tables)]
    return pl.concat(found).select("at", "table", pl.col("row").cast(pl.Int64)).sort("at", "table", "row")
