"""The record of a leak test: proven leaks, and the known times that no rebuild can prove wrong."""

from __future__ import annotations

from datetime import datetime

from ml_assets.contracts.json_record import Record


class FoundLeak(Record):
    """A leak that the leak test proved: the column (None for the whole row), and a time at which it shows.

    Attributes:
        day: the key of the period.
    """

    column: str | None
    day: str
    prediction_at: datetime
    sentence: str


class KnownTime(Record):
    """The declared known time of a source table's rows, or of some of its columns.

    Attributes:
        columns: the columns for which it is declared; empty for the whole row.
        is_observed: whether it is a column that the source records. An expression over other columns, or a constant, is
            an assumption, which no rebuild can prove wrong.
    """

    table: str
    columns: tuple[str, ...]
    sql: str
    is_observed: bool

    @property
    def sentence(self) -> str:
        """The known time as text."""
        what = f"{', '.join(self.columns)} of {self.table}" if self.columns else f"rows of {self.table}"
        return f"{what}: {self.sql}"


class LeakTestRecord(Record):
    """The newest leak test of a model's features. While it has a leak, nothing is trained or promoted.

    Attributes:
        leaks: leaks found, and leaks found earlier on days that were not tested again.
        history_columns: columns that are computed from other source rows than the prediction's own, for which a rebuild
            can show whether they contain later data; None if that was not measured.
    """

    model: str
    samples: int
    rows: int
    leaks: tuple[FoundLeak, ...]
    history_columns: tuple[str, ...] | None = None
    known_times: tuple[KnownTime, ...] = ()
