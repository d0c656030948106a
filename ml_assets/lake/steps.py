"""The record of a step: its inputs, settings and code, written before its body runs.

So a step that failed or was killed can be replayed too. Reading needs neither Dagster nor polars. Not here: writing
records (see `ml_assets.lake.resource`).

    runs/<run id>/<step>/<attempt>.json
    runs/<run id>/<step>/<attempt>.failed    the cost of a failed attempt, if its process could still write it
"""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, TypeVar

from pydantic import AwareDatetime, Field, JsonValue

from ml_assets.contracts.json_record import Record
from ml_assets.contracts.periods import BY_DAY, Grain
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.manifest import MOST_BYTES, ArtifactRef, Cost, SafePath
from ml_assets.lake.manifests import Manifests
from ml_assets.lake.sealing import RESTORE, seal, unseal

RUNS: Final = "runs"
FAILED: Final = ".failed"


class StepRecord(Record):
    """One attempt at a step.

    Attributes:
        continues: the runs that this run continues, newest first.
        retry_number: the number of earlier attempts in this run.
        assets: the step's assets.
        partitions: the first and the last requested partition; None if its assets have none.
        config: the run configuration of the step.
        inputs: the inputs that Dagster loaded before the body ran, without those that the body reads itself.
        code_versions: by asset.
        tags: the run's tags that say why it ran.
        grain: the grain of its partitions.
    """

    run_id: SafePath
    continues: tuple[SafePath, ...] = ()
    step: SafePath
    retry_number: int = Field(ge=0)
    assets: tuple[SafePath, ...]
    partitions: tuple[SafePath, SafePath] | None = None
    config: dict[str, JsonValue] = Field(default={})
    inputs: tuple[ArtifactRef, ...] = ()
    code_versions: dict[str, str | None] = Field(default={})
    git_commit: str | None = None
    git_is_dirty: bool | None = None
    environment: str | None = None
    started_at: datetime
    tags: dict[str, str] = Field(default={})
    grain: Grain = BY_DAY


def store_step(lake: Manifests, record: StepRecord) -> None:
    """Store a step's record.

    Raises:
        LakeError: the lake cannot be written.
    """
    folder = lake.path(RUNS, record.run_id, record.step)
    _create(lake, folder, record.retry_number, ".json", seal(record))


def _create(lake: Manifests, folder: str, attempt: int, suffix: str, text: bytes) -> None:
    try:
        lake.create(f"{folder}/{attempt}{suffix}", text)
    except FileExistsError:  # a restarted pod counts as the same attempt
        lake.create(f"{folder}/{attempt}-{uuid.uuid4().hex[:8]}{suffix}", text)


class Failure(Record):
    """The cost of a failed attempt at a step."""

    run_id: SafePath
    step: SafePath
    retry_number: int = Field(ge=0)
    failed_at: AwareDatetime
    cost: Cost


def store_failure(lake: Manifests, run_id: str, step: str, attempt: int, cost: Cost) -> None:
    """Store the cost of a failed attempt.

    Raises:
        LakeError: the lake cannot be written.
    """
    failure = Failure(run_id=run_id, step=step, retry_number=attempt, failed_at=datetime.now(tz=UTC), cost=cost)
    _create(lake, lake.path(RUNS, run_id, step), attempt, FAILED, seal(failure))


_Record = TypeVar("_Record", StepRecord, Failure)


def failures_of(lake: Manifests, run_id: str) -> Iterator[Failure]:
    """Yield a run's failed attempts, by step and attempt.

    Raises:
        CorruptArtifactError: a record is damaged, or belongs to another attempt.
    """
    yield from _records(lake, run_id, FAILED, Failure, "the record of a failed attempt")


def recorded_runs(lake: Manifests) -> list[str]:
    """Return the ids of all runs that have records."""
    return lake.names(lake.path(RUNS))


def steps_of(lake: Manifests, run_id: str) -> Iterator[StepRecord]:
    """Yield the records of a run's steps, by step and attempt.

    Raises:
        CorruptArtifactError: a record is damaged, or belongs to another attempt.
    """
    yield from _records(lake, run_id, ".json", StepRecord, "the record of a step")


def _records(lake: Manifests, run_id: str, suffix: str, kind: type[_Record], what: str) -> Iterator[_Record]:
    root = lake.path(RUNS, run_id)
    for name in lake.tree(root):
        if not name.endswith(suffix):
            continue
        path, (step, _, file) = f"{root}/{name}", name.rpartition("/")
        record = unseal(lake.read(path, limit=MOST_BYTES), kind, where=path, what=what)
        if (record.run_id, record.step, str(record.retry_number)) != (
            run_id,
            step,
            file.removesuffix(suffix).split("-")[0],
        ):
            raise CorruptArtifactError(
                f"{path} is {what} {record.step}, attempt {record.retry_number} of run {record.run_id}; expected the "
                f"record that its path names. {RESTORE}"
            )
        yield record


def find_run(lake: Manifests, run: str) -> str:
    """Return the id of the run that starts with `run`.

    Raises:
        MissingArtifactError: there is no such run, or more than one.
    """
    found = [one for one in recorded_runs(lake) if one.startswith(run)]
    if run in found:
        return run
    if len(found) != 1:
        raise MissingArtifactError(
            f"{len(found) or 'no'} runs with records in {lake.url} start with '{run}'"
            + (f": {', '.join(found[:5])}; give more characters." if found else "; see `ml-assets replay`.")
        )
    return found[0]


def last_attempt(lake: Manifests, run_id: str, asset: str) -> StepRecord:
    """Return the record of a run's last attempt at the step that materializes an asset, or at the step of that name.

    Raises:
        MissingArtifactError: no step of the run materializes it.
    """
    records = [*steps_of(lake, run_id)]
    matching = [record for record in records if asset in {*record.assets, record.step.replace("__", "/")}]
    if not matching:
        known = sorted({name for record in records for name in record.assets})
        raise MissingArtifactError(
            f"no step of run {run_id} makes '{asset}'; its steps make: {', '.join(known) or 'nothing that was stored'}."
        )
    return max(matching, key=lambda record: (record.retry_number, record.started_at))
