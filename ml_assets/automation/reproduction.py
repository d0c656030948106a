"""The weekly job that reproduces each champion from its manifest, and fails if a different model results.

Not here: how a model is trained again (see `ml_assets.provenance.retraining`).
"""

import logging
from typing import Final, Literal

import dagster as dg
from pydantic import Field

from ml_assets.automation.schedules import for_each_model
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.lake.errors import LakeError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.machine.temporary import temporary_folder
from ml_assets.names import prefixed
from ml_assets.orchestration.messages import asset_of_step
from ml_assets.project import find_project
from ml_assets.provenance.reproduction import ReproductionVerdict, last_verdict, store_verdict
from ml_assets.provenance.retraining import ModelRetraining, recorded_model
from ml_assets.stages.checks.reproduction import reproduction_result

TRAIN_AGAIN: Final = prefixed("train_again")
"""The op of the job."""


class ReproduceConfig(dg.Config):
    """The model to reproduce, and the stage to start from."""

    model: str = Field(description="A declared model, or MODEL@VERSION; the champion if no version is given.")
    start: Literal["training_set", "raw"] = Field(default="training_set", description="What it is rebuilt from.")


class _JobLog:
    """Repeats the messages of the training in the log of the job's run."""

    def __init__(self, logger: logging.Logger) -> None:
        self.errors: list[str] = []
        self._logger = logger

    def log(self, text: str) -> None:
        """Log a message."""
        self._logger.info(text)

    def log_failure(self, step: str, error: str, run_id: str) -> None:  # noqa: ARG002 - the training's runs are not recorded
        """Log the error of a failed step."""
        self.errors.append(f"{asset_of_step(step)} failed: {error}")
        self._logger.error(self.errors[-1])


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
    if not at and not PromotionLog(opened, name).verified().entries:
        context.log.info(f"{name} has no champion yet, so there is nothing to reproduce")
        return
    try:
        verdict = _verdict(opened, config, _JobLog(context.log))
    except (DataError, LakeError) as error:
        raise dg.Failure(f"{config.model} could not be trained again: {error}") from error
    if (result := reproduction_result(opened, name)) is not None:
        context.instance.report_runless_asset_event(dg.AssetCheckEvaluation(**result))
    facts: dict[str, dg.MetadataValue | str | float] = {
        "version": verdict.version,
        "seconds": verdict.seconds,
        "changes": dg.MetadataValue.json([*verdict.changes]),
        "outcomes": dg.MetadataValue.json([it.model_dump() for it in verdict.outcomes]),
    }
    if not verdict.is_reproduced:
        raise dg.Failure(f"{config.model} was not reproduced; a different model resulted.", metadata=facts)
    context.add_output_metadata(facts)


def _verdict(lake: Lake, config: ReproduceConfig, log: _JobLog) -> ReproductionVerdict:
    """Train again, with the original code if it has changed, and return the stored verdict.

    Raises:
        DataError: a step failed, or the inputs or the original code no longer exist.
    """
    declared = read_all(find_project().declarations)
    recorded = recorded_model(lake, declared, config.model, config.start)
    with temporary_folder("reproduce") as folder:
        again = ModelRetraining(lake, declared, recorded, config.start, folder, log)
        exit_code = again.run_original("--json")
        if exit_code is None:
            verdict = again.run()
            if verdict is not None:
                store_verdict(lake, verdict)
        else:
            log.log(
                f"the process with the original code ended with exit code {exit_code}; it logs to stdout and stderr"
            )
            verdict = last_verdict(lake, recorded.model, recorded.ref.version) if exit_code in {0, 1} else None
    if verdict is None:
        raise DataError("; ".join(log.errors) or "a step failed with the original code; see stderr of this step.")
    return verdict


@dg.job(name=prefixed("reproduce"), description="Train a model again from its manifest and compare the hashes.")
def reproduce_job() -> None:
    """Reproduce one model."""
    train_again()


def reproduction_schedule(declared: Declared) -> dg.ScheduleDefinition:
    """Return the schedule that reproduces each champion, weekly unless the declaration sets another time."""
    return for_each_model(
        declared,
        reproduce_job,
        name="reproduce_champions",
        key="reproduce",
        cron=declared.automation.schedules.reproduce_champions,
        cause="weekly reproduction",
        description="Trains each champion again from its manifest; the run fails if a different model results.",
    )
