"""Reads the request log of a model.

Not here: when a period of the log is complete (see `ml_assets.lake.request_files`), and comparing its rows with the
batch path (see `ml_assets.models.parity`).
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from pydantic import JsonValue, ValidationError

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted
from ml_assets.lake.content import bytes_digest
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.request_files import FACTS, REQUESTS, LogFacts, files_by_period, names_of_files
from ml_assets.lake.store import Lake
from ml_assets.logic.monitoring.requests import LoggedRows, rows_of_requests
from ml_assets.models.plan import ModelPlan

_UNREADABLE: Final = (
    pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, KeyError, ValidationError, DataError,
)  # fmt: skip


@dataclass(frozen=True)
class Logged:
    """The rows of a period of the request log, and the files that they were read from, with their digests."""

    rows: pl.DataFrame
    files: list[JsonValue]


def read_requests(lake: Lake, plan: ModelPlan, keys: Sequence[str]) -> dict[str, Logged]:
    """Return the requests of periods.

    Raises:
        DataError: files are gone that an earlier version of a period was built from.
        CorruptArtifactError: a file cannot be read.
        LakeError: the lake cannot be read.
    """
    files = files_by_period(lake, plan.name, plan.calendar, keys)
    asset = plan.asset("requests").to_user_string()
    known = lake.manifest_of_each([*lake.newest(asset, keys).values()]).values()
    for manifest in known:
        if gone := names_of_files(manifest) - {*files.get(manifest.partition or "", ())}:
            raise DataError(
                f"of the request log, {counted(len(gone), 'file')} of {manifest.ref} cannot be found, such as "
                f"{REQUESTS}/{plan.name}/{min(gone)}; expected all of them. Its rows would be lost, so it is not built "
                "again. It stays as it is."
            )
    return {key: _read_period(lake, plan, files.get(key, ())) for key in keys}


def files_digest(logged: Mapping[str, Logged]) -> str:
    """Return the digest of all files of some periods, which a trace shows as their source."""
    return bytes_digest(json.dumps([it.files for it in logged.values()]).encode())


def _read_period(lake: Lake, plan: ModelPlan, names: Sequence[str]) -> Logged:
    read = lake.map(lambda name: _read_file(lake, plan, name), names)
    return Logged(rows_of_requests([rows for rows, _ in read]), [facts for _, facts in read])


def _read_file(lake: Lake, plan: ModelPlan, name: str) -> tuple[LoggedRows, JsonValue]:
    path = lake.path(REQUESTS, plan.name, name)
    data = lake.read(path)
    try:
        facts = LogFacts.model_validate_json(pl.read_parquet_metadata(io.BytesIO(data))[FACTS])
        rows = LoggedRows(pl.read_parquet(io.BytesIO(data)), facts.sample, facts.hashed)
    except _UNREADABLE as error:
        raise CorruptArtifactError(
            f"{path} is not a file of the request log of this release ({type(error).__name__}: {error}). Restore it "
            "from a backup. If there is none, remove it: what was built from it stays as it is, and what was not built "
            "yet lacks its rows."
        ) from error
    return (
        rows,
        {"name": name, "bytes": len(data), "digest": bytes_digest(data)},
    )
