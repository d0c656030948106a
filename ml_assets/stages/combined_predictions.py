"""Combined predictions: each row scored by the champion for its value of `for_each`, or else by the pooled model.

Not here: the predictions that each model is monitored by (see `ml_assets.stages.predictions`).
"""

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg
import polars as pl

from ml_assets.contracts.changes import input_changes
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.frames import check_frames, predictions_table
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.monitoring.predictions import (
    ScoredRows,
    check_inputs,
    combine,
    rows_by_model,
    score_rows,
    undeclared,
)
from ml_assets.logic.training.booster import predict
from ml_assets.models.champions import Champion, champion_model, note_code_of_verdict, serving_champion
from ml_assets.models.plan import ModelPlan
from ml_assets.models.scoring import changes_since, rows_of_day, score_day
from ml_assets.orchestration.groups import COMBINED
from ml_assets.stages.asset import stage


def combined_predictions(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of the predictions of a model of all rows together with the models of single values.

    Raises:
        ContractError: the model has no `for_each`.
    """
    each = plan.declaration.for_each
    if each is None:
        raise ContractError(f"model '{plan.name}' has no for_each, so there are no predictions to combine.")
    segments = [replace(plan, declaration=model) for model in plan.declaration.segments]
    values = {it.name: value for it, value in zip(segments, each.values, strict=True)}

    @stage(
        plan, "predictions", [score_rows, predict, input_changes, rows_by_model, combine],
        kinds={plan.library, "parquet"}, by_day=True, named=COMBINED,
        parameters={"column": each.column, "values": values},
        ins={"features": dg.AssetIn(plan.asset("features"))},
        deps=[it.asset("champion") for it in (plan, *segments)],
    )  # fmt: skip
    def combined_predictions(
        context: dg.AssetExecutionContext, features: pl.DataFrame, ml_assets_lake: LakeResource
    ) -> dict[str, pl.DataFrame]:
        """Each row with the score of the champion for its value, or else of the pooled champion, and its model."""
        ledger = ml_assets_lake.ledger()
        champions = _champions(ledger, plan, segments)
        served = {name: value for name, value in values.items() if name in champions}
        combined = {}
        for day in context.partition_keys:
            rows = rows_of_day(plan, features, day)
            scored = [
                ScoredRows(name, own, score_day(ledger, plan, champions[name], own, day))
                for name, own in rows_by_model(rows, each.column, served, others=plan.name).items()
            ]
            combined[day] = combine(scored, column=each.column)
            counts = {f"rows of {it.model}": it.rows.height for it in scored}
            other = undeclared(rows, each.column, each.values)
            named = ", ".join(str(plan.features_contract.shown(each.column, it)) for it in other["value"].head(10))
            facts = {"rows": rows.height, **counts, "rows of other values": other["rows"].sum(), "other values": named}
            context.add_asset_metadata(facts, partition_key=day)
        _check(plan, [*champions.values()], [*combined.values()])
        return combined

    return combined_predictions


def _champions(ledger: StepLedger, plan: ModelPlan, segments: Sequence[ModelPlan]) -> dict[str, Champion]:
    """Return the champions by model, and record them in the step's manifests.

    Raises:
        DataError: the model of all rows has no champion.
        ContractError: a champion cannot score the features.
    """
    found = {it.name: champion for it in segments if (champion := champion_model(ledger, it)) is not None}
    found[plan.name] = serving_champion(ledger, plan)  # the last, so that the manifests have the entry of its log
    note_code_of_verdict(ledger, plan)
    ledger.note(champions={name: it.version for name, it in found.items()})
    for champion in found.values():
        changes = changes_since(champion, plan)
        check_inputs(changes, champion.model.spec, version=champion.version, where=plan.features_table.where)
    return found


def _check(plan: ModelPlan, champions: Sequence[Champion], frames: Sequence[pl.DataFrame]) -> None:
    specs, each = [it.model.spec for it in champions], plan.declaration.for_each
    schema = predictions_table(
        key=plan.key,
        prediction_time=plan.columns.prediction_time,
        task=plan.declaration.task,
        classes=[*dict.fromkeys(name for spec in specs for name in spec.classes)],
        together=plan.columns.together,
        has_interval=all(spec.interval is not None for spec in specs),
        combined_by=None if each is None else each.column,
    )
    check_frames(frames, schema, personal=plan.personal_in_predictions)
