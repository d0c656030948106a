"""Shadow predictions: what challengers that were not promoted predict for the rows that the champion predicts.

Not here: their comparison with the champion (see `ml_assets.stages.shadow`).
"""

import dagster as dg
import polars as pl

from ml_assets.contracts.changes import input_changes
from ml_assets.contracts.frames import check_frames, shadow_predictions_table
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.monitoring.predictions import in_shadow, score_rows
from ml_assets.logic.training.booster import predict
from ml_assets.models.champions import note_code_of_verdict, serving_champion
from ml_assets.models.plan import ModelPlan
from ml_assets.models.scoring import rows_of_day, score_day
from ml_assets.models.shadow import challengers_in_shadow
from ml_assets.stages.asset import stage


def shadow_predictions(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of the predictions of a model's challengers."""

    @stage(
        plan, "shadow_predictions", [score_rows, predict, input_changes, in_shadow], kinds={plan.library, "parquet"},
        by_day=True,
        parameters={"most": plan.declaration.challengers.most},
        ins={"features": dg.AssetIn(plan.asset("features"))},
        deps=[plan.asset("champion")],
    )  # fmt: skip
    def shadow_predictions(
        context: dg.AssetExecutionContext, features: pl.DataFrame, ml_assets_lake: LakeResource
    ) -> dict[str, pl.DataFrame]:
        """The scores of rejected and pending challengers, which have no effect; one row per challenger and row."""
        ledger = ml_assets_lake.ledger()
        champion = serving_champion(ledger, plan)
        note_code_of_verdict(ledger, plan)
        found = challengers_in_shadow(ledger, plan, champion)
        scored = {}
        for day in context.partition_keys:
            rows = rows_of_day(plan, features, day)
            scores = [score_day(ledger, plan, it, rows, day) for it in found.challengers]
            scored[day] = in_shadow(rows, scores, plan.columns)
            facts = {"champion": champion.version, "challengers": found.words, "rows": scored[day].height}
            context.add_asset_metadata(facts, partition_key=day)
        table = shadow_predictions_table(plan.columns)
        check_frames([*scored.values()], table, personal=plan.personal_in_predictions)
        return scored

    return shadow_predictions
