"""Compares challengers in shadow with the champion, and lets the gate judge them again.

Not here: which challengers are in shadow (see `ml_assets.models.shadow`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, Self

import polars as pl

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.days import DAY
from ml_assets.contracts.decisions import IN_SHADOW, Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.shadow import ShadowedChallenger
from ml_assets.contracts.words import counted
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.promotion_log import retry_on_conflict
from ml_assets.logic.evaluation.report import Opponent
from ml_assets.logic.point_in_time.suspects import LeakFindings
from ml_assets.logic.promotion.comparisons import Attempt, champion_rules
from ml_assets.logic.promotion.gate import ServingCost
from ml_assets.logic.promotion.log import anchor, shadow_attempt, waiting
from ml_assets.models.champions import Champion, anchor_model, model_ref, pooled_champion
from ml_assets.models.evaluation import Versioned, entry_on, measure_challenger, serving_costs, verdict_on
from ml_assets.models.leaks import findings_behind
from ml_assets.models.plan import ModelPlan
from ml_assets.models.shadow import InShadow
from ml_assets.models.training_rows import current_up_to, training_set_in

_READ: Final = ("shadow_predictions", "performance")
"""What makes a comparison out of date: further scores, and labels that have become known."""


@dataclass(frozen=True)
class ShadowResult:
    """A challenger in shadow with its result and, if it was compared, its evaluation on the rows of the comparison."""

    model: Model
    result: ShadowedChallenger
    evaluation: Evaluation | None = None


@dataclass(frozen=True)
class _Opponents:
    champion: Champion
    anchor: Versioned | Opponent | None


def compare_in_shadow(ledger: StepLedger, plan: ModelPlan, champion: Champion, found: InShadow) -> list[ShadowResult]:
    """Return each challenger in shadow, compared with the champion on the first days that both have not learned from.

    The days are those after the as-of days of both, and of the anchor, that the challenger has scored and whose labels
    have matured. There is one comparison, when there are as many as declared: more looks would find a better challenger
    by chance. The rows are scored again, as `ml-assets compare` does.

    Raises:
        ContractError: the features have a proven leak, or were not tested for leaks as declared.
    """
    scored, matured = _scored_days(ledger, plan), _matured_until(ledger, plan)
    opponents = _Opponents(champion, anchor_model(ledger, plan, champion))
    results = []
    for challenger in found.challengers:
        trained = max(it.spec.as_of for it in (challenger.model, champion.model, *_trained_anchor(opponents)))
        is_counted = (pl.col(DAY) > trained) & (pl.col(DAY) <= matured)
        own = scored.filter(is_counted & (pl.col("model_version") == challenger.version))
        days = sorted(own[DAY])[: plan.declaration.challengers.days]
        results.append(_compare(ledger, plan, challenger, opponents, days, trained=trained))
    return results


def _trained_anchor(opponents: _Opponents) -> list[Model]:
    return [opponents.anchor.model] if isinstance(opponents.anchor, Versioned) else []


def _scored_days(ledger: StepLedger, plan: ModelPlan) -> pl.DataFrame:
    """Return the days of each version's predictions in shadow. What a comparison follows from becomes an input."""
    shadow, performance = (current_up_to(ledger, plan, stage) for stage in _READ)
    ledger.use(map(Input.of, ledger.lake.manifest_of_each(performance).values()))
    if not shadow:
        return pl.DataFrame(schema={"model_version": pl.String, DAY: pl.Date})
    return ledger.scan(shadow).select("model_version", DAY).unique().collect()


def _matured_until(ledger: StepLedger, plan: ModelPlan) -> date | None:
    """Return the newest day with features whose labels have matured; None if there are no features or labels."""
    periods = [[it.partition or "" for it in current_up_to(ledger, plan, stage)] for stage in ("features", "labels")]
    if not all(periods):
        return None
    until = min(plan.calendar.newest_day(max(its)) for its in periods)
    return until - timedelta(days=plan.declaration.labels.maturity_days)


def _compare(
    ledger: StepLedger,
    plan: ModelPlan,
    challenger: Versioned,
    opponents: _Opponents,
    days: Sequence[date],
    *,
    trained: date,
) -> ShadowResult:
    version, wanted = challenger.version, plan.declaration.challengers.days

    def not_judged(sentence: str, evaluation: Evaluation | None = None) -> ShadowResult:
        comparison = None if evaluation is None else evaluation.summary.against_champion
        result = ShadowedChallenger(
            version=version, verdict="not judged", sentence=sentence, scored_days=len(days), comparison=comparison
        )
        return ShadowResult(challenger.model, result)

    if len(days) < wanted:
        return not_judged(
            f"Too few days: {counted(len(days), 'day')} after {trained}, the last as-of day of the compared models, "
            f"{'has' if len(days) == 1 else 'have'} its scores and matured labels; a comparison has {wanted}."
        )
    try:
        evaluation = _evaluate(ledger, plan, challenger, opponents, days, trained=trained)
    except DataError as error:
        return not_judged(str(error))
    summary, gate = evaluation.summary, plan.declaration.gate
    if summary.against_champion is None or summary.test_days is None:
        return not_judged(summary.champion_cannot_score or "no rows are left that are new to both.")
    if summary.rows < gate.min_rows:
        return not_judged(f"Too few rows: {summary.rows:,}; the gate needs {gate.min_rows:,}.", evaluation)
    entries = plan.promotion_log(ledger.lake).entries()[: opponents.champion.entry.number]
    attempt = Attempt(shadow_attempt(entries, version, summary.test_days, length=wanted))
    bound = attempt.bound(summary.against_champion)
    if bound is None:
        return not_judged(f"{summary.against_champion.difference.reason}.", evaluation)
    result = ShadowedChallenger(
        version=version,
        verdict="better" if bound > 0 else "not better",
        sentence=champion_rules(summary, attempt, gate.rule, gate.margin)[0].sentence,
        scored_days=len(days),
        days=summary.test_days,
        attempt=attempt.number,
        comparison=summary.against_champion,
    )
    return ShadowResult(challenger.model, result, evaluation)


