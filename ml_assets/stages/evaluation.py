"""Evaluation: the challenger on the frozen test rows, beside baselines and the champion.

What follows from it stays out; see `ml_assets.stages.champion`.
"""

import dagster as dg

from ml_assets.contracts.artifacts import Evaluation, Model, TrainingSet
from ml_assets.stages.common.asset import image, stage
from ml_assets.stages.common.champions import champion_model
from ml_assets.stages.common.judging import Versioned, measure_challenger
from ml_assets.stages.common.plan import ModelPlan
from resources.lake_resource import LakeResource


def evaluation(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's evaluation."""
    declared = plan.declaration

    @stage(
        plan, "evaluation", measure_challenger, kinds={"polars", "lightgbm"}, parameters={
            "settings": declared.evaluation, "metric": declared.metric, "seed": declared.seed,
            "minimum_slice_rows": declared.gate.minimum_slice_rows,
        },
        ins={"training_set": dg.AssetIn(plan.asset("training_set")), "model": dg.AssetIn(plan.asset("model"))},
    )  # fmt: skip
    def evaluation(
        context: dg.AssetExecutionContext, training_set: TrainingSet, model: Model, lake: LakeResource
    ) -> Evaluation:
        """Metrics with intervals, slices, calibration and curves on rows that the model has not seen."""
        from ml_assets.logic.plots.evaluation import evaluation_plots

        versions = lake.open().versions_read()
        champion = champion_model(lake.open(), plan)
        result = measure_challenger(
            plan,
            training_set,
            Versioned(versions.get(f"{plan.name}/model", ""), model),
            None if champion is None else Versioned(champion.version, champion.model),
            training_set_version=versions.get(f"{plan.name}/training_set", ""),
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
