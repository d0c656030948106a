"""The order of a partition's publications: numbered records, so that no clock decides which version is current.

    order/<asset>/[<partition>/]000001.json

A writer stores its files, then its manifest, and last the record with the next number, which is created only if it does
not exist. The record publishes the artifact. The highest number is current. Manifests have the number in their names,
so a listing shows which manifest belongs to which record. Records are read only if two manifests have the same number.

Not here: reading artifacts (see `ml_assets.lake.manifests`) and writing them (see `ml_assets.lake.store`).
"""

import hashlib
import re
import uuid
from collections.abc import Iterable
from typing import Final

from pydantic import Field

from ml_assets.contracts.json_record import Record
from ml_assets.lake.manifest import ArtifactRef, Manifest, SafePath, Version
from ml_assets.lake.numbered_log import NumberedLog

ORDER: Final = "order"
"""The folder of the records in the lake."""

MANIFEST_NAME: Final = re.compile(r"manifest-(\d{6,})-([0-9a-f]{8})[0-9a-f]{8}\.json")
"""Number of the publication, digest of the run, and random digits."""

_RECORD_NAME: Final = re.compile(r"(\d{6,})\.json")


class OrderRecord(Record):
    """One publication of a partition.

    Attributes:
        number: from 1 in each partition.
        manifest: the name of its manifest in the version's folder.
    """

    asset: SafePath
    partition: SafePath | None = None
    number: int = Field(ge=1)
    version: Version
    manifest: SafePath
    run_id: str | None = None

    @classmethod
    def of(cls, manifest: Manifest, name: str) -> "OrderRecord":
        """Return the record that publishes a manifest with this file name."""
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
        """The published artifact."""
        return ArtifactRef(asset=self.asset, partition=self.partition, version=self.version)

    @property
    def path(self) -> str:
        """The record's path relative to the lake's root."""
        return f"{order_folder(self.asset, self.partition)}/{self.number:06d}.json"


RECORDS: Final = NumberedLog("the record of a publication", OrderRecord, lambda it: it.path)


def order_folder(asset: str, partition: str | None) -> str:
    """Return the folder of a partition's records, relative to the lake's root."""
    return "/".join([ORDER, asset, *([partition] if partition else [])])


def record_numbers(names: Iterable[str]) -> list[int]:
    """Return the record numbers among some file names, ascending."""
    return sorted(int(match[1]) for name in names if (match := _RECORD_NAME.fullmatch(name)))


def run_digest(run_id: str | None) -> str:
    """Return the digest that represents a run in the names of manifests."""
    return hashlib.blake2b((run_id or "").encode(), digest_size=4, usedforsecurity=False).hexdigest()


def manifest_name(manifest: Manifest, attempt: str | None = None) -> str:
    """Return a file name for a manifest.

    Args:
        manifest: the manifest.
        attempt: eight hexadecimal digits that distinguish manifests with the same number; random if absent.
    """
    return f"manifest-{manifest.number:06d}-{run_digest(manifest.run_id)}{attempt or uuid.uuid4().hex[:8]}.json"


def number_in(name: str) -> int:
    """Return the publication number in a manifest's name."""
    return int(name.rpartition("/")[2].split("-")[1])