def _evaluate(
    ledger: StepLedger,
    plan: ModelPlan,
    challenger: Versioned,
    opponents: _Opponents,
    days: Collection[date],
    *,
    trained: date,
) -> Evaluation:
    """Return the evaluation of a challenger on the rows of some days, with the labels known when the last matured."""
    declared = plan.declaration
    as_of = max(days) + timedelta(days=declared.labels.maturity_days)
    windows = declared.split.model_copy(update={"test_days": (as_of - trained).days})
    whole = training_set_in(ledger, plan, as_of, split=windows)
    rows = whole.rows.filter((pl.col("split") != "test") | pl.col(DAY).is_in([*days]))
    return measure_challenger(
        plan,
        replace(whole, rows=rows),
        challenger,
        champion=Versioned(opponents.champion.version, opponents.champion.model),
        anchor=opponents.anchor,
        pooled=pooled_champion(ledger, plan),
    )


def judge_again(
    ledger: StepLedger, plan: ModelPlan, compared: Sequence[ShadowResult], *, passed: str | None = None, run_id: str
) -> tuple[list[ShadowedChallenger], Promotion | None]:
    """Let the gate judge compared challengers again, until one passes.

    Nothing is written about a challenger that does not pass, about one that already waits for a person, or if the
    champion or the anchor has changed since the comparison. If a canary is declared, only the challenger that has
    `passed` it is promoted.

    Returns:
        The results, with the reasons of the gate's refusals; and the entry of the challenger that passed, which was
        added now or before. None if none passed.

    Raises:
        PromotionConflictError: other processes keep adding entries.
    """
    results, entry = [], None
    for it in compared:
        result = it.result
        if entry is None and it.evaluation is not None and result.attempt is not None:
            case = _Case.of(ledger, plan, it.model, it.evaluation, result.attempt)
            needs_canary = plan.declaration.challengers.canary is not None and result.version != passed
            refused, entry = case.decide(run_id, needs_canary=needs_canary)
            result = result.model_copy(update={"refused": refused})
        results.append(result)
    return results, entry


@dataclass(frozen=True)
class _Case:
    """A compared challenger before the gate, with the facts for its verdict."""

    ledger: StepLedger
    plan: ModelPlan
    model: Model
    evaluation: Evaluation
    attempt: int
    costs: Sequence[ServingCost]
    leaks: LeakFindings | None

    @classmethod
    def of(cls, ledger: StepLedger, plan: ModelPlan, model: Model, evaluation: Evaluation, attempt: int) -> Self:
        """Measure the challenger's serving cost, and read the known leaks behind its training set."""
        lake, training_set = ledger.lake, plan.asset("training_set").to_user_string()
        manifest = lake.manifest(model_ref(plan, evaluation.summary.model_version))
        trained_on = next((it for it in manifest.inputs if it.asset == training_set), None)
        leaks = None
        if trained_on is not None:
            leaks = findings_behind(lake, plan.declaration, lake.manifest(trained_on), runs=ledger.runs)
        return cls(ledger, plan, model, evaluation, attempt, serving_costs(model, plan.declaration.gate), leaks)

    def decide(self, run_id: str, *, needs_canary: bool = False) -> tuple[tuple[str, ...], Promotion | None]:
        """Return why the challenger is not promoted; or the entry by which it is, or waits, added now or before."""
        return retry_on_conflict(lambda: self._decide(run_id, needs_canary=needs_canary))

    def _decide(self, run_id: str, *, needs_canary: bool) -> tuple[tuple[str, ...], Promotion | None]:
        log, summary, plan = self.plan.promotion_log(self.ledger.lake), self.evaluation.summary, self.plan
        entries = log.verified().entries
        if (summary.champion_version, summary.anchor_version) != (entries[-1].champion, anchor(entries)):
            return ("The champion or the anchor has changed since the comparison.",), None
        verdict = verdict_on(
            plan, self.evaluation, self.model, self.costs, entries=entries, leaks=self.leaks, attempt=self.attempt
        )
        if not verdict.promote:
            return verdict.reasons, None
        if needs_canary:
            return ("It passes the gate's rules, and must pass all shares of the canary first.",), None
        before = [it.evaluation_version for it in entries if it.challenger == summary.model_version]
        version = next((it for it in reversed(before) if it is not None), None)
        entry = entry_on(
            plan, verdict, summary, entries=entries, evaluation_version=version, at=self.ledger.now()
        ).model_copy(update={"run_id": run_id, "cause": IN_SHADOW})
        waits = waiting(entries)
        if entry.action == "request_approval" and waits is not None and waits.challenger == entry.challenger:
            return (), waits
        return (), log.append(entry, number=entry.number)
