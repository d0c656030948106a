"""The check that fails, as an error, when a person must act on a model's drift, performance or updates.

It has no partitions, so a newer verdict replaces an older one. The sensors report it, because whether a retraining
repairs a model is known after its days were judged.

Not here: the verdicts on each day, which are warnings (see `ml_assets.stages.checks.verdicts`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import dagster as dg

from ml_assets.contracts.words import counted
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.monitoring.retraining import RetrainingFinding, Serving, drift_finding, performance_finding
from ml_assets.models.monitoring import read_monitoring, retraining_rules

CHECK: Final = "no_action_is_needed"
_RULES: Final = {"drift": "drift within its limits", "performance": "performance as promised"}
_DECLARED: Final = {
    "drift": "drift, retraining.drift_days and retraining.drift_window_days",
    "performance": "retraining.performance_limit",
}


@dataclass(frozen=True)
class Action:
    """What a person must act on.

    Attributes:
        rule: what is broken.
        count: how many days, or runs.
        partition: one of the days; '' if there is none.
        example: what was found, with figures.
        declared_in: the fields that set the rule.
        what_to_do: how to fix it.
    """

    rule: str
    count: int
    partition: str
    example: str
    declared_in: str
    what_to_do: str


def action_checks(model: ModelDeclaration) -> dg.AssetChecksDefinition:
    """Return the checks of a model. A run evaluates drift and performance; the sensor of updates reports the third."""
    texts = {
        "features": "Every day can be updated. Fails if an update waits for a day that is missing although a later day "
        "of the same table has landed, or for a run that failed.",
        "drift": "Drift over its limits is repaired by a retraining. Fails once the gate has rejected a challenger, or "
        "the watch has rolled one back.",
        "performance": "Performance behind its promise is repaired by a retraining. Fails as for drift.",
    }
    specs = [dg.AssetCheckSpec(CHECK, asset=[model.name, stage], description=text) for stage, text in texts.items()]

    # can_subset, because without it each check must have a result
    @dg.multi_asset_check(name=f"{model.name}__{CHECK}", specs=specs, can_subset=True)
    def no_action_is_needed(
        context: dg.AssetCheckExecutionContext, ml_assets_lake: LakeResource
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {it.asset_key.path[-1] for it in context.selected_asset_check_keys}
        for stage, actions in monitoring_actions(ml_assets_lake.connect(), model).items():
            if stage in selected:
                yield dg.AssetCheckResult(**action_result(model.name, stage, actions))

    return no_action_is_needed


def monitoring_actions(lake: Lake, model: ModelDeclaration) -> dict[str, list[Action]]:
    """Return what a person must act on about drift and performance; empty if there is no champion."""
    loop = read_monitoring(lake, model)
    if loop is None:
        return {}
    rules, metric = retraining_rules(model), find_metric(model.metric, model.task)
    findings = (
        drift_finding(loop.drift, loop.champion, rules),
        performance_finding(loop.performance, loop.champion, rules, metric),
    )
    return {it.cause: unrepaired(model.name, it, loop.champion) for it in findings}


def unrepaired(model: str, finding: RetrainingFinding, champion: Serving) -> list[Action]:
    """Return what a person must do about a finding; nothing until a challenger was rejected or rolled back.

    It also counts if it was requested for another reason: then too, retraining has not made a better model lately.
    """
    if not finding.is_over or not champion.rejections:
        return []
    tried = counted(champion.rejections, "challenger")
    return [
        Action(
            rule=_RULES[finding.cause],
            count=int(finding.figures.get("days over", finding.figures.get("days", 0))),
            partition=str(finding.day or ""),
            example=finding.sentence,
            declared_in=_DECLARED[finding.cause],
            what_to_do=f"{tried} rejected or rolled back since the champion's promotion. See why: "
            f"ml-assets champion {model}. Then change the declaration, roll back, or promote a challenger.",
        )
    ]


def gap_actions(missing: Mapping[str, set[str]], newest: Mapping[str, str]) -> list[Action]:
    """Return the missing days of tables that have a later day; a newest day that has not arrived yet is no gap."""
    actions = []
    for table, days in missing.items():
        if gaps := sorted(day for day in days if day < newest.get(table, "")):
            example = f"{table} of {', '.join(gaps[:3])}{' and more' if len(gaps) > 3 else ''} is missing, and "
            actions.append(
                Action(
                    rule="no day is missing",
                    count=len(gaps),
                    partition=gaps[0],
                    example=f"{example}{newest[table]} has landed",
                    declared_in="the raw tables' declaration, and allow_gaps of their readers",
                    what_to_do=f"deliver the file and materialize {table} of {gaps[0]}; if it never arrives, land a "
                    "file without rows",
                )
            )
    return actions


def action_result(model: str, stage: str, actions: Sequence[Action]) -> dict[str, Any]:
    """Return the verdict as the fields that a check's result and evaluation share."""
    rows = [dg.TableRecord({name.replace("_", " "): it for name, it in asdict(action).items()}) for action in actions]
    sentences = [f"{it.rule}: {it.example.rstrip('.')}. {it.what_to_do.rstrip('.')}." for it in actions]
    return {
        "asset_key": dg.AssetKey([model, stage]),
        "check_name": CHECK,
        "passed": not actions,
        "severity": dg.AssetCheckSeverity.ERROR,
        "description": " ".join(sentences) or None,
        "metadata": {"actions": dg.MetadataValue.table(rows)} if rows else {},
    }
