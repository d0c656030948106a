"""The weekly job that reproduces each champion from its manifest, and fails if a different model results.

Not here: how a model is reproduced. The job calls `ml-assets reproduce` in a separate process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import dagster as dg
from pydantic import Field

from ml_assets.declaration.reading import Declared
from ml_assets.lake.resource import LakeResource
from ml_assets.names import CAUSE, MODEL, prefixed
from ml_assets.orchestration.groups import promotions
from ml_assets.project import PROJECT, find_project
from ml_assets.stages.checks.reproduction import reproduction_result

TRAIN_AGAIN: Final = prefixed("train_again")
"""The op of the job."""


class ReproduceConfig(dg.Config):
    """The model to reproduce, and the stage to start from."""

    model: str = Field(description="A declared model, or MODEL@VERSION; the champion if no version is given.")
    start: str = Field(default="training_set", pattern="^(training_set|raw)$", description="training_set or raw")


@dg.op(
    name=TRAIN_AGAIN,
    description="Train a model again from its manifest and compare the hashes; the verdict is stored in the lake.",
)
def train_again(context: dg.OpExecutionContext, config: ReproduceConfig, ml_assets_lake: LakeResource) -> None:
    """Reproduce one model.

    Raises:
        dagster.Failure: a different model resulted, or none.
    """
    opened = ml_assets_lake.connect()
    name, at, _ = config.model.partition("@")
    if not at and not promotions(opened, name).verified().entries:
        context.log.info(f"{name} has no champion yet, so there is nothing to reproduce")
        return
    command = [sys.executable, "-m", "ml_assets.cli.main", "reproduce", config.model, "--from", config.start, "--json"]
    environment = {**os.environ, "ML_ASSETS_LAKE": opened.url, PROJECT: str(find_project().root)}
    done = subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    for line in done.stderr.splitlines():
        context.log.info(line)
    if not done.stdout.strip():
        lines = done.stderr.strip().splitlines()
        raise dg.Failure(f"{config.model} could not be trained again: {lines[-1] if lines else done.returncode}")
    if (result := reproduction_result(opened, name)) is not None:
        context.instance.report_runless_asset_event(dg.AssetCheckEvaluation(**result))
    verdict: dict[str, Any] = json.loads(done.stdout)
    facts = {
        "version": verdict["version"],
        "seconds": verdict["seconds"],
        "changes": dg.MetadataValue.json(verdict["changes"]),
        "outcomes": dg.MetadataValue.json(verdict["outcomes"]),
    }
    if not (verdict["is_equal"] or (verdict.get("closeness") or {}).get("is_within_tolerance")):
        raise dg.Failure(f"{config.model} was not reproduced; a different model resulted.", metadata=facts)
    context.add_output_metadata(facts)


@dg.job(name=prefixed("reproduce"), description="Train a model again from its manifest and compare the hashes.")
def reproduce_job() -> None:
    """Reproduce one model."""
    train_again()


def reproduction_schedule(declared: Declared) -> dg.ScheduleDefinition:
    """Return the schedule that reproduces each champion, weekly unless the declaration sets another time."""
    times = declared.automation.schedules

    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at: datetime = context.scheduled_execution_time
        for model in declared.models:
            yield dg.RunRequest(
                run_key=f"reproduce/{model.name}/{at:%Y-%m-%dT%H:%M}",
                run_config={"ops": {TRAIN_AGAIN: {"config": {"model": model.name}}}},
                tags={MODEL: model.name, CAUSE: "weekly reproduction"},
            )
        if not declared.models:
            yield dg.SkipReason("no model is declared.")

    return dg.ScheduleDefinition(
        name=prefixed("reproduce_champions"),
        job=reproduce_job,
        cron_schedule=times.reproduce_champions,
        execution_timezone=times.timezone,
        execution_fn=requests,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Trains each champion again from its manifest; the run fails if a different model results.",
    )
