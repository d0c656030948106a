"""The manifest beside every artifact: what it is, what it was made from, by which code, where and at what cost.

Its text ends with a digest of itself, so that an edited one is noticed. Finding and reading files stays out; see
`ml_assets.lake.manifests`.
"""

import functools
import re
from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.sealing import seal, seal_problem, unsealed

SCHEMA_VERSION: Final = 1
"""The version of the manifest's format; the engine reads this one and those of earlier releases."""
LEFT_OUT: Final = "left_out"
"""The parameter that counts, by reason, the rows that a step read and that are not in what it makes."""
ROWS_READ: Final = "rows_read"
"""The parameter of a table that says how many rows of the same day each table had from which it is made."""
FILES: Final = "files"
"""The parameter of a raw table that lists its source files, by partition."""
CHANGED_ROWS: Final = "changed_rows"
"""The parameter of a raw table that counts the rows which differ from the landing before, by partition."""
MOST_BYTES: Final = 64 * 2**20
"""A manifest names each file and input in about 150 bytes: this is room for 400,000 of them."""


@functools.lru_cache(maxsize=65_536)
def _safe_path(value: str) -> str:
    """Refuse names that would leave the lake.

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


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArtifactRef(_Record):
    """One version of one artifact: `raw/orders`, partition `2013-01-01`, version `1f3a…`."""

    asset: SafePath
    partition: SafePath | None = None
    version: Version

    def __str__(self) -> str:
        where = self.asset if self.partition is None else f"{self.asset}[{self.partition}]"
        return f"{where}@{self.version[:12]}"


class FileEntry(_Record):
    """One file of an artifact.

    Attributes:
        digest: the BLAKE3 hash of its bytes, with 128 bits: a flipped bit is noticed.
        etag: what the object store said of it when it was written: a replaced object is noticed without reading it.
        rows: of a frame; its reader takes no more than these, whatever the file says.
    """

    name: SafePath
    bytes: int = Field(ge=0)
    digest: Version
    etag: str | None = None
    rows: int | None = Field(default=None, ge=0)


class Asked(_Record):
    """What the pod of a step was given, whether it used it or not; None where nobody knows, as outside of a cluster.

    Attributes:
        cpu: cores.
    """

    cpu: float | None = Field(default=None, ge=0)
    memory_bytes: int | None = Field(default=None, ge=0)
    gpus: int | None = Field(default=None, ge=0)
    gpu_type: str | None = None


class Cost(_Record):
    """What an artifact's share of its step took, and what the step was given.

    A step that makes several artifacts spreads its seconds over them, so that their sum is the step's. Memory and what
    was asked for are amounts at a time: they are whole in each share, and multiplied by its seconds. Attempts that fail
    make no artifact, so what they took is in none.

    Attributes:
        seconds: from the loading of the first input on; writing the artifact itself is not in it.
        cpu_seconds: user and system, of the step's process and of what it started and waited for.
        peak_memory_bytes: most that was resident at once, at most; see `ml_assets.lake.usage`.
        gpu_seconds: how long the GPUs that were asked for were busy; None where nobody could tell.
        parts: how many artifacts the step's seconds, or those of its part, were spread over.
    """

    seconds: float = Field(ge=0)
    cpu_seconds: float | None = Field(default=None, ge=0)
    peak_memory_bytes: int | None = Field(default=None, ge=0)
    gpu_seconds: float | None = Field(default=None, ge=0)
    parts: int = Field(default=1, ge=1)
    asked: Asked = Asked()

    def share(self, parts: int, *, of: float = 1.0) -> "Cost":
        """Return what each of several artifacts bears of it, or of a share of it."""
        part = of / parts
        return self.model_copy(
            update={
                "parts": parts,
                "seconds": self.seconds * part,
                "cpu_seconds": None if self.cpu_seconds is None else self.cpu_seconds * part,
                "gpu_seconds": None if self.gpu_seconds is None else self.gpu_seconds * part,
            }
        )


class Manifest(_Record):
    """Everything needed to say where an artifact came from, without any database.

    Attributes:
        number: which publication of its partition it is, counted from 1; see `ml_assets.lake.order`.
        created_at: for people; it orders nothing, as clocks differ.
        input_numbers: which publication each input was, in the order of the inputs; 0 where nobody knows.
        attempt: how often the step had been tried before in this run.
        step: the step of the run that made it, whose record stands under `runs/`.
        seconds: this artifact's share of what its step's body took.
        peak_memory_bytes: most that its step held at once, whatever else it made.
        cost: this artifact's share of what its step took; None if no step made it.
        missing_days: by asset, the days that were missing of what it is made from, directly or not; only where a
            declaration allows gaps.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    asset: SafePath
    partition: SafePath | None = None
    version: Version
    number: int = Field(default=1, ge=1)
    created_at: datetime
    inputs: tuple[ArtifactRef, ...] = ()
    input_numbers: tuple[int, ...] = ()
    parameters: dict[str, JsonValue] = {}
    code_version: str | None = None
    git_commit: str | None = None
    git_is_dirty: bool | None = None
    environment: str | None = None
    run_id: str | None = None
    step: str | None = None
    attempt: int | None = None
    rows: int | None = None
    columns: dict[str, str] | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    cost: Cost | None = None
    missing_days: dict[str, tuple[str, ...]] = {}
    files: tuple[FileEntry, ...]

    @model_validator(mode="after")
    def _each_input_has_a_number(self) -> Self:
        if len(self.inputs) != len(self.input_numbers):
            raise ValueError(f"expected a number for each of {len(self.inputs)} inputs, got {len(self.input_numbers)}")
        return self

    @property
    def ref(self) -> ArtifactRef:
        """The artifact this manifest stands beside."""
        return ArtifactRef(asset=self.asset, partition=self.partition, version=self.version)

    @property
    def numbered_inputs(self) -> list[tuple[ArtifactRef, int]]:
        """What it was made from, each with the number of its publication; 0 where nobody knows."""
        return [*zip(self.inputs, self.input_numbers, strict=True)]

    def text(self) -> bytes:
        """Return the manifest as it is kept: JSON whose last member is the digest of what stands before it."""
        return seal(self, exclude=set() if self.missing_days else {"missing_days"})

    @classmethod
    def read(cls, text: bytes, where: str) -> "Manifest":
        """Return the manifest of a text.

        Raises:
            CorruptArtifactError: it is not a manifest, was edited, or has a later version than this engine reads.
        """
        if (version := _version(text)) > SCHEMA_VERSION:
            raise CorruptArtifactError(
                f"{where} is a manifest of version {version}, but the installed ml-assets reads versions up to "
                f"{SCHEMA_VERSION}. Upgrade ml-assets."
            )
        body = unsealed(text)
        if (problem := seal_problem(text)) is not None or body is None:
            what = "a manifest" if body is None else "the manifest that was written"
            raise CorruptArtifactError(f"{where} is not {what}: {problem}.")
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise CorruptArtifactError(f"{where} is not a manifest ({place}: {first['msg']}).") from error


def _version(text: bytes) -> int:
    """Return the version of a manifest's format; 0 if the text does not state any."""
    found = re.search(rb'"schema_version": (\d{1,9})\b', text[:100])
    return int(found[1]) if found else 0
