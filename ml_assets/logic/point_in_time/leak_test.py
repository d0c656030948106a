"""Compare builds of features to find leaks: values that were not known at their prediction time.

Not here: building tables again (see `ml_assets.warehouse.rebuild`), and what was known when (see
`ml_assets.logic.point_in_time.knowledge`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from ml_assets.contracts.errors import ContractError
from ml_assets.logic.point_in_time.knowledge import Event

DISTANCES: Final = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6), timedelta(days=1))
_ROWS: Final = "__rows"
_OTHER: Final = "__other"


@dataclass(frozen=True)
class Difference:
    """How two builds of a table differ in a column, with the first row that differs.

    Attributes:
        column: the column; None if a row exists in one build only.
        rows: number of rows that differ.
        key: the first such row.
        one: its value in the first build; for a whole row, whether it exists.
        other: the same in the second build.
    """

    column: str | None
    rows: int
    key: Mapping[str, object]
    one: object
    other: object


def differences(
    one: pl.DataFrame, other: pl.DataFrame, *, key: Sequence[str], columns: Sequence[str]
) -> tuple[Difference, ...]:
    """Compare two builds of a table exactly. Missing equals missing, and NaN equals NaN.

    Args:
        one: the first build. Its order decides which row is the first.
        other: the second build.
        key: columns that identify a row in both.
        columns: columns that are compared.

    Returns:
        At most one difference per column, in their order; before them, at most one for rows that exist only in the
        first build, and one for rows that exist only in the second.

    Raises:
        ContractError: a column is missing in one build, or has another type, or a key repeats.
    """
    _comparable(one, other, key=key, columns=columns)
    paired = one.with_row_index(_ROWS).join(
        other.select(*key, pl.lit(value=True).alias(_OTHER), *(pl.col(name).alias(_OTHER + name) for name in columns)),
        on=list(key), how="left", nulls_equal=True, maintain_order="left",
    )  # fmt: skip
    both = paired.filter(pl.col(_OTHER))
    found = []
    for here, there, frame in (
        (True, False, paired.filter(pl.col(_OTHER).is_null())),
        (False, True, other.join(one, on=list(key), how="anti", nulls_equal=True, maintain_order="left")),
    ):
        if frame.height:
            found.append(Difference(None, frame.height, frame.select(key).row(0, named=True), here, there))
    differs = {name: pl.col(name).ne_missing(pl.col(_OTHER + name)) for name in columns}
    counts = both.select(expression.sum().alias(name) for name, expression in differs.items()).to_dicts()
    for name, count in counts[0].items() if counts else ():
        if count:
            first = both.filter(differs[name]).row(0, named=True)
            row = {part: first[part] for part in key}
            found.append(Difference(name, int(count), row, first[name], first[_OTHER + name]))
    return tuple(found)


def _comparable(one: pl.DataFrame, other: pl.DataFrame, *, key: Sequence[str], columns: Sequence[str]) -> None:
    wrong = [
        f"column '{name}' is {one.schema.get(name, 'missing')} in one build and {other.schema.get(name, 'missing')} "
        "in the other"
        for name in dict.fromkeys([*key, *columns])
        if name not in one.schema or one.schema[name] != other.schema.get(name)
    ]
    if not wrong:
        wrong = [
            f"the key ({', '.join(key)}) repeats in a build"
            for frame in (one, other)
            if frame.select(pl.struct(key).is_duplicated().any()).item()
        ]
    if wrong:
        raise ContractError(f"two builds cannot be compared: {'; '.join(wrong)}. Materialize the table again.")


def chosen_times(times: pl.Series, later: pl.Series, count: int, random: np.random.Generator) -> list[datetime]:
    """Return prediction times to test, preferring those shortly after which much became known.

    "Shortly" is 10 minutes for the first, then an hour, six hours and a day, in turn, because a leak of minutes shows
    only if something became known within minutes. One in ten is chosen at random.

    Args:
        times: the distinct prediction times, in order.
        later: the times at which something became known, in order, with repetitions.
        count: maximum number of times to choose.
        random: the generator.
    """
    moments, known = times.to_numpy(), later.to_numpy()
    before = np.searchsorted(known, moments, side="right")
    left = np.ones(len(moments))
    chosen = []
    for number in range(min(count, len(moments))):
        span = DISTANCES[number % len(DISTANCES)]
        soon = np.searchsorted(known, moments + np.timedelta64(span), side="right") - before
        weights = left * (soon + max(1.0, soon.mean()) / 10)
        place = int(random.choice(len(moments), p=weights / weights.sum()))
        left[place] = 0
        chosen.append(times[place])
    return chosen


@dataclass(frozen=True)
class Leak:
    """A column with values that were not known, one row that shows it, and the cause.

    Attributes:
        column: the column; None if the row itself is the leak.
        day: the key of the row's period.
        at: the row's prediction time.
        key: the row.
        built: its value in the features; for a whole row, whether it exists.
        known: its value if built only from what was known at `at`; for a whole row, whether it exists.
        rows: number of rows that differ in all samples.
        samples: number of samples in which rows differ.
        cause: the latest event without which the features would have another value.
        unexplained: why there is no cause.
    """

    column: str | None
    day: str
    at: datetime
    key: Mapping[str, object]
    built: object
    known: object
    rows: int
    samples: int
    cause: Event | None = None
    unexplained: str = ""

    @property
    def sentence(self) -> str:
        """The leak as a sentence."""
        row = ", ".join(f"{name}={value}" for name, value in self.key.items())
        if self.column is not None:
            what = f"column '{self.column}': row {row} has {self.built}, but only {self.known} was known at {self.at}"
        elif self.built:
            what = f"row {row} has the prediction time {self.at}, but the row was not known then"
        else:
            what = f"row {row} was known at its prediction time {self.at}, but what became known later removed it"
        why = f"the cause is {self.cause.sentence}" if self.cause else self.unexplained
        return f"{what} (rows that differ: {self.rows}, samples: {self.samples}); {why}."


@dataclass(frozen=True)
class LateChange:
    """A column with another value than the one that was published for the same rows.

    Attributes:
        column: the column; None if the row was removed.
        row: the first such row's key.
        rows: number of such rows.
    """

    column: str | None
    row: Mapping[str, object]
    before: object
    now: object
    rows: int

    @property
    def sentence(self) -> str:
        """The change as a sentence."""
        key = ", ".join(f"{name}={value}" for name, value in self.row.items())
        more = f" ({self.rows} rows changed)" if self.rows > 1 else ""
        if self.column is None:
            return f"row {key} was published before and no longer exists{more}."
        return (
            f"column '{self.column}' of row {key} was {self.before} when it was published and is now {self.now}{more}."
        )


def changed_after_known(now: pl.DataFrame, before: pl.DataFrame, key: Sequence[str]) -> tuple[LateChange, ...]:
    """Return the columns whose values changed after the rows were published. New rows are not a change.

    What was known at a row's prediction time does not change, so its features must not change either while their code
    is the same.

    Args:
        now: the rows of some days to be published.
        before: the current rows of the same days; columns that only one of both has are ignored.
        key: columns that identify a row.
    """
    columns = [name for name in before.columns if now.schema.get(name) == before.schema[name] and name not in key]
    return tuple(
        LateChange(found.column, found.key, found.one, found.other, found.rows)
        for found in differences(before, now, key=key, columns=columns)
        if found.column is not None or found.one
    )
