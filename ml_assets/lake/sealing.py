"""Sealed records: JSON texts that begin with the version of their format and end with a digest of themselves.

So edits and truncation are noticed, and a record of a newer release is recognized. Every version of the format has its
version first and its digest last.

The digest is not a signature: a process that can write to the lake can seal any text.
"""

import hashlib
import re
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from ml_assets.lake.errors import CorruptArtifactError, FormatVersionError

FORMAT_VERSION: Final = 1
"""The version of the records' format. The engine reads this and earlier versions."""

_VERSION: Final = re.compile(rb'\{\n "format_version": ([1-9]\d{0,8}),')
_SEAL: Final = ',\n "digest": "'
_END: Final = '"\n}\n'
RESTORE: Final = "Restore what was written there, from a backup or an earlier version of the object."


Sealed = TypeVar("Sealed", bound=BaseModel)


def seal(record: BaseModel, *, exclude: set[str] | None = None) -> bytes:
    """Return a record as JSON whose first member is the format version and whose last is the digest of the text."""
    fields = record.model_dump_json(indent=1, exclude=exclude).removeprefix("{").removesuffix("\n}")
    body = f'{{\n "format_version": {FORMAT_VERSION},{fields}'
    return f"{body}{_SEAL}{_digest(body.encode())}{_END}".encode()


def unseal(text: bytes, kind: type[Sealed], *, where: str, what: str, fix: str = RESTORE) -> Sealed:
    """Return the record of a sealed text.

    Args:
        text: the text as it was read.
        kind: the record's type.
        where: the text's path.
        what: the expected kind of record, such as "the record of a step".
        fix: how to fix a damaged text, as a sentence.

    Raises:
        CorruptArtifactError: it was edited or cut off, or is another kind of record.
        FormatVersionError: a newer release wrote it.
    """
    if (problem := seal_problem(text)) is not None:
        raise CorruptArtifactError(f"{where} is not {what} as it was written: {problem}. {fix}".rstrip())
    check_version(text, where=where, what=what)
    try:
        return kind.model_validate_json(unsealed(text))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CorruptArtifactError(f"{where} is not {what} ({place}: {first['msg']}). {fix}".rstrip()) from error


def check_version(text: bytes, *, where: str, what: str) -> None:
    """Check that this engine can read the format of a sealed text.

    Args:
        text: the text, whose digest matches.
        where: the text's path.
        what: the kind of record, such as "a manifest".

    Raises:
        FormatVersionError: a newer release wrote it.
    """
    found = _VERSION.match(text)
    if found is not None and int(found[1]) > FORMAT_VERSION:
        raise FormatVersionError(
            f"{where} is {what} of format version {int(found[1])}, but the installed ml-assets reads versions up to "
            f"{FORMAT_VERSION}. A newer release wrote to this lake: upgrade ml-assets."
        )


def unsealed(text: bytes) -> bytes:
    """Return the record in a sealed text: JSON without the version and the digest."""
    body, _, _ = text.rpartition(_SEAL.encode())
    return b"{" + _VERSION.sub(b"", body, count=1) + b"\n}"


def seal_problem(text: bytes) -> str | None:
    """Return why a text is not sealed, or why its digest does not match; None if it matches."""
    body, mark, rest = text.rpartition(_SEAL.encode())
    if not mark or not rest.endswith(_END.encode()):
        return f"it was cut off or edited: its {len(text):,} bytes do not end with a digest of themselves"
    expected, found = rest.removesuffix(_END.encode()).decode(errors="replace"), _digest(body)
    if found != expected:
        return f"it was edited: it ends with the digest {expected[:32]}, but its text has {found}"
    if _VERSION.match(text) is None:
        return "it does not begin with the version of its format"
    return None


def digest_of_seal(text: bytes) -> str:
    """Return the digest at the end of a sealed text."""
    return text.rpartition(_SEAL.encode())[2].removesuffix(_END.encode()).decode(errors="replace")


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16, usedforsecurity=False).hexdigest()
