"""Evaluation: the challenger on the frozen test rows, beside baselines and the champion.

What follows from it stays out; see `ml_assets.stages.champion`.
"""

import dagster as dg
import polars as pl

from ml_assets.contracts.artifacts import Evaluation, Model, TrainingSet
from ml_assets.contracts.table import TableContract
from ml_assets.logic.evaluation import evaluate
from ml_assets.logic.model import predict
from ml_assets.logic.predictions import input_changes
from ml_assets.stages.common.asset import image, stage
from ml_assets.stages.common.champions import Champion, champion_model
from ml_assets.stages.common.plan import ModelPlan
from resources.lake_resource import LakeResource


def evaluation(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's evaluation."""
    declared = plan.declaration

    @stage(
        plan, "evaluation", [evaluate, predict], kinds={"polars", "lightgbm"}, parameters={
            "settings": declared.evaluation, "metric": declared.metric, "seed": declared.seed,
        },
        ins={"training_set": dg.AssetIn(plan.asset("training_set")), "model": dg.AssetIn(plan.asset("model"))},
    )  # fmt: skip
    def evaluation(
        context: dg.AssetExecutionContext, training_set: TrainingSet, model: Model, lake: LakeResource
    ) -> Evaluation:
        """Metrics with intervals, slices, calibration and curves on rows that the model has not seen."""
        from ml_assets.logic.plots.evaluation import evaluation_plots

        versions = lake.open().versions_read()
        rows = training_set.part("test")
        champion = champion_model(lake.open(), plan)
        champion_scores, cannot = _scores_of(champion, rows, plan.inputs_contract)
        result = evaluate(
            rows=rows,
            scores=predict(model.booster, model.spec, rows, threads=declared.training.threads),
            train=training_set.part("train"),
            summary=training_set.summary,
            model_name=plan.name,
            model_version=versions.get(f"{plan.name}/model", ""),
            training_set_version=versions.get(f"{plan.name}/training_set", ""),
            metric=declared.metric,
            slices=declared.evaluation.slices,
            baseline_rates=declared.evaluation.baselines,
            seed=declared.seed,
            champion_scores=champion_scores,
            champion_version=None if champion is None else champion.version,
            champion_cannot_score=cannot,
            replicates=declared.evaluation.replicates,
            threads=declared.training.threads,
        )
        plots = evaluation_plots(result, classes=training_set.summary.classes)
        context.add_output_metadata(
            {
                **{name: figure.value for name, figure in result.summary.metrics.items()},
                **{
                    f"{name} interval": f"{figure.low:.4f} to {figure.high:.4f}"
                    for name, figure in result.summary.metrics.items()
                },
                **{name: image(svg, name) for name, svg in plots.items()},
                "test rows": result.summary.rows,
            }
        )
        return result

    return evaluation


def _scores_of(
    champion: Champion | None, rows: pl.DataFrame, inputs: TableContract
) -> tuple[pl.DataFrame | None, str | None]:
    """Return the champion's scores, or why it cannot score rows whose contract has changed since it was trained."""
    if champion is None:
        return None, None
    changes = [change.sentence for change in input_changes(champion.model, inputs) if not change.is_compatible]
    if changes:
        return None, " ".join(changes)
    gone = [feature.name for feature in champion.model.spec.features if feature.name not in rows.columns]
    if gone:
        return None, f"it wants {', '.join(gone)}, which the training set does not have."
    return predict(champion.model.booster, champion.model.spec, rows), None
