"""Importances: which features carry the model, which do not beat noise, and how stable that is.

What is done with the answer stays out; see `ml_assets.stages.tuning`.
"""

import dagster as dg

from ml_assets.contracts.artifacts import Importances, TrainingSet
from ml_assets.contracts.frames import check_frames, importances_table
from ml_assets.stages.common.asset import image, stage
from ml_assets.stages.common.plan import ModelPlan
from ml_assets.stages.common.training import weigh


def importances(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's importances."""
    declared = plan.declaration

    @stage(
        plan, "importances", weigh, kinds={"lightgbm", "polars"}, parameters={
            "settings": declared.importances, "metric": declared.metric, "seed": declared.seed,
        },
        ins={"training_set": dg.AssetIn(plan.asset("training_set"))},
    )  # fmt: skip
    def importances(context: dg.AssetExecutionContext, training_set: TrainingSet) -> Importances:
        """Gain, permutation and mean |SHAP| of each feature, against noise and over time folds; which stay, and why."""
        from ml_assets.logic.plots.training import importance_plot

        result = weigh(
            plan, training_set, on_fold=lambda done, total: context.log.info(f"fold {done} of {total} measured")
        )
        check_frames([result.table], importances_table())
        context.add_output_metadata(
            {
                "plot": image(importance_plot(result), "importance of each feature"),
                "kept": len(result.summary.kept),
                "dropped": ", ".join(result.summary.dropped) or "none",
                result.summary.metric: result.summary.score,
            }
        )
        return result

    return importances
