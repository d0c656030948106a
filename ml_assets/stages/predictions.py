"""Predictions: the champion's scores for a day, each with model version and feature row.

Not here: online scoring (see `ml_assets.serving`).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.changes import ContractChange, input_changes
from ml_assets.contracts.frames import check_frames, predictions_table
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.monitoring.predictions import check_inputs, score_rows
from ml_assets.logic.training.booster import predict
from ml_assets.models.champions import Champion, note_code_of_verdict, serving_champion
from ml_assets.models.plan import ModelPlan
from ml_assets.models.scoring import changes_since, rows_of_day, score_day
from ml_assets.stages.asset import as_table, stage

CHECK = "features_are_as_the_champion_was_trained_with"


def predictions(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's predictions."""
    asset = plan.asset("predictions")

    @stage(
        plan, "predictions", [score_rows, predict, input_changes], kinds={plan.library, "parquet"}, by_day=True,
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
        ledger = ml_assets_lake.ledger()
        champion = serving_champion(ledger, plan)
        note_code_of_verdict(ledger, plan)
        changes = changes_since(champion, plan)
        yield _compared(changes, asset, is_known=champion.model.contract is not None)
        check_inputs(changes, champion.model.spec, version=champion.version, where=plan.features_table.where)
        scored = {
            day: score_day(ledger, plan, champion, rows_of_day(plan, features, day), day)
            for day in context.partition_keys
        }
        for day, rows in scored.items():
            facts = {"model version": champion.version, "rows": rows.height, **_mean_score(rows)}
            context.add_asset_metadata(facts, partition_key=day)
        _check_scores(plan, champion, scored.values())
        yield dg.Output(scored)

    return predictions


def _check_scores(plan: ModelPlan, champion: Champion, scored: Iterable[pl.DataFrame]) -> None:
    """Check the contract of predictions."""
    spec = champion.model.spec
    schema = predictions_table(
        key=plan.key,
        prediction_time=plan.columns.prediction_time,
        task=spec.task,
        classes=spec.classes,
        together=plan.columns.together,
        has_interval=spec.interval is not None,
    )
    check_frames([*scored], schema, personal=plan.personal_in_predictions)


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
