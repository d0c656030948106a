"""The champion: the gate's verdict on a challenger, as the next entry of the promotion log.

Not here: the evaluation of the challenger (see `ml_assets.stages.evaluation`). Its serving cost is measured here,
because an evaluation must be reproducible and milliseconds are not.

Several flows may judge at once. Only one can add the next entry; the others read the log again and decide again.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import dagster as dg

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import retry_on_conflict
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.point_in_time.suspects import LeakFindings
from ml_assets.logic.promotion.comparisons import GateRule
from ml_assets.logic.promotion.gate import ServingCost, Verdict
from ml_assets.logic.promotion.log import GATE, anchor, serving_since, waiting
from ml_assets.models.champions import model_of, note_code_of_challenger, note_head
from ml_assets.models.evaluation import entry_on, serving_costs, verdict_on
from ml_assets.models.leaks import findings_behind
from ml_assets.models.plan import ModelPlan
from ml_assets.names import CAUSE
from ml_assets.stages.asset import stage

CHECK: Final = "gate_accepts_the_challenger"
WORDS: Final = {
    "promote": "promoted",
    "reject": "rejected",
    "rollback": "rolled back to",
    "request_approval": "waits for approval",
}


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
                description="The challenger passes every rule of the gate and needs no approval.",
            )
        ],
    )  # fmt: skip
    def champion(
        context: dg.AssetExecutionContext, evaluation: Evaluation, ml_assets_lake: LakeResource
    ) -> Iterator[Any]:
        """The new champion and why, or why the challenger was rejected or waits for approval."""
        case = _Case.of(ml_assets_lake.ledger(), plan, evaluation)
        run = context.op_execution_context
        entry, verdict = case.decide(run_id=run.run_id, cause=run.get_tag(CAUSE))
        note_head(case.ledger, plan)
        yield _check(plan, entry, verdict)
        note_code_of_challenger(case.ledger, plan, evaluation.summary.model_version)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Parameter `data_version`", category=dg.BetaWarning)
            # Downstream assets read the current champion. A verdict that does not change it changes nothing for them.
            serving = dg.DataVersion(entry.champion or "none")
            out = dg.Output(entry, metadata=_metadata(plan, entry, verdict, case.costs), data_version=serving)
        yield out

    return champion


@dataclass(frozen=True)
class _Case:
    """A challenger before the gate, with the facts for its verdict."""

    ledger: StepLedger
    plan: ModelPlan
    evaluation: Evaluation
    model: Model
    costs: Sequence[ServingCost]
    leaks: LeakFindings | None

    @classmethod
    def of(cls, ledger: StepLedger, plan: ModelPlan, evaluation: Evaluation) -> Self:
        """Read the challenger, measure its serving cost, and read the known leaks."""
        summary = evaluation.summary
        model = model_of(ledger, plan, summary.model_version)
        leaks = None
        if summary.training_set_version:
            asset = plan.asset("training_set").to_user_string()
            training_set = ledger.lake.manifest(ArtifactRef(asset=asset, version=summary.training_set_version))
            leaks = findings_behind(ledger.lake, plan.declaration, training_set, runs=ledger.runs)
        return cls(ledger, plan, evaluation, model, serving_costs(model, plan.declaration.gate), leaks)

    def decide(self, *, run_id: str, cause: str | None) -> tuple[Promotion, Verdict]:
        """Return the challenger's entry of the log, added here or by another flow, and the verdict.

        Raises:
            DataError: the challenger was compared with another champion or anchor than the current one.
            PromotionConflictError: other processes keep adding entries.
        """
        return retry_on_conflict(lambda: self._decide(run_id, cause))

    def _decide(self, run_id: str, cause: str | None) -> tuple[Promotion, Verdict]:
        log, summary = self.plan.promotion_log(self.ledger.lake), self.evaluation.summary
        entries = log.verified().entries
        serving, since = _serving(entries), serving_since(entries)
        if since is not None and summary.model_version == serving:
            # The champion never competes with itself: that would only log a rejection.
            rule = GateRule("champion", True, f"The challenger is already the champion, since entry {since.number}.")
            return since, Verdict(promote=True, reasons=(rule.sentence,), rules=(rule,))
        verdict = verdict_on(self.plan, self.evaluation, self.model, self.costs, entries=entries, leaks=self.leaks)
        entry = entry_on(
            self.plan,
            verdict,
            summary,
            entries=entries,
            evaluation_version=self.ledger.versions().get(self.plan.asset("evaluation").to_user_string()),
            at=self.ledger.now(),
        ).model_copy(update={"run_id": run_id, "cause": cause})
        if (standing := _standing(entries, entry)) is not None:
            return standing, verdict
        compared, current = (summary.champion_version, summary.anchor_version), (serving, anchor(entries))
        if compared != current:
            raise DataError(
                f"the challenger of {self.plan.name} was compared with champion {compared[0]} and anchor "
                f"{compared[1]}, but now they are {current[0]} and {current[1]}; materialize evaluation again."
            )
        return log.append(entry, number=entry.number), verdict


def _serving(entries: Sequence[Promotion]) -> str | None:
    return entries[-1].champion if entries else None


def _check(plan: ModelPlan, entry: Promotion, verdict: Verdict) -> dg.AssetCheckResult:
    """Return the gate's verdict as a check, which passes if the challenger is promoted without approval."""
    return dg.AssetCheckResult(
        check_name=CHECK,
        asset_key=plan.asset("champion"),
        passed=verdict.promote and entry.action != "request_approval",
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{entry.challenger[:12]} {_verdict_word(entry, verdict)}",
        metadata={"rules": _rules(verdict)},
    )


