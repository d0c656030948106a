"""The manifest of an artifact: what it is, its inputs, code, origin and cost.

Its text ends with a digest of itself, so that edits are noticed. Not here: finding and reading manifests (see
`ml_assets.lake.manifests`).
"""

import functools
from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from ml_assets.contracts.json_record import Record
from ml_assets.lake.sealing import seal, unseal

EXCLUDED_ROWS: Final = "excluded_rows"
"""The parameter with the counts, by reason, of rows that a step read but did not include in its output."""
ROWS_READ: Final = "rows_read"
"""The parameter of a table with the row counts of its inputs for the same day."""
FILES: Final = "files"
"""The parameter of a raw table that lists its source files by partition."""
CHANGED_ROWS: Final = "changed_rows"
"""The parameter of a raw table with the number of rows that differ from the previous landing, by partition."""
MOST_BYTES: Final = 64 * 2**20
"""A manifest needs about 150 bytes for each file and input. This is enough for 400,000 of them."""


@functools.lru_cache(maxsize=65_536)
def _safe_path(value: str) -> str:
    """Refuse names that would lead out of the lake.

    Raises:
        ValueError: `value` is empty, absolute, a URL, or has an empty, `.` or `..` part.
    """
    parts = value.split("/")
    if "\\" in value or ":" in value or any(part in {"", ".", ".."} or not part.isprintable() for part in parts):
        msg = f"'{value}' is not a name inside the lake; expected parts like 'raw/orders' without '..', ':' or '\\'."
        raise ValueError(msg)
    return value


SafePath = Annotated[str, AfterValidator(_safe_path)]
Version = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class ArtifactRef(Record):
    """One version of one artifact: `raw/orders`, partition `2013-01-01`, version `1f3a…`."""

    asset: SafePath
    partition: SafePath | None = None
    version: Version

    def __str__(self) -> str:
        where = self.asset if self.partition is None else f"{self.asset}[{self.partition}]"
        return f"{where}@{self.version[:12]}"


class FileEntry(Record):
    """One file of an artifact.

    Attributes:
        digest: the 128-bit BLAKE3 hash of its bytes.
        etag: the object store's ETag when it was written, so that a replaced object is noticed without reading it.
        rows: the rows of a frame. Readers read no more, whatever the file claims.
    """

    name: SafePath
    bytes: int = Field(ge=0)
    digest: Version
    etag: str | None = None
    rows: int | None = Field(default=None, ge=0)


class PodResources(Record):
    """The resources that a step's pod requested; None if unknown, as outside of a cluster.

    Attributes:
        cpu: cores.
    """

    cpu: float | None = Field(default=None, ge=0)
    memory_bytes: int | None = Field(default=None, ge=0)
    gpus: int | None = Field(default=None, ge=0)
    gpu_type: str | None = None


class Cost(Record):
    """An artifact's share of the cost of its step.

    If a step produces several artifacts, its seconds are divided among them. Memory and requested resources are not
    divided, because they are multiplied by the seconds. Failed attempts produce no artifact, so their cost is recorded
    separately.

    Attributes:
        seconds: from loading the first input on, without writing the artifact itself.
        cpu_seconds: user and system time of the step's process and of the children that it waited for.
        peak_memory_bytes: an upper bound of the memory resident at once; see `ml_assets.lake.usage`.
        gpu_seconds: how long the requested GPUs were busy; None if unknown.
        parts: the number of artifacts that the seconds were divided among.
        requested: the resources of the step's pod.
    """

    seconds: float = Field(ge=0)
    cpu_seconds: float | None = Field(default=None, ge=0)
    peak_memory_bytes: int | None = Field(default=None, ge=0)
    gpu_seconds: float | None = Field(default=None, ge=0)
    parts: int = Field(default=1, ge=1)
    requested: PodResources = PodResources()

    def share(self, parts: int, *, of: float = 1.0) -> "Cost":
        """Return the cost of one of several artifacts that share this cost, or share the fraction `of` it."""
        part = of / parts
        return self.model_copy(
            update={
                "parts": parts,
                "seconds": self.seconds * part,
                "cpu_seconds": None if self.cpu_seconds is None else self.cpu_seconds * part,
                "gpu_seconds": None if self.gpu_seconds is None else self.gpu_seconds * part,
            }
        )


class Manifest(Record):
    """The complete origin of an artifact, readable without any database.

    Attributes:
        number: the publication's number in its partition, from 1; see `ml_assets.lake.order`.
        created_at: for people. It orders nothing, because clocks differ.
        input_numbers: the publication number of each input, in the order of the inputs; 0 if unknown.
        retry_number: the number of earlier attempts of the step in this run.
        step: the step that produced it, whose record is under `runs/`.
        seconds: this artifact's share of the duration of its step's body.
        peak_memory_bytes: the peak memory of its step.
        cost: this artifact's share of its step's cost; None if no step produced it.
        missing_days: by asset, the missing days of its direct and indirect inputs. Only if a declaration allows gaps.
    """

    asset: SafePath
    partition: SafePath | None = None
    version: Version
    number: int = Field(default=1, ge=1)
    created_at: datetime
    inputs: tuple[ArtifactRef, ...] = ()
    input_numbers: tuple[int, ...] = ()
    parameters: dict[str, JsonValue] = Field(default={})
    code_version: str | None = None
    git_commit: str | None = None
    git_is_dirty: bool | None = None
    environment: str | None = None
    run_id: str | None = None
    step: str | None = None
    retry_number: int | None = None
    rows: int | None = None
    columns: dict[str, str] | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    cost: Cost | None = None
    missing_days: dict[str, tuple[str, ...]] = Field(default={})
    files: tuple[FileEntry, ...]

    @model_validator(mode="after")
    def _each_input_has_a_number(self) -> Self:
        if len(self.inputs) != len(self.input_numbers):
            raise ValueError(f"expected a number for each of {len(self.inputs)} inputs, got {len(self.input_numbers)}")
        return self

    @property
    def ref(self) -> ArtifactRef:
        """The artifact that this manifest describes."""
        return ArtifactRef(asset=self.asset, partition=self.partition, version=self.version)

    @property
    def numbered_inputs(self) -> list[tuple[ArtifactRef, int]]:
        """The inputs, each with the number of its publication; 0 if unknown."""
        return [*zip(self.inputs, self.input_numbers, strict=True)]

    def text(self) -> bytes:
        """Return the manifest as it is stored: JSON whose last member is a digest of the text before it."""
        return seal(self, exclude=set() if self.missing_days else {"missing_days"})

    @classmethod
    def read(cls, text: bytes, where: str) -> "Manifest":
        """Parse the text of a manifest.

        Raises:
            CorruptArtifactError: it is not a manifest, or was edited.
            FormatVersionError: a newer release wrote it.
        """
        return unseal(text, cls, where=where, what="a manifest", fix="")
