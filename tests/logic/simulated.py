"""A simulated world: days with chosen drift, and models with chosen quality.

Expectations stay out; they stand in the tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.artifacts.monitoring import DriftSummary, PerformanceSummary, PreviousChampionPerformance
from ml_assets.contracts.decisions import Promotion
from ml_assets.logic.backtest.simulation import PolicyState, simulate
from ml_assets.logic.evaluation.metrics import Metric, find_metric
from ml_assets.logic.monitoring.drift_verdict import DriftLimits
from ml_assets.logic.monitoring.retraining import Rules, Serving
from ml_assets.logic.promotion.gate import Verdict
from ml_assets.logic.promotion.log import left
from ml_assets.logic.promotion.watch import Watching
from tests.records import record

FIRST: Final = date(2024, 3, 1)
LAST: Final = date(2024, 4, 30)
RULES: Final = Rules(
    drift_days=2, drift_window_days=3, performance_limit=None, min_coverage=0.8, label_growth=None, floor_days=None,
    cool_down_days=5, max_per_day=1,
)  # fmt: skip
LIMITS: Final = DriftLimits(
    weighted_excess_psi=0.1, score_excess_psi=0.2, new_category_share=0.05, null_share_change=0.2, min_rows=1
)


def day(number: int) -> date:
    """Return a day of the span, from 0."""
    return FIRST + timedelta(days=number)


@dataclass(frozen=True)
class Fit:
    """A model that is known by the day it was trained as of."""

    as_of: date
    seconds: float = 2.0

    @property
    def version(self) -> str:
        return f"as of {self.as_of}"

    @property
    def serving(self) -> Serving:
        return Serving(self.version, self.as_of, 1000, None, 0.7)


@dataclass
class World:
    """What is made up.

    Attributes:
        drifted: the days that are over the limits.
        refused: the days as of which a challenger is refused.
        bad: the days as of which a model is trained that turns out worse.
        labelled: of a day's 100 predictions.
        trained: the requested days, in order.
    """

    drifted: frozenset[date] = frozenset()
    refused: frozenset[date] = frozenset()
    bad: frozenset[date] = frozenset()
    labelled: int = 100
    trained: list[date] = field(default_factory=list)
    metric: Metric = field(default_factory=lambda: find_metric("roc_auc", "binary"))
    label_days: int = 1

    def train(self, as_of: date, champion: Fit | None) -> Fit:
        del champion
        self.trained.append(as_of)
        return Fit(as_of)

    def expect(self, days: Sequence[date]) -> None:
        """Nothing is made ahead here."""

    def judge(self, challenger: Fit, champion: Fit, *, anchor: Fit, log: Sequence[Promotion]) -> Verdict:
        del anchor
        assert challenger.version not in left(log)
        assert champion.version == log[-1].champion
        return Verdict(challenger.as_of not in self.refused, ("because",))

    def drift(self, champion: Fit, day: date, *, since: date) -> DriftSummary:
        assert since <= day
        return record(
            DriftSummary, model_version=champion.version, day=day, first_day=day, is_over=day in self.drifted,
            sentence=f"weighted excess PSI 0.3 of {day}.",
        )  # fmt: skip

    def performance(self, champion: Fit, day: date, *, known_by: date, former: Fit | None) -> PerformanceSummary:
        assert known_by == day + timedelta(days=self.label_days)
        before = None
        if former is not None:
            before = PreviousChampionPerformance(version=former.version, metrics={"roc_auc": self.quality(former, day)})
        measured = {"roc_auc": Interval(value=self.quality(champion, day), low=None, high=None)}
        return record(
            PerformanceSummary, model_version=champion.version, day=day, labelled=self.labelled, measured=measured,
            previous_champion=before,
        )  # fmt: skip

    def quality(self, fit: Fit, day: date) -> float:
        """Return how good a model is on a day: days differ a little, bad models by much."""
        return 0.8 + 0.001 * (day.day % 3) - 0.1 * (fit.as_of in self.bad)


def simulated(
    world: World, *, rules: Rules = RULES, last: date = LAST, **options: Any
) -> Mapping[str, PolicyState[Fit]]:
    """Return the states at the end of the last day."""
    states: list[PolicyState[Fit]] = []
    for _, now in simulate(world, first=FIRST, last=last, rules=rules, watching=Watching(7, 5, 0.01), **options):
        states = now
    return {state.policy: state for state in states}
