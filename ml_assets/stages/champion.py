"""The champion: the gate's verdict on a challenger, as one more entry of the promotion log.

Measuring the challenger stays out; see `ml_assets.stages.evaluation`.
"""

from collections.abc import Sequence

import dagster as dg

from ml_assets.contracts.artifacts import Evaluation, Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.logic.champion import judge
from ml_assets.logic.promotion import GATE, left, serving_since
from ml_assets.stages.common.asset import stage
from ml_assets.stages.common.plan import ModelPlan
from resources.lake import Lake
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
            evaluation_version=_evaluation_read(opened, plan),
            decided_at=opened.now(),
            decided_by=GATE,
            run_id=context.op_execution_context.run_id,
        )
        if (standing := _standing(entries, entry.evaluation_version)) is not None:
            entry = standing
        elif last is not None and _is_unkept(opened, plan, last) and _says(last) == _says(entry):
            entry = last
        elif current == summary.champion_version:
            log.append(entry, number=number)
        else:
            raise DataError(
                f"the challenger of {plan.name} was compared with champion {summary.champion_version}, but {current} "
                "serves now; materialize evaluation again."
            )
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


def _evaluation_read(lake: Lake, plan: ModelPlan) -> str | None:
    return lake.versions_read().get(plan.asset("evaluation").to_user_string())


def _standing(entries: Sequence[Promotion], evaluation: str | None) -> Promotion | None:
    """Return the gate's entry that made the champion on this very evaluation.

    Changed settings of the gate do not take back what it has decided: judged once more, the champion would meet itself.
    """
    since = serving_since(entries)
    is_it = since is not None and (since.decided_by, since.evaluation_version) == (GATE, evaluation)
    return since if is_it and evaluation is not None else None


def _is_unkept(lake: Lake, plan: ModelPlan, last: Promotion) -> bool:
    """Tell whether the log ends with the gate's word on this very evaluation, which no artifact holds.

    Who wrote it was killed before it could keep the artifact. Judged once more, the challenger would be refused twice.
    """
    version = _evaluation_read(lake, plan)
    if version is None or (last.decided_by, last.evaluation_version) != (GATE, version):
        return False
    kept = lake.newest(plan.asset("champion").to_user_string(), [""])
    return not kept or lake.get(kept[""], Promotion, noted=False).number < last.number


def _says(entry: Promotion) -> tuple[object, ...]:
    return entry.action, entry.challenger, entry.reasons, entry.figures
