"""The retraining log: what asked for each retraining; a record is created only if absent, so nothing asks twice.

When to ask stays out; that is logic, and the sensors' work.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Generic, Protocol, TypeVar

from ml_assets.lake.errors import CorruptArtifactError, LakeError
from ml_assets.lake.sealing import RESTORE, Sealable, seal, unseal
from ml_assets.lake.store import Lake

MOST_BYTES: Final = 2**20
"""A record holds a few sentences and figures."""
_MODEL = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.(\d{2})\.json")


class Request(Sealable, Protocol):
    """What the log itself needs to know of a record: a frozen pydantic record with these fields."""

    @property
    def model(self) -> str:
        """Whose log it is in."""

    @property
    def as_of(self) -> date:
        """The day that is trained as of."""

    @property
    def number(self) -> int:
        """Among those as of the same day, from 1."""


R = TypeVar("R", bound=Request)


def name_of(record: Request) -> str:
    """Return the name of a record in its model's folder; the later its day, the higher."""
    return f"{record.as_of}.{record.number:02}.json"


@dataclass(frozen=True)
class RetrainingLog(Generic[R]):
    """The log of one model: `retrainings/<model>/2013-10-31.01.json` and so on.

    Raises:
        LakeError: the model's name is none.
    """

    lake: Lake
    model: str
    kind: type[R]

    def __post_init__(self) -> None:
        if not _MODEL.fullmatch(self.model):
            raise LakeError(
                f"'{self.model}' is not a model's name, so it has no retraining log; expected up to 63 of a-z, 0-9 and "
                "_, from a letter. Name a declared model."
            )

    @property
    def _folder(self) -> str:
        return self.lake.path("retrainings", self.model)

    def newest(self, count: int) -> list[R]:
        """Return the newest records by their days, oldest first.

        Raises:
            CorruptArtifactError: one of them is none.
        """
        names = sorted(name for name in self.lake.names(self._folder) if _NAME.fullmatch(name))[-count:]
        read: Callable[[str], R] = self._read
        with self.lake.pool(len(names)) as each:
            found: Sequence[R] = each(read, names)
        return [*found]

    def claim(self, record: R) -> bool:
        """Keep a record; False where another of its day and number is there already, whoever wrote it."""
        try:
            self.lake.create(f"{self._folder}/{name_of(record)}", seal(record))
        except FileExistsError:
            return False
        return True

    def _read(self, name: str) -> R:
        path = f"{self._folder}/{name}"
        record = unseal(
            self.lake.read(path, limit=MOST_BYTES), self.kind, where=path, what="the record of a retraining"
        )
        if (record.model, name_of(record)) != (self.model, name):
            raise CorruptArtifactError(
                f"{path} is the record of a retraining of {record.model} as of {record.as_of}, number {record.number}; "
                f"expected what its name says. {RESTORE}"
            )
        return record
