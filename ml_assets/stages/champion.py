"""The champion: the gate's verdict on a challenger, as one more entry of the promotion log.

Measuring the challenger on rows stays out; see `ml_assets.stages.evaluation`. What serving it costs is measured here:
an evaluation says the same whenever it is made again, and milliseconds do not.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import dagster as dg

from ml_assets.contracts.artifacts import Evaluation, Model, Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.logic.champion import Verdict
from ml_assets.logic.promotion import GATE, left, serving_since, waiting
from ml_assets.logic.serving_cost import Cost
from ml_assets.stages.common.asset import stage
from ml_assets.stages.common.judging import serving_costs, verdict_on
from ml_assets.stages.common.leak_findings import findings_behind
from ml_assets.stages.common.plan import ModelPlan
from resources.lake import Lake
from resources.lake_resource import LakeResource
from resources.manifest import ArtifactRef, Manifest
from resources.run_tags import CAUSE

CHECK: Final = "gate_accepts_the_challenger"
WORDS: Final = {"promote": "promoted", "refuse": "rejected", "rollback": "rolled back to", "wait": "waits for a person"}

Action = Literal["promote", "refuse", "rollback", "wait"]


def champion(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's champion."""
    declared = plan.declaration

    @stage(
        plan,
        "champion",
        [verdict_on, serving_costs],
        kinds={"json"},
        parameters={"gate": declared.gate, "acknowledged": declared.leak_test.acknowledged},
        ins={"evaluation": dg.AssetIn(plan.asset("evaluation"))},
        check_specs=[
            dg.AssetCheckSpec(
                CHECK, asset=plan.asset("champion"),
                description="Every rule of the gate holds for the challenger, and nobody has to approve it first.",
            )
        ],
    )  # fmt: skip
    def champion(context: dg.AssetExecutionContext, evaluation: Evaluation, lake: LakeResource) -> Iterator[Any]:
        """The new champion and why, or why the challenger was rejected or waits and the champion stays."""
        opened, run = lake.open(), context.op_execution_context
        entries = plan.promotion_log(opened).entries()
        ref = ArtifactRef(asset=plan.asset("model").to_user_string(), version=evaluation.summary.model_version)
        model = opened.get(ref, Model)
        costs = serving_costs(model, declared.gate)
        training_set = _training_set(opened, plan, evaluation)
        was_left = evaluation.summary.model_version in left(entries)
        leaks = findings_behind(opened, declared, training_set) if training_set else None
        verdict = verdict_on(plan, evaluation, model, costs, was_left=was_left, leaks=leaks)
        entry = _entry(opened, plan, evaluation, verdict, entries)
        entry = entry.model_copy(update={"run_id": run.run_id, "cause": run.get_tag(CAUSE)})
        entry = _settled(opened, plan, entry, entries, compared_with=evaluation.summary.champion_version)
        yield _check(plan, entry, verdict)
        yield dg.Output(entry, metadata=_metadata(plan, entry, verdict, costs))

    return champion


def _training_set(lake: Lake, plan: ModelPlan, evaluation: Evaluation) -> Manifest | None:
    """Return the manifest of what the challenger was trained on; None where the evaluation does not name it."""
    version = evaluation.summary.training_set_version
    asset = plan.asset("training_set").to_user_string()
    return lake.manifest(ArtifactRef(asset=asset, version=version)) if version else None


def _entry(
    lake: Lake, plan: ModelPlan, evaluation: Evaluation, verdict: Verdict, entries: Sequence[Promotion]
) -> Promotion:
    """Return what the verdict would be as the next entry of the log."""
    challenger = evaluation.summary.model_version
    is_by_person = verdict.waits or plan.declaration.gate.approval == "person"
    let_in: Action = "wait" if is_by_person else "promote"
    action: Action = let_in if verdict.promote else "refuse"
    return Promotion(
        number=len(entries) + 1,
        model=plan.name,
        action=action,
        champion=challenger if action == "promote" else _serving(entries),
        challenger=challenger,
        reasons=verdict.reasons,
        rules=tuple(rule.record for rule in verdict.rules),
        figures=verdict.figures,
        evaluation_version=_evaluation_read(lake, plan),
        decided_at=lake.now(),
        decided_by=GATE,
    )


