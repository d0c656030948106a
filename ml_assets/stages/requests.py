"""Requests: the rows that the prediction service has scored, by the time of scoring, and their parity with the batch.

Not here: their drift and performance (see `ml_assets.stages.drift` and `ml_assets.stages.performance`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import JsonValue

from ml_assets.lake.manifest import FILES
from ml_assets.lake.request_files import REQUESTS
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.monitoring.parity import compare_features, compare_scores
from ml_assets.logic.monitoring.requests import REQUESTS_TABLE, SAMPLE, rows_of_requests
from ml_assets.models.parity import parity_of
from ml_assets.models.plan import ModelPlan
from ml_assets.models.requests import Logged, files_digest, read_requests
from ml_assets.stages.asset import stage
from ml_assets.stages.checks.parity import parity_result, parity_spec
from ml_assets.stages.checks.verdicts import evaluated_by_day


def requests(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of the requests that a model has answered."""
    asset = plan.asset("requests")

    @stage(
        plan,
        "requests",
        [rows_of_requests, compare_scores, compare_features],
        kinds={plan.library, "parquet"},
        by_day=True,
        columns=REQUESTS_TABLE,
        parameters={"file": f"{REQUESTS}/{plan.name}"},
        check_specs=[parity_spec(asset, plan.partitions)],
    )
    def requests(context: dg.AssetExecutionContext, ml_assets_lake: LakeResource) -> Iterator[Any]:
        """The rows that the prediction service has scored, as it scored them, with their scores."""
        ledger = ml_assets_lake.ledger()
        logged = read_requests(ledger.lake, plan, context.partition_keys)
        files: dict[str, JsonValue] = {key: it.files for key, it in logged.items()}
        ledger.note(source=files_digest(logged), **{FILES: files})
        differences = {key: parity_of(ledger, plan, it.rows, key) for key, it in logged.items()}
        _add_metadata(context, logged)
        yield dg.Output({key: it.rows for key, it in logged.items()})
        yield evaluated_by_day(
            context,
            lambda days: parity_result(asset, {day: logged[day].rows.height for day in days}, differences),
        )

    return requests


def _add_metadata(context: dg.AssetExecutionContext, logged: Mapping[str, Logged]) -> None:
    for day, it in logged.items():
        facts: dict[str, Any] = {
            "rows": it.rows.height,
            "requests": it.rows["request_id"].n_unique(),
            "files": len(it.files),
            "model versions": ", ".join(it.rows["model_version"].unique().sort()),
        }
        if not it.rows.is_empty():
            facts["share of requests stored"] = it.rows[SAMPLE].min()
        context.add_asset_metadata(facts, partition_key=day)
