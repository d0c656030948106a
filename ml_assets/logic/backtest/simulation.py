"""Backtest a model over past days under several policies: who is champion on each day, what requests a retraining.

Not here: training, judging and measuring a day, which a `World` does with what was known by then. The rules are those
of production (see `ml_assets.logic.monitoring.retraining` and `ml_assets.logic.promotion.watch`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Generic, Literal, Protocol, TypeVar

from ml_assets.contracts.artifacts.monitoring import DriftSummary, PerformanceSummary
from ml_assets.contracts.decisions import Cause, Promotion, Retraining
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.monitoring.retraining import (
    LOOKED_BACK,
    RetrainingDecision,
    Rules,
    Serving,
    decide,
    drift_finding,
    floor_finding,
    labels_finding,
    performance_finding,
)
from ml_assets.logic.promotion.gate import Verdict
from ml_assets.logic.promotion.log import anchor, rejections, serving_since
from ml_assets.logic.promotion.watch import Watching, compare_with_former

Policy = Literal["never", "monthly", "weekly", "triggered"]
POLICIES: Final[tuple[Policy, ...]] = ("never", "monthly", "weekly", "triggered")
WEEK: Final = 7
SIMULATED: Final = "simulation"


class SimulatedModel(Protocol):
    """A model of a backtest."""

    @property
    def serving(self) -> Serving:
        """The model as the current champion, as the rules need it."""

    @property
    def seconds(self) -> float:
        """Seconds of its training, by the machine's clock."""


M = TypeVar("M", bound=SimulatedModel)


class World(Protocol[M]):
    """The past. It only uses what was known by the end of a day."""

    @property
    def metric(self) -> Metric:
        """The deciding metric."""

    @property
    def label_days(self) -> int:
        """Days after its own by which a day's labels are known."""

    def train(self, as_of: date, champion: M | None) -> M:
        """Train on what was known by the end of a day; a search of parameters starts from the champion's."""

    def expect(self, days: Sequence[date]) -> None:
        """Announce as-of days that will be trained in any case."""

    def judge(self, challenger: M, champion: M, *, anchor: M, log: Sequence[Promotion]) -> Verdict:
        """Return the gate's verdict, given the backtest's promotion log."""

    def drift(self, champion: M, day: date, *, since: date) -> DriftSummary:
        """Measure a day's drift against the champion's reference; it has predicted since another day."""

    def performance(self, champion: M, day: date, *, known_by: date, former: M | None) -> PerformanceSummary:
        """Measure a day that the champion predicted, with the labels known by the end of another day."""


@dataclass(frozen=True)
class SimulatedEvent:
    """A retraining or a rollback in a backtest.

    Attributes:
        day: the as-of day.
        cause: the cause; `calendar` for a scheduled retraining, `watch` for a rollback.
        promoted: whether the champion changes on the next day.
        version: the challenger, or the version that was rolled back to.
        seconds: seconds of training, by the machine's clock.
    """

    day: date
    policy: Policy
    cause: Cause | Literal["calendar", "watch"]
    sentence: str
    promoted: bool
    version: str
    reasons: tuple[str, ...]
    seconds: float

    @property
    def is_fit(self) -> bool:
        """Whether a model was trained."""
        return self.cause != "watch"


@dataclass
class PolicyState(Generic[M]):
    """The state of a backtest under one policy.

    Attributes:
        served: the model that predicted each day.
        held: by day, why a requested retraining was postponed.
        former: the previous champion, while the champion is watched.
        models: all models that were champion, by version.
    """

    policy: Policy
    champion: M
    served: dict[date, M] = field(default_factory=dict)
    events: list[SimulatedEvent] = field(default_factory=list)
    held: dict[date, str] = field(default_factory=dict)
    former: M | None = None
    log: list[Promotion] = field(default_factory=list)
    models: dict[str, M] = field(default_factory=dict)
    history: list[Retraining] = field(default_factory=list)
    drift: list[DriftSummary] = field(default_factory=list)
    performance: list[PerformanceSummary] = field(default_factory=list)

    @property
    def rejections(self) -> int:
        """Number of rejected challengers, counted as the sensors do."""
        return rejections(self.log, serving_since(self.log))

    @property
    def anchor(self) -> M:
        """The model that no champion may be worse than by more than the margin."""
        version = anchor(self.log)
        return self.champion if version is None else self.models[version]

    def decide(self, day: date, action: Literal["promote", "reject", "rollback"], model: M, verdict: Verdict) -> None:
        """Add an entry to the log, and change the champion unless the challenger is rejected."""
        if action != "reject":
            self.champion = self.models[model.serving.version] = model
        self.log.append(
            Promotion(
                number=len(self.log) + 1, model=SIMULATED, action=action, champion=self.champion.serving.version,
                challenger=model.serving.version, reasons=verdict.reasons, is_anchor=verdict.is_anchor,
                attempt=verdict.attempt, test_days=verdict.test_days,
                decided_at=datetime.combine(day, time(), UTC), decided_by=SIMULATED,
            )
        )  # fmt: skip


