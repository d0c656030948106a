"""The manifest beside every artifact: what it is, what it was made from, by which code, where and at what cost.

Reading and writing files stays out; see `resources.lake`.
"""

import functools
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

SCHEMA_VERSION: Final = 1


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
    """One file of an artifact; `digest` is the BLAKE2b-128 of its bytes, so that a flipped bit is noticed."""

    name: SafePath
    bytes: int = Field(ge=0)
    digest: Version


class Manifest(_Record):
    """Everything needed to say where an artifact came from, without any database."""

    schema_version: Literal[1] = SCHEMA_VERSION
    asset: SafePath
    partition: SafePath | None = None
    version: Version
    created_at: datetime
    inputs: tuple[ArtifactRef, ...] = ()
    parameters: dict[str, JsonValue] = {}
    code_version: str | None = None
    git_commit: str | None = None
    git_is_dirty: bool | None = None
    environment: str | None = None
    run_id: str | None = None
    rows: int | None = None
    columns: dict[str, str] | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    files: tuple[FileEntry, ...]

    @property
    def ref(self) -> ArtifactRef:
        """The artifact this manifest stands beside."""
        return ArtifactRef(asset=self.asset, partition=self.partition, version=self.version)
