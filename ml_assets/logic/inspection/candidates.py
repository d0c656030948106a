"""A table whose columns could be features, and what a guard against leaks says about one of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

import polars as pl

from ml_assets.contracts.artifacts.training import Task
from ml_assets.logic.inspection.strength import Outcomes

Guard = Literal[
    "known later", "copy of the target", "sum of the target", "golden feature", "identifier", "marker of time",
    "missing values", "name", "lag of the target", "window of the target", "random against time", "duplicate rows",
]  # fmt: skip
Verdict = Literal["left out", "noted", "cleared"]

FEW_ROWS: Final = 10_000


@dataclass(frozen=True)
class LeakFinding:
    """What one guard found about one column.

    Attributes:
        figure: the number that decided, between 0 and 1.
        sentence: what the number is, and what follows.
        added: for a column that is left out, the share of the target's variance that a quick model explains more with
            it; None if that was not measured.
    """

    column: str
    guard: Guard
    figure: float
    sentence: str
    verdict: Verdict = "left out"
    added: float | None = None

    @property
    def evidence(self) -> str:
        """The sentence, and what the column would have added if that was measured."""
        if self.added is None:
            return self.sentence
        return f"{self.sentence} With it, a quick model explains {100 * self.added:.1f} points more."


@dataclass(frozen=True)
class Candidates:
    """A table with a target, and the columns that could be features.

    Attributes:
        rows: a sample with every target known; in the order of time if there is a time.
        time: the column of the prediction time, if any.
        entity: the column that says which rows are of the same person or thing, if any.
        timezone: the time zone in which a date begins.
        stretch: the number of rows of each stretch without a gap in the rows; 0 if there is no gap.
    """

    rows: pl.DataFrame
    target: str
    task: Task
    columns: tuple[str, ...]
    time: str | None = None
    entity: str | None = None
    timezone: str = "UTC"
    stretch: int = 0

    def few(self) -> "Candidates":
        """Return the table with at most 10,000 rows, in their order."""
        if self.rows.height <= FEW_ROWS:
            return self
        kept = pl.int_range(FEW_ROWS, eager=True) * self.rows.height // FEW_ROWS
        return replace(self, rows=self.rows[kept])

    @property
    def outcomes(self) -> Outcomes:
        """The target as numbers, with folds of entities."""
        return Outcomes.of(self.rows[self.target], self.task, self.rows[self.entity] if self.entity else None)

    @property
    def series(self) -> Iterator[pl.Series]:
        """The candidates."""
        return (self.rows[name] for name in self.columns)