def simulate(
    world: World[M], *, first: date, last: date, rules: Rules, watching: Watching, policies: Sequence[Policy] = POLICIES
) -> Iterator[tuple[date, list[PolicyState[M]]]]:
    """Backtest the days under all policies; yield each day with the state of each policy at its end.

    All policies begin with the model trained as of the day before the first, which the gate does not judge. The
    champion predicts a day. At its end the sensors run, and a challenger trained as of that day becomes champion on the
    next day if the gate promotes it. The scheduled policies differ only in their days: monthly is the last day of a
    month, weekly is every seventh day.
    """
    start = world.train(first - timedelta(days=1), None)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    world.expect([day for day in days if any(_is_due(policy, day, first) for policy in policies)])
    states: list[PolicyState[M]] = [PolicyState(policy, start) for policy in policies]
    for state in states:
        state.decide(start.serving.as_of, "promote", start, Verdict(promote=True, reasons=("It is the first.",)))
    for day in days:
        for state in states:
            state.served[day] = state.champion
            if state.policy == "triggered":
                _watched(world, state, day, rules, watching)
            elif _is_due(state.policy, day, first):
                _train(world, state, day, "calendar", f"Scheduled {state.policy} retraining.")
        yield day, states


def _is_due(policy: Policy, day: date, first: date) -> bool:
    if policy == "weekly":
        return (day - first).days % WEEK == WEEK - 1
    return policy == "monthly" and (day + timedelta(days=1)).day == 1


def _watched(world: World[M], state: PolicyState[M], day: date, rules: Rules, watching: Watching) -> None:
    """Run the sensors of a day: first the watch, which may roll the champion back, then the retraining rules."""
    state.drift.append(world.drift(state.champion, day, since=_since(state, day)))
    matured = day - timedelta(days=world.label_days)
    if matured in state.served:
        predicted_by = state.served[matured]
        former = state.former if predicted_by.serving.version == state.champion.serving.version else None
        state.performance.append(world.performance(predicted_by, matured, known_by=day, former=former))
    since = [it for it in state.performance if it.day > state.champion.serving.as_of][-LOOKED_BACK:]
    if _is_rolled_back(world, state, since, day=day, rules=rules, watching=watching):
        return
    decision = decision_of(
        state.drift,
        since,
        day,
        champion=replace(state.champion.serving, rejections=state.rejections),
        history=state.history,
        rules=rules,
        metric=world.metric,
    )
    if decision.finding is None:
        if decision.is_held:
            state.held[day] = decision.sentence
        return
    finding = decision.finding
    state.history.append(
        Retraining(
            model=SIMULATED, as_of=day, number=decision.number, cause=finding.cause, sentence=finding.sentence,
            figures=finding.figures, champion=state.champion.serving.version,
            requested_at=datetime.combine(day, time(), UTC), requested_by=SIMULATED,
        )
    )  # fmt: skip
    _train(world, state, day, finding.cause, finding.sentence)


def _since(state: PolicyState[M], day: date) -> date:
    """Return the first day from which on the current champion has predicted without a break."""
    while (before := state.served.get(day - timedelta(days=1))) is not None and (
        before.serving.version == state.champion.serving.version
    ):
        day -= timedelta(days=1)
    return day


def decision_of(
    drift: Sequence[DriftSummary],
    performance: Sequence[PerformanceSummary],
    day: date,
    *,
    champion: Serving,
    history: Sequence[Retraining],
    rules: Rules,
    metric: Metric,
) -> RetrainingDecision:
    """Return the decision of the sensors and of the maximum age for a day."""
    findings = [
        drift_finding(drift, champion, rules),
        performance_finding(performance, champion, rules, metric),
        labels_finding(performance, champion, history, rules),
        floor_finding(day, champion, history, rules),
    ]
    return decide(findings, day=day, champion=champion, history=history, rules=rules)


def _is_rolled_back(
    world: World[M],
    state: PolicyState[M],
    performance: Sequence[PerformanceSummary],
    *,
    day: date,
    rules: Rules,
    watching: Watching,
) -> bool:
    if state.former is None or not watching.periods:
        return False
    compared = compare_with_former(
        performance, watching, champion=state.champion.serving.version, metric=world.metric, coverage=rules.min_coverage
    )
    if compared.is_worse:
        state.decide(day, "rollback", state.former, Verdict(promote=True, reasons=(compared.sentence,)))
        state.former = None
        state.events.append(
            SimulatedEvent(day, state.policy, "watch", compared.sentence, True, state.champion.serving.version,
                  (compared.sentence,), 0.0)
        )  # fmt: skip
    elif compared.is_settled:
        state.former = None
    return compared.is_worse


def _train(
    world: World[M], state: PolicyState[M], day: date, cause: Cause | Literal["calendar"], sentence: str
) -> None:
    challenger, before = world.train(day, state.champion), state.champion
    verdict = world.judge(challenger, before, anchor=state.anchor, log=state.log)
    if challenger.serving.version != before.serving.version:
        state.decide(day, "promote" if verdict.promote else "reject", challenger, verdict)
    state.events.append(
        SimulatedEvent(day, state.policy, cause, sentence, verdict.promote, challenger.serving.version, verdict.reasons,
              challenger.seconds)
    )  # fmt: skip
    if verdict.promote:
        state.former = before
