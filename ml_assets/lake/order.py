"""Which publication of a partition came after which: numbered records, so that no clock decides.

    order/<asset>/[<partition>/]000001.json

A writer stores its files, then its manifest, and last the record of the next number, which is created only if it is
absent: the record publishes the artifact. The highest number is current. Manifests carry the number in their names, so
a listing says which manifest belongs to which record; records are read only where two manifests carry the same number.
Reading artifacts by their order is in `ml_assets.lake.manifests`, writing them in `ml_assets.lake.store`.
"""

import hashlib
import re
import uuid
from collections.abc import Iterable
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.manifest import ArtifactRef, Manifest, SafePath, Version
from ml_assets.lake.sealing import seal, unseal

ORDER: Final = "order"
"""The part of the lake that holds the records."""

MANIFEST_NAME: Final = re.compile(r"manifest-(\d{6,})-([0-9a-f]{8})[0-9a-f]{8}\.json")
"""Number of the publication, digest of the run, and what tells two attempts apart."""

_RECORD_NAME: Final = re.compile(r"(\d{6,})\.json")
_MOST_BYTES: Final = 64 * 2**10


class OrderRecord(BaseModel):
    """One publication of a partition.

    Attributes:
        number: counted from 1 in each partition.
        manifest: the name of its manifest in the version's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    asset: SafePath
    partition: SafePath | None = None
    number: int = Field(ge=1)
    version: Version
    manifest: SafePath
    run_id: str | None = None

    @classmethod
    def of(cls, manifest: Manifest, name: str) -> "OrderRecord":
        """Return the record that publishes a manifest stored under a name."""
        return cls(
            asset=manifest.asset,
            partition=manifest.partition,
            number=manifest.number,
            version=manifest.version,
            manifest=name,
            run_id=manifest.run_id,
        )

    @property
    def ref(self) -> ArtifactRef:
        """The artifact that it publishes."""
        return ArtifactRef(asset=self.asset, partition=self.partition, version=self.version)

    @property
    def path(self) -> str:
        """Where it belongs, from the lake's root."""
        return f"{order_folder(self.asset, self.partition)}/{self.number:06d}.json"

    def text(self) -> bytes:
        """Return it as it is stored, sealed like a manifest."""
        return seal(self)

    @classmethod
    def read(cls, text: bytes, where: str) -> "OrderRecord":
        """Return the record of a text.

        Raises:
            CorruptArtifactError: it is not one, was edited, or belongs elsewhere.
        """
        record = unseal(text, cls, where=where, what="the record of a publication")
        if not f"/{where}".endswith(f"/{record.path}"):
            raise CorruptArtifactError(f"{where} is the record of {record.path}; put it back there.")
        return record


def order_folder(asset: str, partition: str | None) -> str:
    """Return the folder of a partition's records, from the lake's root."""
    return "/".join([ORDER, asset, *([partition] if partition else [])])


def record_numbers(names: Iterable[str]) -> list[int]:
    """Return the numbers of the records among some file names, ascending."""
    return sorted(int(match[1]) for name in names if (match := _RECORD_NAME.fullmatch(name)))


def run_digest(run_id: str | None) -> str:
    """Return how the name of a manifest stands for its run."""
    return hashlib.blake2b((run_id or "").encode(), digest_size=4, usedforsecurity=False).hexdigest()


def manifest_name(manifest: Manifest, attempt: str | None = None) -> str:
    """Return a name for a manifest's file.

    Args:
        manifest: what is stored.
        attempt: eight hexadecimal digits that tell it from others of the same number; random if absent.
    """
    return f"manifest-{manifest.number:06d}-{run_digest(manifest.run_id)}{attempt or uuid.uuid4().hex[:8]}.json"


def number_in(name: str) -> int:
    """Return the number of the publication in the name of a manifest."""
    return int(name.rpartition("/")[2].split("-")[1])
