"""Reports to Dagster and to the alerts what a person must act on, as the sensors find it.

Not here: the rules (see `ml_assets.stages.checks.action`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import dagster as dg

from ml_assets.alerts.alert import Alert, Kind
from ml_assets.automation.waits import FAILED_RUN, Waits, days_in
from ml_assets.logic.monitoring.budget import Spending
from ml_assets.logic.monitoring.retraining import RetrainingFinding, Serving
from ml_assets.stages.checks.action import Action, action_result, gap_actions, unrepaired

KIND: Final[Mapping[str, Kind]] = {"drift": "drift_over_limits", "performance": "performance_behind"}
"""By cause of a retraining, the kind of the alert."""


def report_new(instance: dg.DagsterInstance, results: Sequence[Mapping[str, Any]]) -> None:
    """Report the verdicts that differ from the newest one of their check. A first one that passes is reported too.

    A run may have planned a check that it does not evaluate, as one over another part of the same step. Dagster then
    shows no verdict, so it is reported again.
    """
    keys = [dg.AssetCheckKey(it["asset_key"], it["check_name"]) for it in results]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    for key, result in zip(keys, results, strict=True):
        record = latest.get(key)
        event = None if record is None or record.event is None else record.event.dagster_event
        has_verdict = event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
        known = event.asset_check_evaluation_data if event is not None and has_verdict else None
        if known is None or (known.passed, known.description) != (result["passed"], result["description"]):
            instance.report_runless_asset_event(dg.AssetCheckEvaluation(**result))


def of_monitoring(model: str, findings: Sequence[RetrainingFinding], champion: Serving) -> Iterator[dict[str, Any]]:
    """Yield the verdict on each finding about drift and performance."""
    for it in (it for it in findings if it.cause in KIND):
        yield action_result(model, it.cause, unrepaired(model, it, champion))


def alerts_of_findings(
    model: str, findings: Sequence[RetrainingFinding], champion: Serving, *, decided: str, now: datetime
) -> Iterator[Alert]:
    """Yield an alert for each finding over its limit: once for a champion, and once for each rejected challenger.

    `decided` is what the sensor has decided about a retraining, as a sentence.
    """
    for it in (it for it in findings if it.cause in KIND and it.is_over):
        actions = unrepaired(model, it, champion)
        what = "is over its limits" if it.cause == "drift" else "is behind its promise"
        does = actions[0].what_to_do if actions else f"Retraining: {decided}"
        yield Alert(
            kind=KIND[it.cause],
            subject=f"{model}/{it.cause}",
            title=f"{model}: {it.cause} {what}{' and is not repaired' if actions else ''}",
            body=f"{it.sentence} {does}",
            key=f"{it.cause}/{model}/{champion.version}/{champion.as_of}/{champion.rejections}",
            occurred_at=now,
            facts=it.figures,
            severity="error" if actions else "warning",
            link=f"/assets/{model}/{it.cause}",
        )


def blocked_actions(model: str, waits: Waits, newest: Mapping[str, str]) -> list[Action]:
    """Return which updates of a model wait for a gap or for a run that failed."""
    reasons = [it for group, found in waits.reasons.items() if group.endswith(f" of {model}") for it in found]
    missing: dict[str, set[str]] = {}
    for it in (it for it in reasons if it.lack):
        missing.setdefault(it.lack, set()).update(days_in(it.missing, waits.calendar))
    failed = [
        Action(
            rule="no update has failed",
            count=len(days),
            partition=max(days, default=""),
            example=it.why,
            declared_in="",
            what_to_do="read its log on the Runs page, fix the cause, and run it again",
        )
        for it in reasons
        if it.why.startswith(FAILED_RUN)
        for days in [days_in(it.days, waits.calendar) - {""}]
    ]
    return [*gap_actions(missing, newest), *failed]


def alert_of_blocked(model: str, actions: Sequence[Action], *, now: datetime) -> Iterator[Alert]:
    """Yield an alert for each table with a gap, once for its oldest missing day. Failed runs are alerted anyway."""
    for it in (it for it in actions if it.rule == "no day is missing"):
        table = it.example.partition(" ")[0]
        yield Alert(
            kind="update_blocked",
            subject=f"{model}/features",
            title=f"{model}: updates wait for {table} of {it.partition}",
            body=f"{it.example}. To continue, {it.what_to_do}.",
            key=f"blocked/{model}/{table}/{it.partition}",
            occurred_at=now,
            facts={"missing": it.count},
            link=f"/assets/{model}/features",
        )


def alerts_of_spending(name: str, spending: Spending | None) -> Iterator[Alert]:
    """Yield the alert for a budget that is spent or cannot be checked, at most one a month."""
    if spending is None or not (spending.is_over or spending.spent is None):
        return
    is_over, month = spending.is_over, spending.month
    does = "Retrainings wait until the next month" if spending.blocks and is_over else "Retrainings go on"
    yield Alert(
        kind="over_budget",
        subject=name,
        title=f"{name}: {spending.sentence}" if is_over else f"{name}: its budget is not checked in {month}",
        body=f"{spending.sentence}. {does}; {spending.field} and budget.when_exceeded are set in the declaration. To "
        f"see the costs: ml-assets cost {name} --month {month}",
        key=f"budget/{name}/{month}{'' if is_over else '/unknown'}",
        occurred_at=datetime.fromisoformat(f"{month}-01T00:00:00+00:00"),
        facts={"spent": spending.spent, "budget": spending.budget},
        severity="warning",
    )
