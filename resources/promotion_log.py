"""The promotion log: who serves from when on, and why. Append-only; entry N+1 is created only if absent.

What makes a challenger good enough stays out; that is the gate's work.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from resources.errors import CorruptArtifactError, PromotionConflictError
from resources.lake import Lake


class LogEntry(Protocol):
    """What the log itself needs to know of an entry."""

    @property
    def number(self) -> int:
        """Its place in the log, from 1."""

    @property
    def champion(self) -> str | None:
        """The version that serves after this entry; None where nobody does."""

    @property
    def decided_at(self) -> datetime:
        """When it was decided, in UTC."""


Entry = TypeVar("Entry", bound=BaseModel)


@dataclass(frozen=True)
class PromotionLog(Generic[Entry]):
    """The log of one model: `promotions/<model>/000001.json` and so on."""

    lake: Lake
    model: str
    kind: type[Entry]

    def _path(self, number: int) -> str:
        return self.lake.path("promotions", self.model, f"{number:06d}.json")

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first.

        Raises:
            CorruptArtifactError: an entry is not one, or a number is missing.
        """
        names = self.lake.names(self.lake.path("promotions", self.model))
        wanted = [f"{number:06d}.json" for number in range(1, len(names) + 1)]
        if names != wanted:
            odd = next(name for name in [*names, *wanted] if name not in names or name not in wanted)
            raise CorruptArtifactError(f"the promotion log of {self.model} has a gap or a stranger at {odd}.")
        return [self._read(number) for number in range(1, len(names) + 1)]

    def _read(self, number: int) -> Entry:
        try:
            return self.kind.model_validate_json(self.lake.read(self._path(number)))
        except ValidationError as error:
            raise CorruptArtifactError(f"{self._path(number)} is not an entry of the promotion log: {error}") from error

    def last(self) -> Entry | None:
        """Return the newest entry; None in an empty log."""
        names = self.lake.names(self.lake.path("promotions", self.model))
        return self._read(len(names)) if names else None

    def append(self, entry: Entry, *, number: int) -> Entry:
        """Add an entry as number `number`.

        Raises:
            PromotionConflictError: somebody else added that number first; read the log again and decide anew.
            LakeError: the lake cannot be written.
        """
        try:
            self.lake.create(self._path(number), entry.model_dump_json(indent=1).encode())
        except FileExistsError as error:
            raise PromotionConflictError(
                f"entry {number} of the promotion log of {self.model} was written by somebody else meanwhile; "
                "read the log again before deciding."
            ) from error
        return entry
