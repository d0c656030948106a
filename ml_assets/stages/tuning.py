"""Tuning: every trial of the study, and the best parameters.

Training with them stays out; see `ml_assets.stages.model`.
"""

import time

import dagster as dg

from ml_assets.contracts.artifacts import Importances, TrainingSet, Tuning
from ml_assets.logic.tuning import tune
from ml_assets.stages.common import ModelPlan, image, previous_study, stage
from resources.lake import LakeResource


def tuning(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's tuning."""
    declared = plan.declaration

    @dg.asset(
        **stage(plan, "tuning", tune, kinds={"optuna", "lightgbm"}, parameters={
            "settings": declared.tuning, "metric": declared.tuning_metric, "seed": declared.seed,
            "device": declared.training.device,
        }),
        ins={
            "training_set": dg.AssetIn(plan.asset("training_set")),
            "importances": dg.AssetIn(plan.asset("importances")),
        },
    )  # fmt: skip
    def tuning(
        context: dg.AssetExecutionContext, training_set: TrainingSet, importances: Importances, lake: LakeResource
    ) -> Tuning:
        """Optuna's search on the validation window; a study on the same inputs goes on where it stopped."""
        from ml_assets.logic.plots import tuning_plot

        settings = declared.tuning
        result = tune(
            training_set,
            features=importances.summary.kept,
            metric=declared.tuning_metric,
            trials=settings.trials,
            seed=declared.seed,
            threads=declared.training.threads,
            device=declared.training.device,
            fixed=settings.fixed,
            previous=previous_study(lake.open(), plan, context),
            rounds=settings.max_rounds,
            early_stopping=settings.early_stopping_rounds,
            seconds=settings.seconds,
            clock=time.perf_counter,
            on_trial=lambda done, total, best: context.log.info(f"trial {done} of {total}, best so far {best}"),
        )
        context.add_output_metadata(
            {
                "plot": image(tuning_plot(result), "trials of the study"),
                f"best {result.best.metric}": result.best.value,
                "rounds": result.best.rounds,
                "trials": result.best.trials,
                "pruned": result.best.pruned,
                "parameters": dg.MetadataValue.json(dict(result.best.parameters)),
            }
        )
        return result

    return tuning
