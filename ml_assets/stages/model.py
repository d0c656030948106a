"""The model: the challenger, trained with the best parameters on the train window alone.

Whether it is any good stays out; see `ml_assets.stages.evaluation`.
"""

import json
from dataclasses import replace

import dagster as dg

from ml_assets.contracts.artifacts import Importances, Model, TrainingSet, Tuning
from ml_assets.contracts.record import ContractRecord
from ml_assets.contracts.schema import request_schema
from ml_assets.logic.drift import importance_weights, sketch_reference
from ml_assets.logic.model import fit, predict
from ml_assets.stages.common.asset import stage
from ml_assets.stages.common.plan import ModelPlan


def train(plan: ModelPlan, training_set: TrainingSet, importances: Importances, tuning: Tuning) -> Model:
    """Return the trained model with its contract, its features' weights and the sketch of what it was trained on."""
    declared = plan.declaration
    trained = fit(
        training_set,
        features=tuning.best.features,
        parameters=tuning.best.parameters,
        rounds=tuning.best.rounds,
        seed=declared.seed,
        threads=declared.training.threads,
        device=declared.training.device,
        unseen=declared.training.unseen,
        reference=training_set.rows.clear(),
    )
    rows = training_set.part("train")
    scores = predict(trained.booster, trained.spec, rows, threads=declared.training.threads)
    read = [feature.name for feature in trained.spec.features]
    weights = importance_weights(importances.table, read)
    return replace(
        trained,
        spec=trained.spec.model_copy(update={"weights": weights}),
        reference=sketch_reference(rows, features=trained.spec.features, score=scores["score"], days=rows["day"]),
        contract=ContractRecord.of(plan.inputs_contract),
        request=json.dumps(request_schema(plan.inputs_contract, read), indent=1, ensure_ascii=False) + "\n",
    )


def model(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's challenger."""
    declared = plan.declaration

    @stage(
        plan, "model", train, kinds={"lightgbm"}, parameters={
            "training": declared.training, "seed": declared.seed,
        },
        ins={name: dg.AssetIn(plan.asset(name)) for name in ("training_set", "importances", "tuning")},
    )  # fmt: skip
    def model(
        context: dg.AssetExecutionContext, training_set: TrainingSet, importances: Importances, tuning: Tuning
    ) -> Model:
        """The challenger: LightGBM text, its contract, vocabularies and a reference sketch of its training data."""
        result = train(plan, training_set, importances, tuning)
        spec = result.spec
        context.add_output_metadata(
            {
                "features": len(spec.features),
                "rounds": spec.rounds,
                "training rows": spec.training_rows,
                "trained on": f"{spec.trained_first_day} to {spec.trained_last_day}",
                "size (kB)": round(len(result.booster) / 1000),
            }
        )
        return result

    return model