def _settled(
    lake: Lake, plan: ModelPlan, entry: Promotion, entries: Sequence[Promotion], *, compared_with: str | None
) -> Promotion:
    """Append the entry, or return the one by which this very evaluation has been decided on before.

    Raises:
        DataError: The challenger was compared with another champion than the one that serves.
    """
    last = entries[-1] if entries else None
    if (standing := _standing(entries, entry)) is not None:
        return standing
    if last is not None and _is_unkept(lake, plan, last) and _says(last) == _says(entry):
        return last
    if _serving(entries) != compared_with:
        raise DataError(
            f"the challenger of {plan.name} was compared with champion {compared_with}, but {_serving(entries)} "
            "serves now; materialize evaluation again."
        )
    return plan.promotion_log(lake).append(entry, number=entry.number)


def _serving(entries: Sequence[Promotion]) -> str | None:
    return entries[-1].champion if entries else None


def _check(plan: ModelPlan, entry: Promotion, verdict: Verdict) -> dg.AssetCheckResult:
    """Return the gate's verdict as a check, which passes if the challenger is promoted without a person's approval."""
    return dg.AssetCheckResult(
        check_name=CHECK,
        asset_key=plan.asset("champion"),
        passed=verdict.promote and entry.action != "wait",
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{entry.challenger[:12]} {_word(entry, verdict)}",
        metadata={"rules": _rules(verdict)},
    )


def _word(entry: Promotion, verdict: Verdict) -> str:
    return WORDS[entry.action] if verdict.promote else WORDS["refuse"]


def _rules(verdict: Verdict) -> dg.TableMetadataValue:
    rules = [dg.TableRecord({"rule": it.name, "holds": it.holds, "sentence": it.sentence}) for it in verdict.rules]
    return dg.MetadataValue.table(rules)


def _metadata(plan: ModelPlan, entry: Promotion, verdict: Verdict, costs: Sequence[Cost]) -> dict[str, Any]:
    """Return what the web UI shows: the verdict, every rule as a row of a table, and the figures."""
    told: dict[str, Any] = {
        "verdict": _word(entry, verdict),
        "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in verdict.reasons)),
        "rules": _rules(verdict),
        "champion": entry.champion or "none",
        **{f"{cost.name}, {cost.unit}": cost.value for cost in costs},
        **verdict.figures,
    }
    if entry.cause is not None:
        told["cause"] = entry.cause
    if entry.action == "wait":
        told["let it in"] = f"ml-assets promote {plan.name} {entry.challenger[:12]} --why REASON"
    return told


def _evaluation_read(lake: Lake, plan: ModelPlan) -> str | None:
    return lake.versions_read().get(plan.asset("evaluation").to_user_string())


def _standing(entries: Sequence[Promotion], entry: Promotion) -> Promotion | None:
    """Return the entry by which this very evaluation's challenger serves, or waits and would do so again.

    Changed settings of the gate do not take back what it has decided: judged once more, the champion would meet itself.
    """
    since, waits = serving_since(entries), waiting(entries)
    on_it = [it for it in (since, waits) if it is not None and it.evaluation_version == entry.evaluation_version]
    for standing in on_it if entry.evaluation_version is not None else ():
        if standing.action in ("promote", entry.action):
            return standing
    return None


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
    """Return what an entry comes to; its sentences follow from the figures, and milliseconds are never the same."""
    figures = {name: value for name, value in entry.figures.items() if not name.startswith("latency")}
    rules = [(rule.name, rule.holds) for rule in entry.rules]
    return entry.action, entry.challenger, rules, figures
