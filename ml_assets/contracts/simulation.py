"""What a simulated life came to, and how far the rules that it lived by can be trusted.

How it is lived stays out; see `ml_assets.logic.backtest.simulation` and `ml_assets.logic.backtest.detection`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import polars as pl
from pydantic import Field

from ml_assets.contracts.artifacts import Interval, Record, Task

How = Literal["days", "rows"]


class PolicyResult(Record):
    """What one policy of retraining came to over some days.

    Attributes:
        metric: the deciding metric over all labelled rows of these days.
        gain: over never training again, on the same rows; above zero is better.
        share_of_weekly: its gain as a share of weekly retraining's; None where that gains nothing.
        fits: models trained on these days, the first one not counted.
        seconds: of a CPU, of those fits.
    """

    policy: str
    metric: Interval
    gain: Interval | None = None
    share_of_weekly: float | None = None
    fits: int
    promotions: int
    refusals: int
    rollbacks: int
    seconds: float


class SimulationSummary(Record):
    """What a simulation came to: a policy is chosen on its first days, and all are reported on the others.

    The best of several policies looks better than it is on the days that it was chosen by.

    Attributes:
        chosen_until: the last day of those that the policy is chosen on; the next is the first that is reported.
        chosen: the policy with the best metric on those days; None where they do not define it.
        choice: the figures that it was chosen by.
        policies: the figures of the reported days.
        rows: labelled predictions of the reported days.
        unlabelled: predictions of these days that have no label, in no figure.
        is_tuned: whether features and parameters were chosen anew at each retraining.
        injections: what was put into the data, as it was asked for.
        seconds: all of it took.
    """

    model: str
    task: Task
    metric: str
    first_day: date
    chosen_until: date
    last_day: date
    rows: int
    unlabelled: int = 0
    features: tuple[str, ...]
    parameters: dict[str, float | int | str | bool]
    rounds: int
    is_tuned: bool
    rules: dict[str, float | None]
    injections: tuple[str, ...] = ()
    chosen: str | None
    choice: tuple[PolicyResult, ...]
    policies: tuple[PolicyResult, ...]
    seconds: float
    sentence: str


class FalseAlarms(Record):
    """What a stream without drift showed: days, those over their drift limits, and those on which a rule asked.

    Attributes:
        judged: days with enough rows for drift to be judged; only these can be over.
    """

    days: int
    judged: int
    over: int
    asked_by_drift: int
    asked_by_performance: int


class Power(Record):
    """How often a drift was found within three days.

    Attributes:
        kind: what was put in; see `Injection`.
        column: where.
        size: how much.
        cost: how much of the metric it took on the days that count, on the mean of the trials; None where no trial
            defines the metric.
        trials: how many.
        by_drift: found by the drift rule.
        by_performance: found by the performance rule, days counting from when the labels are known.
        by_either: found by one of them.
    """

    kind: str
    column: str
    size: float
    cost: float | None
    trials: int
    by_drift: int
    by_performance: int
    by_either: int


class Detection(Record):
    """How far the rules can be trusted on the rows of some days, or why that was not measured.

    Attributes:
        first_day: of those that streams are drawn from; None where none are.
        last_day: the last of them.
        false_alarms: by how the stream was drawn.
        power: by drift.
        why_not: in a sentence; empty where it was measured.
    """

    first_day: date | None = None
    last_day: date | None = None
    false_alarms: dict[How, FalseAlarms] = Field(default_factory=dict)
    power: tuple[Power, ...] = ()
    why_not: str = ""


@dataclass(frozen=True)
class Simulation:
    """A simulated life: its figures, and the page that shows them.

    Attributes:
        weeks: the metric of each policy, week by week.
        events: retrainings and rollbacks, with cause, facts and verdict.
        held: days on which something asked and was held back.
        turns: where triggered retraining gained or lost against the others, the worst week first.
        detection: how far the rules that it lived by can be trusted.
    """

    summary: SimulationSummary
    weeks: pl.DataFrame
    events: pl.DataFrame
    held: pl.DataFrame
    turns: pl.DataFrame
    detection: Detection
    html: str = field(metadata={"file": "simulation.html"})