def _verdict_word(entry: Promotion, verdict: Verdict) -> str:
    return WORDS[entry.action] if verdict.promote else WORDS["reject"]


def _rules(verdict: Verdict) -> dg.TableMetadataValue:
    rules = [dg.TableRecord({"rule": it.name, "holds": it.holds, "sentence": it.sentence}) for it in verdict.rules]
    return dg.MetadataValue.table(rules)


def _metadata(plan: ModelPlan, entry: Promotion, verdict: Verdict, costs: Sequence[ServingCost]) -> dict[str, Any]:
    """Return the metadata for the UI: the verdict, a table of the rules, and the figures."""
    metadata: dict[str, Any] = {
        "verdict": _verdict_word(entry, verdict),
        "reasons": dg.MetadataValue.md("\n".join(f"- {in_markdown(reason)}" for reason in verdict.reasons)),
        "rules": _rules(verdict),
        "champion": entry.champion or "none",
        **{f"{cost.name}, {cost.unit}": cost.value for cost in costs},
        **verdict.figures,
    }
    if entry.cause is not None:
        metadata["cause"] = entry.cause
    if entry.action == "request_approval":
        metadata["to approve"] = f"ml-assets promote {plan.name} {entry.challenger[:12]} --why REASON"
    return metadata


def in_markdown(text: str) -> str:
    """Escape a text so that Markdown shows it unchanged, on one line, whatever values from data it has."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&:/@-])", r"\\\1", " ".join(text.split()))


def _standing(entries: Sequence[Promotion], entry: Promotion) -> Promotion | None:
    """Return the entry that this evaluation already has under the current champion, if a new one would be the same.

    Another flow may have judged it at the same time, or this step may have been killed before it stored its artifact.
    Without this check the challenger would be rejected twice, which would double a cool-down.
    """
    since = serving_since(entries)
    judged = [
        it
        for it in entries[since.number if since else 0 :]
        if (it.challenger, it.decided_by, it.evaluation_version) == (entry.challenger, GATE, entry.evaluation_version)
    ]
    waits = waiting(entries)
    if entry.evaluation_version is None or not judged:
        return None
    if judged[-1] == waits and entry.action == "request_approval":
        return waits
    return judged[-1] if entry.action == "reject" and _decision(judged[-1]) == _decision(entry) else None


def _decision(entry: Promotion) -> tuple[object, ...]:
    """Return what an entry decides, without its sentences, because measured milliseconds vary."""
    figures = {name: value for name, value in entry.figures.items() if not name.startswith("latency")}
    rules = [(rule.name, rule.holds) for rule in entry.rules]
    return entry.action, entry.challenger, rules, figures
