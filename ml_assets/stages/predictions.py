"""Predictions: the champion's scores for a day, each with model version and feature row.

Not here: online scoring (a later release).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.changes import ContractChange
from ml_assets.contracts.frames import check_frames, predictions_table
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.monitoring.predictions import check_inputs, check_question, input_changes, score_rows
from ml_assets.logic.training.model import predict
from ml_assets.models.champions import note_code_of_verdict, serving_champion
from ml_assets.models.plan import DAY, ModelPlan
from ml_assets.stages.asset import stage
from ml_assets.stages.checks.contract_rules import as_table

CHECK = "features_are_as_the_champion_was_trained_with"


def predictions(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's predictions."""
    declared = plan.declaration
    wanted = declared.features
    asset = plan.asset("predictions")

    @stage(
        plan, "predictions", [score_rows, predict, input_changes], kinds={"lightgbm", "parquet"}, by_day=True,
        ins={"features": dg.AssetIn(plan.asset("features"))},
        deps=[plan.asset("champion")],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK, asset=asset, blocking=True,
                description="The champion can score features of the current contract.",
            )
        ],
    )  # fmt: skip
    def predictions(
        context: dg.AssetExecutionContext, features: pl.DataFrame, ml_assets_lake: LakeResource
    ) -> Iterator[Any]:
        """The champion's scores, one row per feature row."""
        versions = ml_assets_lake.open().versions_read()
        champion = serving_champion(ml_assets_lake.open(), plan)
        model = champion.model
        note_code_of_verdict(ml_assets_lake.open(), plan)
        check_question(model.spec, version=champion.version, task=declared.task, target=declared.labels.target)
        changes = input_changes(model, plan.inputs_contract)
        yield _compared(changes, asset, is_known=model.contract is not None)
        check_inputs(changes, model.spec, version=champion.version, where=plan.features_table.where)
        scored = {}
        for day in context.partition_keys:
            rows = features.filter(pl.col(DAY).cast(pl.String) == day)
            scored[day] = score_rows(
                rows,
                model.spec,
                model_version=champion.version,
                scores=predict(model.booster, model.spec, rows, threads=declared.training.threads),
                key=plan.key,
                prediction_time=wanted.prediction_time,
                features_version=versions.get(f"{plan.name}/features/{day}", ""),
            )
            context.add_asset_metadata(
                {"model version": champion.version, "rows": rows.height, **_mean_score(scored[day])}, partition_key=day
            )
        check_frames(
            [*scored.values()],
            predictions_table(
                key=plan.key, prediction_time=wanted.prediction_time, task=model.spec.task, classes=model.spec.classes
            ),
            personal=plan.personal | ({"prediction_id"} if plan.personal.intersection(plan.key) else set()),
        )
        yield dg.Output(scored)

    return predictions


def _compared(changes: Sequence[ContractChange], asset: dg.AssetKey, *, is_known: bool) -> dg.AssetCheckResult:
    """Return the check of what has changed in the contract since the champion was trained."""
    is_broken = any(not change.is_compatible for change in changes)
    found = [
        {"column": it.column, "rule": it.what, "is_compatible": it.is_compatible, "example": it.sentence}
        for it in changes
    ]
    return dg.AssetCheckResult(
        check_name=CHECK,
        asset_key=asset,
        passed=is_known and not is_broken,
        severity=dg.AssetCheckSeverity.ERROR if is_broken else dg.AssetCheckSeverity.WARN,
        description=None if is_known else "not judged: the champion has no contract to compare the features with.",
        metadata={"findings": as_table(pl.DataFrame(found))} if found else {},
    )


def _mean_score(scored: pl.DataFrame) -> dict[str, float]:
    return {} if scored.is_empty() else {"mean score": scored.select(pl.col("score").mean()).item()}
