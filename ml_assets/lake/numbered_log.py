"""Numbered records in a folder of the lake. A record is created only if its number is free.

So no clock orders them. A record is sealed (see `ml_assets.lake.sealing`), and its fields name its path, so that a file
that was copied or renamed is noticed. Not here: the three kinds of records, and what happens if a number is taken; see
`ml_assets.lake.order`, `ml_assets.lake.promotion_log` and `ml_assets.lake.retraining_log`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple

from ml_assets.lake.errors import CorruptArtifactError, LakeError
from ml_assets.lake.objects import Objects, Stat
from ml_assets.lake.sealing import RESTORE, Sealed, digest_of_seal, seal, unseal

MOST_BYTES: Final = 2**20
"""The largest size of a record. It has a few kB."""

_MODEL = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Numbered(NamedTuple, Generic[Sealed]):
    """A record as it was read, and the digest at the end of its text."""

    record: Sealed
    digest: str


@dataclass(frozen=True)
class NumberedLog(Generic[Sealed]):
    """A kind of numbered records.

    Attributes:
        what: a record in words, such as "the record of a retraining".
        kind: the type of a record.
        place: returns a record's path, relative to the lake's root.
        fix: how to fix a damaged record, as a sentence.
    """

    what: str
    kind: type[Sealed]
    place: Callable[[Sealed], str]
    fix: str = RESTORE

    def claim(self, lake: Objects, record: Sealed) -> bool:
        """Store a record. Return False if its number is taken."""
        try:
            lake.create(lake.path(self.place(record)), seal(record))
        except FileExistsError:
            return False
        return True

    def read(self, lake: Objects, path: str, stat: Stat | None = None) -> Numbered[Sealed]:
        """Return a record.

        Args:
            lake: where it is.
            path: its full path.
            stat: its listing entry; allows reading a cached copy.

        Raises:
            MissingArtifactError: it does not exist.
            CorruptArtifactError: it is damaged, or belongs to another path.
        """
        text = lake.read(path, limit=MOST_BYTES, known=stat)
        record = unseal(text, self.kind, where=path, what=self.what, fix=self.fix)
        if path != lake.path(place := self.place(record)):
            raise CorruptArtifactError(f"{path} is the record of {place}; move it back there.")
        return Numbered(record, digest_of_seal(text))

    def read_each(self, lake: Objects, paths: Sequence[str]) -> list[Sealed]:
        """Return several records in order.

        Raises:
            As `read`.
        """
        return lake.map(lambda path: self.read(lake, path).record, paths)


def is_model_name(name: str) -> bool:
    """Return whether a model can have this name."""
    return _MODEL.fullmatch(name) is not None


def check_model_name(name: str, log: str) -> None:
    """Check a model's name before it becomes a path.

    Raises:
        LakeError: it is not valid.
    """
    if not is_model_name(name):
        raise LakeError(
            f"'{name}' is not a valid model name, so it has no {log}; expected up to 63 of a-z, 0-9 and _, starting "
            "with a letter. Use the name of a declared model."
        )
