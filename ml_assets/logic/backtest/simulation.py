"""A model's life over past days under several policies: who serves each day, what asks for a retraining, what comes.

What training, judging and measuring a day mean stays out: a `World` does it, with what was known by the day. What asks
for a retraining is the real thing; see `retraining` and `watch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Generic, Literal, Protocol, TypeVar

from ml_assets.contracts.artifacts import Cause, DriftSummary, PerformanceSummary, Promotion, Retraining
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.monitoring.retraining import (
    LOOKED_BACK,
    Decision,
    Rules,
    Serving,
    decide,
    drift_finding,
    floor_finding,
    labels_finding,
    performance_finding,
)
from ml_assets.logic.promotion.log import anchor, refusals, serving_since
from ml_assets.logic.promotion.watch import compare_with_former

Policy = Literal["never", "monthly", "weekly", "triggered"]
POLICIES: Final[tuple[Policy, ...]] = ("never", "monthly", "weekly", "triggered")
WEEK: Final = 7
SIMULATED: Final = "simulation"


class Trained(Protocol):
    """A model of a simulated life."""

    @property
    def serving(self) -> Serving:
        """It as the rules see it, should it serve."""

    @property
    def seconds(self) -> float:
        """What training it took, by the clock of the machine."""


@dataclass(frozen=True)
class Judgement:
    """The gate's verdict on a challenger; what it says of anchor and attempt goes to the log, as in `Promotion`."""

    promote: bool
    reasons: tuple[str, ...]
    is_anchor: bool = False
    attempt: int | None = None
    test_days: tuple[date, date] | None = None


M = TypeVar("M", bound=Trained)


class World(Protocol[M]):
    """The past, of which only what was known by the end of a day is told."""

    @property
    def metric(self) -> Metric:
        """The deciding metric."""

    @property
    def label_days(self) -> int:
        """Days after its own by which the labels of a day are known."""

    def train(self, as_of: date, champion: M | None) -> M:
        """Train on what was known by the end of a day; where parameters are searched anew, from the champion's on."""

    def expect(self, days: Sequence[date]) -> None:
        """Be told as of which days will be trained whatever comes."""

    def judge(self, challenger: M, champion: M, *, anchor: M, log: Sequence[Promotion]) -> Judgement:
        """Return the gate's verdict, by the promotion log of the backtest."""

    def drift(self, champion: M, day: date, *, since: date) -> DriftSummary:
        """Measure a day's drift from the champion's reference, which has predicted the days since another."""

    def performance(self, champion: M, day: date, *, known_by: date, former: M | None) -> PerformanceSummary:
        """Measure a day that the champion predicted, with the labels known by the end of another."""


@dataclass(frozen=True)
class Watching:
    """How the first days of a champion are held against the one before; see `WatchSettings`."""

    days: int
    minimum_days: int
    margin: float


