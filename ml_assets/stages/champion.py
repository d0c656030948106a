"""The champion: the gate's verdict on a challenger, as one more entry of the promotion log.

Measuring the challenger stays out; see `ml_assets.stages.evaluation`.
"""

import dagster as dg

from ml_assets.contracts.artifacts import Evaluation, Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.logic.champion import judge
from ml_assets.logic.promotion import GATE, left
from ml_assets.stages.common.asset import stage
from ml_assets.stages.common.plan import ModelPlan
from resources.lake_resource import LakeResource


def champion(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's champion."""
    declared = plan.declaration

    @stage(
        plan,
        "champion",
        judge,
        kinds={"json"},
        parameters={"gate": declared.gate},
        ins={"evaluation": dg.AssetIn(plan.asset("evaluation"))},
    )
    def champion(context: dg.AssetExecutionContext, evaluation: Evaluation, lake: LakeResource) -> Promotion:
        """Who serves from now on, and why; or why the challenger was refused and the champion stays."""
        summary, gate = evaluation.summary, declared.gate
        opened = lake.open()
        log = plan.promotion_log(opened)
        entries = log.entries()
        last = entries[-1] if entries else None
        current = last.champion if last else None
        if current != summary.champion_version:
            raise DataError(
                f"the challenger of {plan.name} was compared with champion {summary.champion_version}, but {current} "
                "serves now; materialize evaluation again."
            )
        bounds = {} if gate.max_calibration_error is None else {"calibration_error": gate.max_calibration_error}
        verdict = judge(
            summary, margin=gate.margin, minimum_rows=gate.minimum_rows, bounds=bounds, slices=evaluation.slices,
            was_left=summary.model_version in left(entries),
        )  # fmt: skip
        number = (last.number if last else 0) + 1
        entry = Promotion(
            number=number,
            model=plan.name,
            action="promote" if verdict.promote else "refuse",
            champion=summary.model_version if verdict.promote else current,
            challenger=summary.model_version,
            reasons=verdict.reasons,
            figures=verdict.figures,
            evaluation_version=opened.versions_read().get(f"{plan.name}/evaluation"),
            decided_at=opened.now(),
            decided_by=GATE,
            run_id=context.op_execution_context.run_id,
        )
        log.append(entry, number=number)
        context.add_output_metadata(
            {
                "verdict": "promoted" if verdict.promote else "refused",
                "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in verdict.reasons)),
                "champion": entry.champion or "nobody",
                **dict(verdict.figures),
            }
        )
        return entry

    return champion
