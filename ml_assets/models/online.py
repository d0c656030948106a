"""Decides which challenger the prediction service scores beside the champion, and which share of the keys it answers.

Each decision is an entry of the promotion log, which the service follows.
Not here: what follows from the figures (see `ml_assets.logic.promotion.online`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from ml_assets.contracts.artifacts.monitoring import PerformanceSummaries, PerformanceSummary
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.shadow import Online
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.promotion_log import retry_on_conflict
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.promotion.log import online
from ml_assets.logic.promotion.online import OnlineResult, OnlineRules, next_step
from ml_assets.models.champions import Champion
from ml_assets.models.plan import ModelPlan
from ml_assets.models.shadow import InShadow
from ml_assets.models.training_rows import current_up_to

DECIDED_BY: Final = "shadow"
"""The author of entries that follow from the comparison of a challenger online."""


@dataclass(frozen=True)
class _Served:
    summaries: PerformanceSummaries


def decide_online(
    ledger: StepLedger, plan: ModelPlan, champion: Champion, found: InShadow, *, run_id: str
) -> tuple[Online | None, Promotion | None]:
    """Begin, widen or end what the service does with a challenger, by the figures of its requests so far.

    Returns:
        What is known of the challenger that is online or was withdrawn now; None without one. And the entry that was
        added; None if nothing follows, or if another process added an entry meanwhile, on which the next run decides.

    Raises:
        PromotionConflictError: other processes keep adding entries.
        CorruptArtifactError: the promotion log or a report is damaged.
    """
    read = ledger.lake.read_each(current_up_to(ledger, plan, "served_performance"), _Served)
    ledger.use(Input.of(manifest) for _, manifest in read)
    served = [it for it, _ in read]
    return retry_on_conflict(lambda: _decide(ledger, plan, champion, found, served, run_id=run_id))


def _decide(
    ledger: StepLedger,
    plan: ModelPlan,
    champion: Champion,
    found: InShadow,
    served: Sequence[_Served],
    *,
    run_id: str,
) -> tuple[Online | None, Promotion | None]:
    log = plan.promotion_log(ledger.lake)
    entries = log.verified().entries
    if entries[-1].champion != champion.version:
        return None, None
    now, able = online(entries), [it.version for it in found.challengers]
    # Without a canary there are no steps that a newer challenger would cut off.
    if now is not None and (
        now.challenger not in able or (plan.declaration.challengers.canary is None and able[0] != now.challenger)
    ):
        now = None
    if now is None and not able:
        ended = online(entries)
        if ended is None:
            return None, None
        why = f"It can no longer score: {found.left_out.get(ended.challenger, 'it is in shadow no more.')}"
        ends = _Next("withdraw", ended.challenger, 0.0, why)
        return None, log.append(ends.entry(plan, entries, at=ledger.now(), run_id=run_id), number=len(entries) + 1)
    if now is None:
        begins = _Next(
            "online", able[0], 0.0, "The service scores it beside the champion, and answers with the champion."
        )
        entry = log.append(begins.entry(plan, entries, at=ledger.now(), run_id=run_id), number=len(entries) + 1)
        return _online(plan, entry, entry, None), entry
    first = _first(entries, now)
    result = _result(plan, now, first, [it for one in served for it in one.summaries.of_days])
    if result.step in ("stays", "passed"):
        return _online(plan, now, first, result), None
    action: Literal["online", "withdraw"] = "withdraw" if result.step == "withdrawn" else "online"
    follows = _Next(action, now.challenger, result.share, result.sentence, result.compared.figures)
    entry = log.append(follows.entry(plan, entries, at=ledger.now(), run_id=run_id), number=len(entries) + 1)
    return _online(plan, entry, first, result), entry


@dataclass(frozen=True)
class _Next:
    """What the next entry says about a challenger."""

    action: Literal["online", "withdraw"]
    version: str
    share: float
    why: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def entry(self, plan: ModelPlan, entries: Sequence[Promotion], *, at: datetime, run_id: str) -> Promotion:
        return Promotion(
            number=len(entries) + 1,
            model=plan.name,
            action=self.action,
            champion=entries[-1].champion,
            challenger=self.version,
            reasons=(self.why,),
            figures={**self.figures},
            share=self.share if self.action == "online" else None,
            decided_at=at,
            decided_by=DECIDED_BY,
            run_id=run_id,
        )


def _first(entries: Sequence[Promotion], now: Promotion) -> Promotion:
    """Return the entry by which a challenger came online beside its champion."""
    wanted = (now.challenger, now.champion, "online")
    return next(it for it in entries if (it.challenger, it.champion, it.action) == wanted)


def _result(plan: ModelPlan, now: Promotion, first: Promotion, served: Sequence[PerformanceSummary]) -> OnlineResult:
    """Return what follows from the performance on requests since a challenger is online."""
    declared, begun = plan.declaration, _day(plan, first)
    days = [
        it
        for it in served
        if it.model_version == now.challenger
        and it.day > begun
        and it.previous_champion is not None
        and it.previous_champion.version == now.champion
    ]
    canary = declared.challengers.canary
    rules = OnlineRules(
        shares=() if canary is None else canary.shares,
        days=declared.challengers.days if canary is None else canary.days,
        margin=declared.gate.margin,
        coverage=declared.retraining.min_coverage,
    )
    return next_step(now, _day(plan, now), days, rules, find_metric(declared.metric, declared.task))


def _online(plan: ModelPlan, now: Promotion, first: Promotion, result: OnlineResult | None) -> Online:
    return Online(
        version=now.challenger,
        since=_day(plan, first),
        share=now.share or 0.0,
        step="stays" if result is None else result.step,
        days=0 if result is None else result.days,
        sentence=now.reasons[0] if result is None else result.sentence,
    )


def _day(plan: ModelPlan, entry: Promotion) -> date:
    """Return the day of an entry in the model's time zone."""
    return entry.decided_at.astimezone(ZoneInfo(plan.calendar.timezone)).date()
