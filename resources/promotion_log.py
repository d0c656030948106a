"""The promotion log: who serves from when on, and why. Append-only; entry N+1 is created only if absent.

What makes a challenger good enough stays out; that is the gate's work.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, Protocol, Self, TypeVar

from pydantic import ValidationError

from resources.errors import CorruptArtifactError, LakeError, PromotionConflictError
from resources.lake import Lake

LAST_NUMBER: Final = 999_999
TRIES: Final = 10
"""Times that one decision is made; each time but the last, another process has added an entry first."""
MOST_BYTES: Final = 2**20
"""An entry holds sentences and figures in a few kB; a hundred times that is no entry."""

_MODEL = re.compile(r"[a-z][a-z0-9_]{0,62}")


class LogEntry(Protocol):
    """What the log itself needs to know of an entry: a frozen pydantic record with these fields."""

    @property
    def number(self) -> int:
        """Its place in the log, from 1."""

    @property
    def model(self) -> str:
        """Whose log it is in."""

    @property
    def action(self) -> str:
        """What was decided."""

    @property
    def champion(self) -> str | None:
        """The version that serves after this entry; None where nobody does."""

    @property
    def challenger(self) -> str:
        """The version that it was decided about."""

    @property
    def reasons(self) -> Sequence[str]:
        """Why, in sentences."""

    @property
    def decided_at(self) -> datetime:
        """When it was decided, with its time zone."""

    @property
    def decided_by(self) -> str:
        """Who decided."""

    def model_dump_json(self, *, indent: int | None = None) -> str:
        """Return it as JSON."""

    @classmethod
    def model_validate_json(cls, json_data: bytes, /) -> Self:
        """Return the entry of a JSON text."""


Entry = TypeVar("Entry", bound=LogEntry)
T = TypeVar("T")


@dataclass(frozen=True)
class PromotionLog(Generic[Entry]):
    """The log of one model: `promotions/<model>/000001.json` and so on.

    Raises:
        LakeError: the model's name is none.
    """

    lake: Lake
    model: str
    kind: type[Entry]

    def __post_init__(self) -> None:
        if not _MODEL.fullmatch(self.model):
            raise LakeError(
                f"'{self.model}' is not a model's name, so it has no promotion log; expected up to 63 of a-z, 0-9 and "
                "_, from a letter. Name a declared model."
            )

    @property
    def _folder(self) -> str:
        return self.lake.path("promotions", self.model)

    def _path(self, number: int) -> str:
        return f"{self._folder}/{_name(number)}"

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first.

        Raises:
            CorruptArtifactError: an entry is not one, or a number is missing.
        """
        count = self._count()
        with self.lake.pool(count) as each:
            return each(self._read, range(1, count + 1))

    def before(self, moment: datetime) -> list[Entry]:
        """Return the log as it stood just before a moment; its last entry names the champion of that time.

        The numbers say what came after what. A clock that was wrong does not: an entry counts as soon as it or any
        later one had been decided.

        Raises:
            CorruptArtifactError: as `entries`.
        """
        entries = self.entries()
        decided = [entry.number for entry in entries if entry.decided_at < moment]
        return entries[: max(decided, default=0)]

    def last(self) -> Entry | None:
        """Return the newest entry; None in an empty log.

        Raises:
            CorruptArtifactError: the newest entry is not one, or a number is missing.
        """
        count = self._count()
        return self._read(count) if count else None

    def append(self, entry: Entry, *, number: int) -> Entry:
        """Add an entry as number `number`: one more than there were in the log that the decision was made on.

        Raises:
            PromotionConflictError: somebody else added that number first; read the log again and decide anew.
            LakeError: the lake cannot be written, the log is full, or the entry is not of this place.
        """
        if not 1 <= number <= LAST_NUMBER:
            raise LakeError(
                f"the promotion log of {self.model} takes entries 1 to {LAST_NUMBER}, and this one is {number}. Nobody "
                "decides that often: see what writes to it, and go on under another model's name."
            )
        if (problem := self._problem(entry, number)) is not None:
            raise LakeError(f"entry {number} of the promotion log of {self.model} cannot be written: {problem}.")
        try:
            self.lake.create(self._path(number), entry.model_dump_json(indent=1).encode())
        except FileExistsError as error:
            raise PromotionConflictError(self._who_won(number)) from error
        return entry

    def _count(self) -> int:
        """Return how many entries there are.

        Raises:
            CorruptArtifactError: they are not numbered from 1 without a gap, or something else lies among them.
        """
        names = [name for name in self.lake.names(self._folder) if not name.endswith(".part")]
        wanted = [_name(number) for number in range(1, len(names) + 1)]
        if names != wanted:
            odd = min(set(names) ^ set(wanted))
            raise CorruptArtifactError(
                f"the promotion log of {self.model} has a gap or a stranger at {odd}; expected only 000001.json and so "
                f"on in {self._folder}. Put back what is missing, or take away what does not belong there."
            )
        return len(names)

    def _read(self, number: int) -> Entry:
        path = self._path(number)
        data = self.lake.read(path)
        if len(data) > MOST_BYTES:
            raise CorruptArtifactError(f"{path} has {len(data)} bytes; an entry has a few thousand.")
        try:
            entry = self.kind.model_validate_json(data)
        except ValidationError as error:
            raise CorruptArtifactError(f"{path} is not an entry of the promotion log: {error}") from error
        if (problem := self._problem(entry, number)) is not None:
            raise CorruptArtifactError(f"{path} is not the entry that its name says: {problem}.")
        return entry

    def _problem(self, entry: Entry, number: int) -> str | None:
        """Return why an entry cannot stand at a number of this log; None if it can."""
        if (entry.model, entry.number) != (self.model, number):
            return f"it is entry {entry.number} of {entry.model}; expected entry {number} of {self.model}"
        if entry.decided_at.tzinfo is None:
            return f"it was decided at {entry.decided_at}, without a time zone; expected UTC"
        return None

    def _who_won(self, number: int) -> str:
        """Return what an author is told whose number somebody else took."""
        won, count = self._read(number), self._count()
        last = self._read(count) if count > number else won
        since = f", and {count - number} more since" if count > number else ""
        return (
            f"entry {number} of the promotion log of {self.model} was written by {won.decided_by} meanwhile "
            f"({won.action} {won.challenger[:12]}: {' '.join(won.reasons[:1])}){since}; {last.champion or 'nobody'} "
            "serves now. Nothing was changed: look at it and decide again."
        )


def retry_on_conflict(decide: Callable[[], T]) -> T:
    """Return what `decide` returns, which reads a log, decides, and appends; it decides anew if another was first.

    Raises:
        PromotionConflictError: other processes keep adding entries.
    """
    for _ in range(TRIES - 1):
        with suppress(PromotionConflictError):
            return decide()
    return decide()


def _name(number: int) -> str:
    return f"{number:06d}.json"
