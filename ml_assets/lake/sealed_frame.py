"""Stores a frame that is not an artifact as one sealed object, such as the trials of a running search."""

import base64
import binascii
import io
from typing import Final

import polars as pl

from ml_assets.contracts.json_record import Record
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.objects import Objects
from ml_assets.lake.sealing import seal, unseal

_MOST_BYTES: Final = 256 * 2**20
_WHAT: Final = "a stored frame"
_FIX: Final = "Restore it, or remove it: its content is computed again."


class _SealedFrame(Record):
    """A frame as Parquet in base64, with its path relative to the root, so that a misplaced one is noticed."""

    path: str
    parquet: str


def write_frame(lake: Objects, path: str, frame: pl.DataFrame) -> None:
    """Write a frame, replacing any existing one.

    Raises:
        LakeError: the lake cannot be written.
    """
    file = io.BytesIO()
    frame.write_parquet(file, compression="zstd")
    sealed = seal(_SealedFrame(path=lake.relative(path), parquet=base64.b64encode(file.getvalue()).decode()))
    lake.write(path, lambda target: target.write(sealed))


def read_frame(lake: Objects, path: str) -> pl.DataFrame | None:
    """Return a frame; None if it does not exist.

    Raises:
        CorruptArtifactError: it is damaged, or belongs to another path.
    """
    try:
        text = lake.read(path, limit=_MOST_BYTES)
    except MissingArtifactError:
        return None
    found = unseal(text, _SealedFrame, where=path, what=_WHAT, fix=_FIX)
    if found.path != lake.relative(path):
        raise CorruptArtifactError(f"{path} is {_WHAT} that belongs to {found.path}. {_FIX}")
    try:
        return pl.read_parquet(io.BytesIO(base64.b64decode(found.parquet, validate=True)))
    except (binascii.Error, pl.exceptions.PolarsError) as error:
        raise CorruptArtifactError(f"{path} is not {_WHAT}: {error}. {_FIX}") from error
