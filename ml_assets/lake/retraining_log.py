"""The retraining log: the cause of each retraining.

A record is created only if absent, so no retraining is requested twice.

Not here: when to request a retraining (see `ml_assets.logic.monitoring.retraining` and the sensors).
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
"""The largest size of a record, which contains a few sentences and figures."""
_MODEL = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.(\d{2})\.json")


class Request(Sealable, Protocol):
    """The fields of a record that the log itself uses. Records are frozen pydantic models."""

    @property
    def model(self) -> str:
        """The model of its log."""

    @property
    def as_of(self) -> date:
        """The day as of which the model is trained."""

    @property
    def number(self) -> int:
        """Its number among records as of the same day, from 1."""


R = TypeVar("R", bound=Request)


def record_name(record: Request) -> str:
    """Return the name of a record in its model's folder. Names sort by day."""
    return f"{record.as_of}.{record.number:02}.json"


@dataclass(frozen=True)
class RetrainingLog(Generic[R]):
    """The log of one model: `retrainings/<model>/2013-10-31.01.json` and so on.

    Raises:
        LakeError: the model's name is not valid.
    """

    lake: Lake
    model: str
    kind: type[R]

    def __post_init__(self) -> None:
        if not _MODEL.fullmatch(self.model):
            raise LakeError(
                f"'{self.model}' is not a valid model name, so it has no retraining log; expected up to 63 of a-z, 0-9 "
                "and _, starting with a letter. Use the name of a declared model."
            )

    @property
    def _folder(self) -> str:
        return self.lake.path("retrainings", self.model)

    def newest(self, count: int) -> list[R]:
        """Return the newest records by day, oldest first.

        Raises:
            CorruptArtifactError: a record is damaged.
        """
        names = sorted(name for name in self.lake.names(self._folder) if _NAME.fullmatch(name))[-count:]
        read: Callable[[str], R] = self._read
        with self.lake.pool(len(names)) as each:
            found: Sequence[R] = each(read, names)
        return [*found]

    def claim(self, record: R) -> bool:
        """Store a record. Return False if a record of its day and number exists already."""
        try:
            self.lake.create(f"{self._folder}/{record_name(record)}", seal(record))
        except FileExistsError:
            return False
        return True

    def _read(self, name: str) -> R:
        path = f"{self._folder}/{name}"
        record = unseal(
            self.lake.read(path, limit=MOST_BYTES), self.kind, where=path, what="the record of a retraining"
        )
        if (record.model, record_name(record)) != (self.model, name):
            raise CorruptArtifactError(
                f"{path} is the record of a retraining of {record.model} as of {record.as_of}, number {record.number}; "
                f"expected the record that its path names. {RESTORE}"
            )
        return record
