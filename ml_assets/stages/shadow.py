"""Shadow: how challengers that were not promoted compare with the champion on new days.

Not here: their scores (see `ml_assets.stages.shadow_predictions`).
"""

from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.shadow import Shadow
from ml_assets.lake.resource import LakeResource
from ml_assets.models.champions import note_code_of_verdict, note_head, serving_champion
from ml_assets.models.online import decide_online
from ml_assets.models.plan import ModelPlan
from ml_assets.models.shadow import challengers_in_shadow
from ml_assets.models.shadow_comparison import compare_in_shadow, judge_again
from ml_assets.stages.asset import as_table, stage


def shadow(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of the comparison of a model's challengers with its champion."""
    declared = plan.declaration
    served = ["served_performance"] if declared.challengers.online else []

    @stage(
        plan, "shadow", [compare_in_shadow, judge_again, decide_online], kinds={"polars"},
        parameters={
            "settings": declared.challengers, "gate": declared.gate, "metric": declared.metric,
            "acknowledged": declared.leak_test.acknowledged,
        },
        deps=[plan.asset(it) for it in ("shadow_predictions", "performance", *served)],
    )  # fmt: skip
    def shadow(context: dg.AssetExecutionContext, ml_assets_lake: LakeResource) -> Shadow:
        """Rejected and pending challengers, each compared with the champion on the same rows of new days."""
        ledger, settings = ml_assets_lake.ledger(), declared.challengers
        champion = serving_champion(ledger, plan)
        note_code_of_verdict(ledger, plan)
        found = challengers_in_shadow(ledger, plan, champion)
        compared = compare_in_shadow(ledger, plan, champion, found)
        report = Shadow(
            model=plan.name, champion=champion.version, days=settings.days, sentence=found.words,
            challengers=tuple(it.result for it in compared),
        )  # fmt: skip
        run_id = context.op_execution_context.run_id
        if settings.online:
            online, entry = decide_online(ledger, plan, champion, found, run_id=run_id)
            if entry is not None:
                note_head(ledger, plan)
            report = report.model_copy(update={"online": online})
        if settings.satisfies_gate:
            has_passed = report.online is not None and report.online.step == "passed"
            passed = report.online.version if has_passed and report.online is not None else None
            results, entry = judge_again(ledger, plan, compared, passed=passed, run_id=run_id)
            outcome = {}
            if entry is not None:
                if entry.run_id == run_id:
                    note_head(ledger, plan)
                outcome = {"promoted" if entry.action == "promote" else "waits": entry.challenger}
            report = report.model_copy(update={"challengers": tuple(results), **outcome})
        context.add_output_metadata(_metadata(report))
        return report

    return shadow


def _metadata(report: Shadow) -> dict[str, Any]:
    """Return the metadata for the UI: a table of the challengers."""
    rows = [
        {
            "challenger": it.version,
            "verdict": it.verdict,
            "days": it.scored_days,
            "rows": None if it.comparison is None else it.comparison.rows,
            "metric": None if it.comparison is None else it.comparison.metric,
            "challenger's": None if it.comparison is None else it.comparison.challenger,
            "champion's": None if it.comparison is None else it.comparison.other,
            "difference": None if it.comparison is None else it.comparison.difference.value,
            "95 % from": None if it.comparison is None else it.comparison.difference.low,
            "to": None if it.comparison is None else it.comparison.difference.high,
            "finding": it.words,
        }
        for it in report.challengers
    ]
    outcome = {"promoted": report.promoted, "waits for approval": report.waits}
    return {
        "champion": report.champion,
        "in shadow": report.sentence,
        **({"challengers": as_table(pl.DataFrame(rows))} if rows else {}),
        **({} if report.online is None else {"online": report.online.words}),
        **{name: version for name, version in outcome.items() if version is not None},
    }
