"""Tuning: the trials of the study, and the best parameters.

Not here: the training with them (see `ml_assets.stages.model`).
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from ml_assets.contracts.artifacts.training import Importances, TrainingSet, Tuning
from ml_assets.contracts.frames import TRIAL_COLUMNS, check_frames, trials_table
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.sealed_frame import read_frame, write_frame
from ml_assets.logic.tables.folds import validation_windows
from ml_assets.models.plan import ModelPlan
from ml_assets.models.shared_search import SharedSearch, with_tuning_in_run_pod
from ml_assets.models.training import device_of, search, search_settings
from ml_assets.stages.asset import stage

LONGER = ("trials", "seconds", "workers")
"""Settings that only change how long or how parallel the search is. A study continues when they change."""


class TuningConfig(dg.Config):
    """Run configuration of a search."""

    trials: int | None = Field(default=None, gt=0, description="Trials of the study; the declared number if absent.")
    first_parameters: dict[str, Any] | None = Field(
        default=None, description="Parameters to try first after the defaults, such as the champion's."
    )


@dataclass(frozen=True)
class Study:
    """The trials of a running search, stored in the lake after each trial, so that a killed process loses none."""

    ledger: StepLedger
    path: str
    identity: str

    @classmethod
    def of(cls, ledger: StepLedger, context: dg.AssetExecutionContext, first: Mapping[str, Any] | None) -> "Study":
        """Return the study of these inputs, this code and these settings."""
        key = context.asset_key
        spec = context.assets_def.specs_by_key[key]
        declared = spec.metadata["ml_assets/parameters"].data
        settings = {name: value for name, value in declared["settings"].items() if name not in LONGER}
        identity = [ledger.versions(), {**declared, "settings": settings}, spec.code_version, first]
        text = json.dumps(identity, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=16, usedforsecurity=False).hexdigest()
        return cls(ledger, ledger.lake.path("studies", key.path[0], f"{digest}.json"), digest)

    def trials(self) -> pl.DataFrame | None:
        """Return the finished trials; None if there are none."""
        return read_frame(self.ledger.lake, self.path)

    def keep(self, trials: pl.DataFrame) -> None:
        """Store the finished trials."""
        write_frame(self.ledger.lake, self.path, trials)


def tuning(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's tuning."""
    declared = plan.declaration

    @stage(
        with_tuning_in_run_pod(plan), "tuning", search, kinds={"optuna", plan.library}, parameters={
            "settings": declared.tuning, "metric": declared.tuning_metric, "seed": declared.seed,
            "device": declared.training.device,
        },
        ins={
            "training_set": dg.AssetIn(plan.asset("training_set")),
            "importances": dg.AssetIn(plan.asset("importances")),
        },
    )  # fmt: skip
    def tuning(
        context: dg.AssetExecutionContext,
        config: TuningConfig,
        training_set: TrainingSet,
        importances: Importances,
        ml_assets_lake: LakeResource,
    ) -> Tuning:
        """Optuna's search on the validation window; a study on the same inputs continues where it stopped.

        With several workers, trials run in that many processes or pods, in varying order.
        """
        study = Study.of(ml_assets_lake.ledger(), context, config.first_parameters)

        def on_trial(trials: pl.DataFrame, total: int) -> None:
            study.keep(trials)
            best = trials.filter("is_best").item(0, "value")
            context.log.info(f"trial {trials.height} of {total}, best {declared.tuning_metric} so far {best:z.4f}")

        given: dict[str, Any] = {"trials": config.trials, "first": config.first_parameters}
        previous = study.trials()
        if declared.tuning.workers > 1:
            together = SharedSearch(plan, context, study.ledger, study.identity)
            settings = search_settings(plan, importances, **given)
            result, facts = together.run(training_set, settings, previous=previous, on_trial=on_trial)
        else:
            given |= {"previous": previous, "clock": time.perf_counter, "on_trial": on_trial}
            result, facts = search(plan, training_set, importances, **given), {**device_of(plan).facts()}
        study.ledger.note(**facts)
        searched = [name for name in result.trials.columns if name not in TRIAL_COLUMNS]
        check_frames([result.trials], trials_table(searched, has_rounds=result.best.estimator is None))
        windows = (
            {}
            if declared.tuning.windows == 1
            else {"validation windows": sum(1 for _ in validation_windows(training_set, declared.tuning.windows))}
        )
        context.add_output_metadata({**_metadata(result), **windows, **facts})
        return result

    return tuning


def _metadata(result: Tuning) -> dict[str, Any]:
    from ml_assets.logic.plots.drawing import as_markdown_image
    from ml_assets.logic.plots.training import tuning_plot

    best = result.best
    return {
        "plot": dg.MetadataValue.md(as_markdown_image(tuning_plot(result), "trials of the study")),
        f"best {best.metric}": best.value,
        **({} if best.rounds is None else {"rounds": best.rounds}),
        "trials": best.trials,
        "pruned": best.pruned,
        "parameters": dg.MetadataValue.json(dict(best.parameters)),
    }
