"""The evaluation of a challenger: metrics with intervals, comparisons, and what they were measured on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl
from pydantic import Field

from ml_assets.contracts.artifacts.training import HashSplit, Task
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.objective import Objective
from ml_assets.contracts.words import counted


class Interval(Record):
    """A figure with its 95 % interval, or the reason why it has none.

    The interval comes from leaving out one day, one group or one fold of rows at a time, or days and groups.

    Attributes:
        low: The lower end; None if there is no interval.
    """

    value: float
    low: float | None
    high: float | None
    reason: str = ""

    def ends(self, spec: str) -> str:
        """Return both ends in brackets, or why there is no interval.

        Args:
            spec: The format of a number, as for `format`.
        """
        if self.low is None or self.high is None:
            return f"(no interval: {self.reason})"
        return f"[{self.low:{spec}}, {self.high:{spec}}]"


class MeasuredCoverage(Record):
    """Prediction intervals on the test rows: the declared and the measured share of labels inside, and the width."""

    declared: float
    measured: Interval
    mean_width: float


class OperatingPoint(Record):
    """Which rows are acted on: the share with the highest scores, or all above a threshold.

    Attributes:
        within: the column of the groups in which the share is taken; None for a share of all rows.
        cut: the lowest score of this share of all test rows together, from which the prediction service flags a row;
            None for a threshold, and if it was not measured.
    """

    top_share: float | None = None
    threshold: float | None = None
    within: str | None = None
    cut: float | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def words(self) -> str:
        """The point as text for an operator."""
        if self.threshold is not None:
            return f"scores of {self.threshold:g} or more"
        of = f"of each {self.within} " if self.within else ""
        return f"the {100 * (self.top_share or 0):g} % {of}with the highest scores"


class GroupCount(Record):
    """In how many groups a metric was measured.

    Attributes:
        measured: groups on which the metric is defined; each counts once, however many rows it has.
        undefined: groups on which it is not defined, because one class is absent, or because of `why`.
        why: what these groups are like, as text.
    """

    column: str
    measured: int
    undefined: int
    why: str = Field(default="with a single class", exclude_if=lambda it: it == "with a single class")

    @property
    def words(self) -> str:
        """The count as text for an operator."""
        left = f"; {self.undefined:,} {self.why} left out" if self.undefined else ""
        return f"mean over {self.measured:,} values of {self.column}, each of which counts once{left}"


class Baseline(Record):
    """The metrics of a baseline on the same test rows."""

    name: str
    description: str
    metrics: dict[str, float]


FOLDS: Final = "folds"
"""The unit of a comparison on the folds of a repeated cross-validation."""


class Comparison(Record):
    """The difference between challenger and champion (or baseline) on the same frozen rows.

    A positive `difference` means that the challenger is better, for metrics of both directions.

    Attributes:
        clusters: Number of days, groups or folds of rows that were left out in turn, or of `FOLDS` that were tested.
        unit: What was left out in turn, in the plural.
        degrees_of_freedom: Degrees of freedom of Student's t, with which a bound of any confidence follows from the
            error.
        correlation: The correlation of neighbouring days that the error allows for.
        crossed: The groups that were left out in turn besides days, with their number; empty without.
    """

    against: str
    metric: str
    challenger: float
    other: float
    difference: Interval
    rows: int
    clusters: int
    unit: str = "days"
    standard_error: float | None = None
    degrees_of_freedom: int | None = None
    correlation: float = 0.0
    crossed: str = Field(default="", exclude_if=lambda it: not it)

    @property
    def left_out(self) -> str:
        """What was left out in turn, with its number."""
        return f"{self.clusters} {self.unit}{f' and {self.crossed}' if self.crossed else ''}"


class GroupPart(Record):
    """Test rows of groups that the challenger has seen in training, or of groups that it has not seen.

    Attributes:
        metric: the deciding metric on these rows; None if it is not judged.
        reason: why it is not judged.
    """

    rows: int
    groups: int
    metric: Interval | None = None
    reason: str = ""

    @property
    def words(self) -> str:
        """The metric as text, or that it is not judged."""
        if self.metric is None:
            return f"not judged ({self.reason})"
        return f"{self.metric.value:z.4f} {self.metric.ends('z.4f')}"


class KnownGroups(Record):
    """The test rows of groups that have rows in the training, and the others.

    Attributes:
        column: the column of the groups.
    """

    column: str
    seen: GroupPart
    unseen: GroupPart

    @property
    def groups(self) -> int:
        """The number of groups in the test."""
        return self.seen.groups + self.unseen.groups

    @property
    def share(self) -> float:
        """The share of the test rows whose group was seen in training."""
        return self.seen.rows / (self.seen.rows + self.unseen.rows)

    @property
    def words(self) -> str:
        """The share as text."""
        return (
            f"{self.share:.1%} of the test rows have a {self.column} that was seen in training "
            f"({self.seen.groups:,} of {counted(self.groups, 'group')})"
        )


class RowWeights(Record):
    """The declared weights of the measured rows.

    Attributes:
        effective_rows: the number of equally weighted rows whose mean would be as exact (Kish's effective sample size).
    """

    column: str
    total: float
    effective_rows: float

    @property
    def words(self) -> str:
        """The weights as text for an operator."""
        total = f"{self.total:,.0f}" if self.total >= 100 else f"{self.total:.3g}"
        return f"'{self.column}' (a sum of {total}; as exact as {self.effective_rows:,.0f} rows of equal weight)"


class CrossValidation(Record):
    """The scores of a repeated cross-validation: the deciding metric on each fold of each repeat.

    Attributes:
        test_rows: mean number of rows of a fold.
        train_rows: mean number of rows of the other folds, which its models are selected, tuned and trained on.
        scores: by model (challenger, champion, anchor or a baseline's name), folds of the first repeat first; None
            where the metric is not defined.
    """

    folds: int
    repeats: int
    test_rows: float
    train_rows: float
    scores: dict[str, tuple[float | None, ...]]

    @property
    def words(self) -> str:
        """The procedure as text."""
        return f"{counted(self.repeats, 'repeat')} of {self.folds} folds"


class DailyLoss(Record):
    """How far the days of a test window fell short of the expected metric, in units of the deciding metric.

    A mean above zero is worse than expected.

    Attributes:
        rows_per_day: labelled rows of a day, as a median.
    """

    mean: float
    standard_deviation: float
    days: int
    rows_per_day: float


class EvaluationSummary(Record):
    """The challenger's evaluation on the frozen test rows.

    Attributes:
        against_anchor: None if the champion is the anchor, or if the anchor cannot score.
        test_days: the first and the last day of the measured rows.
        last_seen_day: the last day that challenger, champion or anchor was trained or tuned on.
        excluded_rows: test rows up to that day, which are excluded.
        seen_rows: test rows up to that day that were measured nevertheless, because too few other rows remained. If
            there are any, the challenger is not compared with champion and anchor.
        daily_loss: how far its days fell short of the expected metric; later days are compared with it.
        groups: in how many groups the deciding metric was measured; None for a metric over all rows.
        split: how the training set is split; None for windows of time.
        champion_seen_rows: test rows that the champion has learned from because its training set was split in another
            way, so that it is not compared; `champion_cannot_score` has the sentence.
        objective: the declared objective of a regression or a ranking; None for the task's own.
        coverage: the challenger's prediction intervals on these rows; None if it has none.
        weight: the weights of these rows, by which all figures are weighted except counts; None if all rows count
            alike.
        pooled_version: the champion of the model of all rows, which is one of the baselines of a model of some rows.
        cross_validation: the scores by fold; None for a single test part.
        known_groups: rows of groups that were seen in training, and the others; None without a group beside time. With
            it, intervals and comparisons leave out days and groups.
    """

    model: str
    model_version: str
    training_set_version: str
    task: Task
    metric: str
    rows: int
    target_mean: float | None = None
    metrics: dict[str, Interval]
    baselines: tuple[Baseline, ...]
    against_baselines: tuple[Comparison, ...]
    against_champion: Comparison | None = None
    champion_version: str | None = None
    champion_cannot_score: str | None = None
    against_anchor: Comparison | None = None
    anchor_version: str | None = None
    anchor_cannot_score: str | None = None
    test_days: tuple[date, date] | None = None
    last_seen_day: date
    excluded_rows: int = 0
    seen_rows: int = 0
    calibration_error: float | None = None
    daily_loss: DailyLoss | None = None
    groups: GroupCount | None = None
    operating_point: OperatingPoint | None = None
    split: HashSplit | None = Field(default=None, exclude_if=lambda it: it is None)
    champion_seen_rows: int = Field(default=0, exclude_if=lambda it: not it)
    objective: Objective | None = Field(default=None, exclude_if=lambda it: it is None)
    coverage: MeasuredCoverage | None = Field(default=None, exclude_if=lambda it: it is None)
    weight: RowWeights | None = Field(default=None, exclude_if=lambda it: it is None)
    pooled_version: str | None = Field(default=None, exclude_if=lambda it: it is None)
    cross_validation: CrossValidation | None = Field(default=None, exclude_if=lambda it: it is None)
    known_groups: KnownGroups | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def resampled_by(self) -> str:
        """The units of intervals and comparisons; empty for days alone."""
        if self.split is not None:
            return self.split.resampled_by
        return f"day and {self._crossed}" if self._crossed else ""

    @property
    def _crossed(self) -> str:
        """The column of the groups that are left out besides days; empty without, or with rows of a single group."""
        known = self.known_groups
        return "" if known is None or known.groups == 1 else known.column

    @property
    def left_out(self) -> str:
        """What is left out in turn for an interval, as text."""
        if self.split is not None:
            return self.split.left_out
        groups = f" and one {self._crossed} group at a time (two-way clustering)" if self._crossed else ""
        return f"one day at a time{groups}"


@dataclass(frozen=True)
class Evaluation:
    """Metrics, per-slice metrics, curves and calibration bins of one challenger."""

    summary: EvaluationSummary
    slices: pl.DataFrame
    curves: pl.DataFrame
    calibration: pl.DataFrame
