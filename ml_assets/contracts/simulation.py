"""The types of a simulation's result: the figures of each policy, and how reliable the retraining rules are.

Not here: simulating (see `ml_assets.logic.backtest.simulation` and `ml_assets.logic.backtest.detection`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import polars as pl
from pydantic import Field

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.json_record import Record

How = Literal["days", "rows"]


class PolicyResult(Record):
    """The result of one retraining policy over some days.

    Attributes:
        metric: the deciding metric over all labelled rows of these days.
        gain: the improvement over never retraining, on the same rows; above zero is better.
        share_of_weekly: its gain as a share of the gain of weekly retraining; None if that gains nothing.
        fits: models trained on these days, without the first one.
        seconds: CPU seconds of those trainings.
    """

    policy: str
    metric: Interval
    gain: Interval | None = None
    share_of_weekly: float | None = None
    fits: int
    promotions: int
    rejections: int
    rollbacks: int
    seconds: float


class SimulationSummary(Record):
    """The result of a simulation. A policy is chosen on the first days; all policies are reported on the others.

    The best of several policies looks better than it is on the days on which it was chosen.

    Attributes:
        selection_last_day: the last day on which the policy is chosen; the next day is the first that is reported.
        chosen_policy: the policy with the best metric on those days; None if the metric is not defined on them.
        policies: the figures of the reported days.
        rows: labelled predictions of the reported days.
        unlabelled: predictions of these days without a label, or with one of weight 0, which are in no figure.
        weight: the column by which figures are weighted, except counts; None if all rows count alike.
        is_tuned: whether features and parameters were chosen again at each retraining.
        group: the column of the declared groups; None without one.
        group_count: the number of groups of the labelled predictions of the reported days.
    """

    model: str
    task: Task
    metric: str
    first_day: date
    selection_last_day: date
    last_day: date
    rows: int
    unlabelled: int = 0
    weight: str | None = Field(default=None, exclude_if=lambda it: it is None)
    group: str | None = Field(default=None, exclude_if=lambda it: it is None)
    group_count: int = Field(default=0, exclude_if=lambda it: not it)
    features: tuple[str, ...]
    parameters: dict[str, float | int | str | bool]
    rounds: int | None
    is_tuned: bool
    rules: dict[str, float | None]
    injections: tuple[str, ...] = ()
    chosen_policy: str | None
    selection_results: tuple[PolicyResult, ...]
    policies: tuple[PolicyResult, ...]
    seconds: float
    sentence: str

    @property
    def left_out(self) -> str:
        """What is left out in turn for an interval, as text; a single group is not left out."""
        if self.group is None:
            return "one day at a time, the same days"
        if self.group_count == 1:
            return f"one day at a time, because all rows have the same {self.group}; the same days"
        return f"one day at a time and one {self.group} group at a time (two-way clustering), the same"

    @property
    def unlabelled_words(self) -> str:
        """What the predictions that are left out have in common, as text."""
        return "without a label" if self.weight is None else f"without a label, or with '{self.weight}' 0"


class FalseAlarms(Record):
    """The result of a stream without drift: number of days, of days above limits, and of requested retrainings.

    Attributes:
        judged: days with enough rows for drift to be judged; only these can be above a limit.
    """

    days: int
    judged: int
    over: int
    requested_by_drift: int
    requested_by_performance: int


class Power(Record):
    """How often a drift was found within three days.

    Attributes:
        kind: kind of the injected drift; see `Injection`.
        cost: the loss of the metric on the counted days, as a mean over trials; None if no trial defines the metric.
        by_performance: trials in which the performance rule found it, counted from the day on which labels are known.
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
    """How reliable the retraining rules are on the rows of some days, or why that was not measured.

    Attributes:
        first_day: first of the days from which streams are drawn; None if there are none.
        false_alarms: by how the stream was drawn.
    """

    first_day: date | None = None
    last_day: date | None = None
    false_alarms: dict[How, FalseAlarms] = Field(default_factory=dict)
    power: tuple[Power, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Simulation:
    """A simulation: its figures, and the tables behind its page.

    Attributes:
        events: retrainings and rollbacks, with cause, facts and verdict.
        weekly_gains: where triggered retraining gained or lost against the other policies, the worst week first.
    """

    summary: SimulationSummary
    weeks: pl.DataFrame
    events: pl.DataFrame
    postponed: pl.DataFrame
    weekly_gains: pl.DataFrame
    detection: Detection
    html: str = field(metadata={"file": "simulation.html"})
