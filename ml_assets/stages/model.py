"""The model: the challenger, trained with the best parameters on the train window alone.

Not here: its evaluation (see `ml_assets.stages.evaluation`).
"""

from typing import Any

import dagster as dg

from ml_assets.contracts.artifacts.training import Model, TrainingSet, Tuning
from ml_assets.contracts.frames import check_frames, model_importances
from ml_assets.lake.resource import LakeResource
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import device_of, train
from ml_assets.stages.asset import stage


def model(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's challenger."""
    declared = plan.declaration
    drift = declared.drift

    @stage(
        plan, "model", train, kinds={plan.library}, parameters={
            "training": declared.training, "seed": declared.seed, "metric": declared.overall_metric,
            **({} if declared.intervals is None else {"intervals": declared.intervals}),
            "pool_days": drift.pool_days, "pooled_rows": drift.min_rows if drift.pool_days > 1 else None,
        },
        ins={name: dg.AssetIn(plan.asset(name)) for name in ("training_set", "tuning")},
    )  # fmt: skip
    def model(
        context: dg.AssetExecutionContext, training_set: TrainingSet, tuning: Tuning, ml_assets_lake: LakeResource
    ) -> Model:
        """The challenger: its text, contract, vocabularies, importances and the reference of its training data."""
        result = train(plan, training_set, tuning)
        check_frames([result.importances], model_importances(is_explained=result.spec.estimator is None))
        fell_back = device_of(plan).facts()
        ml_assets_lake.ledger().note(**fell_back)
        context.add_output_metadata({**_metadata(result, declared.overall_metric), **fell_back})
        return result

    return model


def _metadata(model: Model, metric: str) -> dict[str, Any]:
    from ml_assets.logic.plots.drawing import as_markdown_image
    from ml_assets.logic.plots.training import importance_plot

    spec = model.spec
    plot = as_markdown_image(importance_plot(model.importances, metric), "importance of each feature")
    return {
        "importances": dg.MetadataValue.md(plot),
        "features": len(spec.features),
        "estimator": spec.estimator or "LightGBM",
        **({} if spec.rounds is None else {"rounds": spec.rounds}),
        "training rows": spec.training_rows,
        "trained on": f"{spec.first_training_day} to {spec.last_training_day}",
        "size (kB)": round(len(model.text) / 1000),
    }
