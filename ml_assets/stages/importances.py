"""Importances: selects the features that beat injected noise on several time folds.

Not here: the importances of the trained challenger (see `ml_assets.stages.model`).
"""

import dagster as dg

from ml_assets.contracts.artifacts.training import Importances, TrainingSet
from ml_assets.contracts.frames import check_frames, importances_table
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import compute_importances
from ml_assets.stages.asset import stage


def importances(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset that selects a model's features."""
    declared = plan.declaration

    @stage(
        plan, "importances", compute_importances, kinds={"lightgbm", "polars"}, parameters={
            "settings": declared.importances, "metric": declared.overall_metric, "seed": declared.seed,
        },
        ins={"training_set": dg.AssetIn(plan.asset("training_set"))},
    )  # fmt: skip
    def importances(context: dg.AssetExecutionContext, training_set: TrainingSet) -> Importances:
        """Gain and permutation importance of each feature against noise, and which features are selected."""
        from ml_assets.logic.plots.drawing import as_markdown_image
        from ml_assets.logic.plots.training import selection_plot

        result = compute_importances(
            plan, training_set, on_fold=lambda done, total: context.log.info(f"fold {done} of {total} measured")
        )
        check_frames([result.table], importances_table())
        context.add_output_metadata(
            {
                "plot": dg.MetadataValue.md(as_markdown_image(selection_plot(result), "each feature against noise")),
                "folds": dg.MetadataValue.table([dg.TableRecord(row) for row in result.folds.to_dicts()]),
                "selected": len(result.summary.selected),
                "dropped": ", ".join(result.summary.dropped) or "none",
                result.summary.metric: result.summary.score,
            }
        )
        return result

    return importances