@dataclass(frozen=True)
class Event:
    """A retraining, or a rollback, of a simulated life.

    Attributes:
        day: as of which.
        policy: whose life it is.
        cause: what asked for it; `calendar` where no facts did, `watch` for a rollback.
        sentence: the facts.
        promoted: whether another model serves from the next day on.
        version: the challenger, or who serves again.
        reasons: the gate's, or the watch's.
        seconds: of training, by the clock of the machine.
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
class Life(Generic[M]):
    """What one policy makes of the days.

    Attributes:
        policy: which.
        champion: who serves now.
        served: who predicted each day.
        events: retrainings and rollbacks, in order.
        held: by day, what asked and was held back.
        former: who served before, while the champion is watched.
        log: the promotion log.
        models: all that have served, by version.
    """

    policy: Policy
    champion: M
    served: dict[date, M] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    held: dict[date, str] = field(default_factory=dict)
    former: M | None = None
    log: list[Promotion] = field(default_factory=list)
    models: dict[str, M] = field(default_factory=dict)
    history: list[Retraining] = field(default_factory=list)
    drift: list[DriftSummary] = field(default_factory=list)
    performance: list[PerformanceSummary] = field(default_factory=list)

    @property
    def refusals(self) -> int:
        """Rejected challengers, as the sensors count them."""
        return refusals(self.log, serving_since(self.log))

    @property
    def anchor(self) -> M:
        """The model that no champion may be worse than by more than the margin."""
        version = anchor(self.log)
        return self.champion if version is None else self.models[version]

    def decide(
        self, day: date, action: Literal["promote", "refuse", "rollback"], model: M, judgement: Judgement
    ) -> None:
        """Add an entry to the log, and let the model serve unless it is rejected."""
        if action != "refuse":
            self.champion = self.models[model.serving.version] = model
        self.log.append(
            Promotion(
                number=len(self.log) + 1, model=SIMULATED, action=action, champion=self.champion.serving.version,
                challenger=model.serving.version, reasons=judgement.reasons, is_anchor=judgement.is_anchor,
                attempt=judgement.attempt, test_days=judgement.test_days,
                decided_at=datetime.combine(day, time(), UTC), decided_by=SIMULATED,
            )
        )  # fmt: skip


def live(
    world: World[M],
    *,
    first: date,
    last: date,
    rules: Rules,
    watching: Watching,
    policies: Sequence[Policy] = POLICIES,
) -> Iterator[tuple[date, list[Life[M]]]]:
    """Live through the days, all policies side by side; yields each day with the lives as they stand at its end.

    All lives begin with the model trained as of the day before the first; the gate is not asked about that one. A day
    is predicted by who serves; at its end sensors look, and a challenger trained as of it serves from the next day on,
    if the gate lets it. The calendars differ in nothing but when they train: monthly on the last day of a month, weekly
    on every seventh day.

    Args:
        world: the past.
        first: the first day that is predicted.
        last: the last.
        rules: when the sensors ask.
        watching: how a new champion is watched, under "triggered".
        policies: which lives to live.
    """
    start = world.train(first - timedelta(days=1), None)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    world.expect([day for day in days if any(_is_due(policy, day, first) for policy in policies)])
    lives: list[Life[M]] = [Life(policy, start) for policy in policies]
    for life in lives:
        life.decide(start.serving.as_of, "promote", start, Judgement(promote=True, reasons=("It is the first.",)))
    for day in days:
        for life in lives:
            life.served[day] = life.champion
            if life.policy == "triggered":
                _watched(world, life, day, rules, watching)
            elif _is_due(life.policy, day, first):
                _train(world, life, day, "calendar", f"It is {life.policy} retraining's day.")
        yield day, lives


def _is_due(policy: Policy, day: date, first: date) -> bool:
    if policy == "weekly":
        return (day - first).days % WEEK == WEEK - 1
    return policy == "monthly" and (day + timedelta(days=1)).day == 1


def _watched(world: World[M], life: Life[M], day: date, rules: Rules, watching: Watching) -> None:
    """Look at a day as the sensors do: first whether the champion is to be taken back, then whether to train."""
    life.drift.append(world.drift(life.champion, day, since=_since(life, day)))
    matured = day - timedelta(days=world.label_days)
    if matured in life.served:
        predicted_by = life.served[matured]
        former = life.former if predicted_by.serving.version == life.champion.serving.version else None
        life.performance.append(world.performance(predicted_by, matured, known_by=day, former=former))
    since = [it for it in life.performance if it.day > life.champion.serving.as_of][-LOOKED_BACK:]
    if _is_taken_back(world, life, since, day=day, rules=rules, watching=watching):
        return
    decision = decision_of(
        life.drift,
        since,
        day,
        champion=replace(life.champion.serving, refusals=life.refusals),
        history=life.history,
        rules=rules,
        metric=world.metric,
    )
    if decision.asks is None:
        if decision.is_held:
            life.held[day] = decision.sentence
        return
    asked = decision.asks
    life.history.append(
        Retraining(
            model=SIMULATED, as_of=day, number=decision.number, cause=asked.cause, sentence=asked.sentence,
            figures=asked.figures, champion=life.champion.serving.version,
            asked_at=datetime.combine(day, time(), UTC), asked_by=SIMULATED,
        )
    )  # fmt: skip
    _train(world, life, day, asked.cause, asked.sentence)


def _since(life: Life[M], day: date) -> date:
    """Return the first of the days up to one that the current champion has predicted without a break."""
    while (before := life.served.get(day - timedelta(days=1))) is not None and (
        before.serving.version == life.champion.serving.version
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
) -> Decision:
    """Return what the sensors and the floor together make of a day."""
    findings = [
        drift_finding(drift, champion, rules),
        performance_finding(performance, champion, rules, metric),
        labels_finding(performance, champion, history, rules),
        floor_finding(day, champion, history, rules),
    ]
    return decide(findings, day=day, champion=champion, history=history, rules=rules)


def _is_taken_back(
    world: World[M],
    life: Life[M],
    performance: Sequence[PerformanceSummary],
    *,
    day: date,
    rules: Rules,
    watching: Watching,
) -> bool:
    if life.former is None or not watching.days:
        return False
    compared = compare_with_former(
        performance, champion=life.champion.serving.version, metric=world.metric, watched=watching.days,
        minimum=watching.minimum_days, margin=watching.margin, coverage=rules.minimum_coverage,
    )  # fmt: skip
    if compared.is_worse:
        life.decide(day, "rollback", life.former, Judgement(promote=True, reasons=(compared.sentence,)))
        life.former = None
        life.events.append(
            Event(day, life.policy, "watch", compared.sentence, True, life.champion.serving.version,
                  (compared.sentence,), 0.0)
        )  # fmt: skip
    elif compared.is_settled:
        life.former = None
    return compared.is_worse


def _train(world: World[M], life: Life[M], day: date, cause: Cause | Literal["calendar"], sentence: str) -> None:
    challenger, before = world.train(day, life.champion), life.champion
    verdict = world.judge(challenger, before, anchor=life.anchor, log=life.log)
    if challenger.serving.version != before.serving.version:
        life.decide(day, "promote" if verdict.promote else "refuse", challenger, verdict)
    life.events.append(
        Event(day, life.policy, cause, sentence, verdict.promote, challenger.serving.version, verdict.reasons,
              challenger.seconds)
    )  # fmt: skip
    if verdict.promote:
        life.former = before
