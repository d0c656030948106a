"""Runs one step of a run again, with the same inputs, parameters, partitions and configuration, in a scratch lake.

Not here: which code runs (see `ml_assets.cli.replay`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg

from ml_assets.adapters.dagster import DagsterMaxRetriesExceededError
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import Calendar, is_key
from ml_assets.lake.days import days_between
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.quarantine import REJECTED
from ml_assets.lake.request_files import REQUESTS, names_of_files
from ml_assets.lake.run_tags import range_tags
from ml_assets.lake.scratch import ScratchLake
from ml_assets.lake.steps import StepRecord
from ml_assets.lake.store import Lake
from ml_assets.orchestration.groups import SERVED
from ml_assets.provenance.comparison import artifact_differences

_MOST_DAYS: Final = 36_525
"""A century. A record with more days is damaged."""


@dataclass(frozen=True)
class Compared:
    """One artifact of a step: the original and the replayed one.

    Attributes:
        original: the original manifest; None if the step did not materialize it.
        replayed: the new manifest; None if the replay did not materialize it.
    """

    asset: str
    partition: str | None
    original: Manifest | None
    replayed: Manifest | None
    differences: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether both have the same content."""
        return self.original is not None and self.replayed is not None and not self.differences


def originals(source: Lake, record: StepRecord) -> dict[tuple[str, str], Manifest]:
    """Return what a step materialized, by asset and partition. A failed step has at most rejected rows."""
    days = partitions_of(record)
    found: dict[tuple[str, str], Manifest] = {}
    for asset in (*record.assets, *(f"{asset}{REJECTED}" for asset in record.assets)):
        refs = [ref for refs in source.versions(asset, days).values() for ref in refs]
        manifests = [one for made in source.map(source.manifests, refs) for one in made]
        for one in sorted(manifests, key=lambda manifest: manifest.number):
            if one.run_id == record.run_id and one.step in {record.step, None}:
                found[asset, one.partition or ""] = one
    return found


def partitions_of(record: StepRecord) -> list[str]:
    """Return the partitions that a step was requested for; [''] if its assets have none.

    Raises:
        DataError: they are not days, or too many.
    """
    if record.partitions is None:
        return [""]
    first, last = record.partitions
    if not (is_key(first) and is_key(last)):
        raise DataError(
            f"the step {record.step} of run {record.run_id} covers {' to '.join(record.partitions)}; expected days "
            "such as 2013-12-31."
        )
    calendar = Calendar(record.grain)
    if (calendar.last_day(last) - calendar.first_day(first)).days > _MOST_DAYS:
        raise DataError(
            f"the step {record.step} of run {record.run_id} covers {first} to {last}, which are too many days."
        )
    return calendar.between(first, last)


def narrowed(record: StepRecord, partition: str | None) -> StepRecord:
    """Return the step restricted to one of its partitions.

    Raises:
        DataError: the partition does not belong to the step.
    """
    if partition is None:
        return record
    if record.partitions is None or partition not in partitions_of(record):
        covered = "no partition" if record.partitions is None else " to ".join(dict.fromkeys(record.partitions))
        raise DataError(f"the step {record.step} of run {record.run_id} covers {covered}, not '{partition}'.")
    return record.model_copy(update={"partitions": (partition, partition)})


def scratch_of(source: Lake, record: StepRecord, folder: Path) -> ScratchLake:
    """Return a scratch lake that contains what the step read.

    The step's record names the inputs that Dagster loaded, and the manifests of its artifacts name the inputs that its
    body read. Everything else is as it was when the step began.
    """
    stored = originals(source, record)
    pins = {ref for manifest in stored.values() for ref in manifest.inputs if not _is_own(ref, stored)}
    lake = ScratchLake(folder, source, at=record.started_at, pins=[*pins, *record.inputs], continues=record.continues)
    for model in {asset.split("/")[0] for asset in record.assets}:
        lake.fetch_promotions(model)
    for asset in record.assets:
        model, _, stage = asset.partition("/")
        if stage == SERVED[0]:
            lake.fetch_requests(model, _files_of_requests(source, record, model, stored))
    return lake


def _files_of_requests(
    source: Lake, record: StepRecord, model: str, stored: Mapping[tuple[str, str], Manifest]
) -> set[str]:
    """Return the files of the request log that a step has read; if it failed, all that it may have read."""
    if stored:
        return {name for manifest in stored.values() for name in names_of_files(manifest)}
    calendar, keys = Calendar(record.grain), partitions_of(record)
    around = calendar.first_day(keys[0]) - timedelta(days=1), calendar.last_day(keys[-1]) + timedelta(days=1)
    folders = [str(day) for day in days_between(*around)]
    return {f"{day}/{name}" for day in folders for name in source.names(source.path(REQUESTS, model, day))}


def _is_own(ref: ArtifactRef, stored: Mapping[tuple[str, str], Manifest]) -> bool:
    """Return whether an input belongs to a partition that the step materialized itself.

    Such an input is not pinned. If it is a table, the replay builds it again. If it is a raw day that did not change,
    its manifest names older rows than those at the start of the step.
    """
    return (ref.asset, ref.partition or "") in stored


def run_again(job: dg.JobDefinition, record: StepRecord) -> None:
    """Run a step in this process, in a run that is not recorded; the job's lake is a scratch lake.

    Raises:
        Exception: any error of the step, unchanged, so that a debugger stops at its origin.
    """
    tags = record.tags | range_tags(record.partitions or ())
    with dg.DagsterInstance.ephemeral() as instance:
        try:
            job.execute_in_process(
                instance=instance,
                run_id=record.run_id,
                asset_selection=[dg.AssetKey(asset.split("/")) for asset in record.assets],
                tags={**tags, "ml_assets/replay": record.step},
                run_config=_config(record),
                raise_on_error=True,
            )
        except DagsterMaxRetriesExceededError as error:
            raise _cause_of(error) from None


def _cause_of(error: DagsterMaxRetriesExceededError) -> BaseException:
    """Return the error of the last attempt of a step with a retry policy, instead of Dagster's own error."""
    cause = error.__context__
    return (cause.__cause__ if cause is not None else None) or error


def _config(record: StepRecord) -> dict[str, Any]:
    ops = {record.step: {"config": dict(record.config)}} if record.config else {}
    return {"ops": ops, "loggers": {"console": {}}}


def compare_replay(source: Lake, record: StepRecord, lake: ScratchLake) -> tuple[Compared, ...]:
    """Return the artifacts of a replayed step with their originals."""
    stored = originals(source, record)
    compared = []
    for asset, partition in sorted({**stored, **lake.made}):
        ref, original = lake.made.get((asset, partition)), stored.get((asset, partition))
        replayed = None if ref is None else lake.manifest(ref)
        found = artifact_differences((lake, replayed), (source, original)) if replayed and original else []
        found += _other_parameters(original, replayed) if found and replayed and original else []
        compared.append(Compared(asset, partition or None, original, replayed, tuple(found)))
    return tuple(compared)


def _other_parameters(then: Manifest, now: Manifest) -> list[str]:
    """Return the recorded parameters that differ for an artifact with other content, such as its source file."""
    return [
        f"built with another '{name}' than the original"
        for name in sorted({*then.parameters, *now.parameters})
        if then.parameters.get(name) != now.parameters.get(name)
    ]
