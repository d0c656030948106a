"""Sealed records: JSON texts that end with a digest of themselves, so that edits and truncation are noticed.

The digest is not a signature: a process that can write to the lake can seal any text.
"""

import hashlib
from typing import Any, Final, Protocol, Self, TypeVar

from pydantic import ValidationError

from ml_assets.lake.errors import CorruptArtifactError

_SEAL: Final = ',\n "digest": "'
_END: Final = '"\n}\n'
RESTORE: Final = "Restore what was written there, from a backup or an earlier version of the object."


class Sealable(Protocol):
    """A frozen pydantic record."""

    def model_dump_json(self, *, indent: int | None = None, exclude: Any = None) -> str:
        """Return the record as JSON."""

    @classmethod
    def model_validate_json(cls, json_data: bytes, /) -> Self:
        """Parse a JSON text."""


Record = TypeVar("Record", bound=Sealable)


def seal(record: Sealable, *, exclude: set[str] | None = None) -> bytes:
    """Return a record as JSON whose last member is the digest of the text before it."""
    body = record.model_dump_json(indent=1, exclude=exclude).removesuffix("\n}")
    return f"{body}{_SEAL}{_digest(body.encode())}{_END}".encode()


def unseal(text: bytes, kind: type[Record], *, where: str, what: str, fix: str = RESTORE) -> Record:
    """Return the record of a sealed text.

    Args:
        text: the text as it was read.
        kind: the record's type.
        where: the text's path.
        what: the expected kind of record, such as "the record of a step".
        fix: how to fix a damaged text, as a sentence.

    Raises:
        CorruptArtifactError: it was edited or cut off, or is another kind of record.
    """
    body, _, _ = text.rpartition(_SEAL.encode())
    if (problem := seal_problem(text)) is not None:
        raise CorruptArtifactError(f"{where} is not {what} as it was written: {problem}. {fix}".rstrip())
    try:
        return kind.model_validate_json(body + b"\n}")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CorruptArtifactError(f"{where} is not {what} ({place}: {first['msg']}). {fix}".rstrip()) from error


def unsealed(text: bytes) -> bytes | None:
    """Return a sealed text without its seal; None if it has no seal."""
    body, mark, _ = text.rpartition(_SEAL.encode())
    return body + b"\n}" if mark else None


def seal_problem(text: bytes) -> str | None:
    """Return why a text's digest does not match; None if it matches."""
    body, mark, rest = text.rpartition(_SEAL.encode())
    if not mark or not rest.endswith(_END.encode()):
        return f"it was cut off or edited: its {len(text):,} bytes do not end with a digest of themselves"
    expected, found = rest.removesuffix(_END.encode()).decode(errors="replace"), _digest(body)
    if found != expected:
        return f"it was edited: it ends with the digest {expected[:32]}, but its text has {found}"
    return None


def digest_of_seal(text: bytes) -> str:
    """Return the digest at the end of a sealed text."""
    return text.rpartition(_SEAL.encode())[2].removesuffix(_END.encode()).decode(errors="replace")


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16, usedforsecurity=False).hexdigest()
