"""Predictions: the champion's scores for a day, each with model version and feature row.

Online scoring stays out; see `ml_assets.serving`.
"""

import dagster as dg
import polars as pl

from ml_assets.logic.model import predict
from ml_assets.logic.predictions import score_rows
from ml_assets.stages.common import DAY, ModelPlan, serving_champion, stage
from resources.lake import LakeResource


def predictions(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's predictions."""
    declared = plan.declaration

    @stage(
        plan,
        "predictions",
        [score_rows, predict],
        kinds={"lightgbm", "parquet"},
        by_day=True,
        ins={"features": dg.AssetIn(plan.asset("features"))},
        deps=[plan.asset("champion")],
    )
    def predictions(
        context: dg.AssetExecutionContext, features: pl.DataFrame, lake: LakeResource
    ) -> dict[str, pl.DataFrame]:
        """The champion's scores, one row a feature row."""
        versions = lake.open().versions_read()
        champion = serving_champion(lake.open(), plan)
        model = champion.model
        scored = {}
        for day in context.partition_keys:
            rows = features.filter(pl.col(DAY).cast(pl.String) == day)
            scored[day] = score_rows(
                rows,
                model.spec,
                model_version=champion.version,
                scores=predict(model.booster, model.spec, rows, threads=declared.training.threads),
                key=plan.key,
                prediction_time=declared.features.prediction_time,
                features_version=versions.get(f"{plan.name}/features/{day}", ""),
            )
            context.add_asset_metadata(
                {"model version": champion.version, "rows": rows.height, **_mean_score(scored[day])}, partition_key=day
            )
        return scored

    return predictions


def _mean_score(scored: pl.DataFrame) -> dict[str, float]:
    return {} if scored.is_empty() else {"mean score": scored.select(pl.col("score").mean()).item()}
