"""The types of a model's artifacts: records (JSON), frames (Parquet) and models as text.

Not here: reading and writing them (see `ml_assets.lake.io_manager`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal, Self

import polars as pl
from pydantic import Field

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.objective import Objective
from ml_assets.contracts.table import Column, ContractRecord
from ml_assets.contracts.words import State, counted, state_of_all

Task = Literal["binary", "regression", "multiclass", "ranking"]
Split = Literal["train", "validation", "test"]
Unseen = Literal["missing", "error"]


class Feature(Record):
    """One input column of a model, from its table's contract."""

    name: str
    dtype: str
    is_categorical: bool = False
    unit: str | None = None
    description: str = ""

    @classmethod
    def of(cls, column: Column) -> Self:
        """Return a column of a table as a feature."""
        return cls(
            name=column.name,
            dtype=str(column.dtype),
            is_categorical=column.is_categorical,
            unit=column.unit,
            description=column.description,
        )


class HashSplit(Record):
    """How rows without an order in time are split: each row, or each group of rows, has a place from 0 to below 1.

    Places below the share of test are test rows, the next are validation rows, all others are train rows. A place
    depends on the values of `columns` only (see `ml_assets.logic.tables.split`), so it is the same in every run, and
    further rows do not change it.

    With `folds` there are no test rows: the rows or groups are dealt into folds (see `ml_assets.logic.tables.folds`),
    and one of them is the validation part.

    Attributes:
        by: whether the rows or the groups are split.
        columns: the key of the rows, or the column of the groups.
        edges: only for a stratified split: where test and validation end in each class.
        folds: folds of a repeated cross-validation; 0 for a split into three parts.
        repeats: how often the rows are dealt into folds for the evaluation.
        draw: the number of the random order in which rows are dealt into train and validation; 0 for the model itself.
    """

    by: Literal["random", "group"]
    columns: tuple[str, ...]
    validation_share: float
    test_share: float
    edges: dict[str, tuple[float, float]] = Field(default={}, exclude_if=lambda it: not it)
    folds: int = Field(default=0, exclude_if=lambda it: not it)
    repeats: int = Field(default=0, exclude_if=lambda it: not it)
    draw: int = Field(default=0, exclude_if=lambda it: not it)

    def is_same_rule(self, other: HashSplit | None) -> bool:
        """Return whether both split the same rows alike, up to the rounding of a stratified split."""
        return other is not None and self.model_copy(update={"edges": {}}) == other.model_copy(update={"edges": {}})

    @property
    def words(self) -> str:
        """The rule as text."""
        if self.folds:
            how = "at random" if self.by == "random" else f"by {', '.join(self.columns)}"
            return f"{how} into {self.folds} folds, {counted(self.repeats, 'time')}"
        shares = f"{self.validation_share:g} validation, {self.test_share:g} test"
        if self.by == "group":
            return f"by {', '.join(self.columns)} ({shares})"
        return f"at random{', stratified by class' if self.edges else ''} ({shares})"

    @property
    def resampled_by(self) -> str:
        """The unit of an interval: rows or groups."""
        return "row" if self.by == "random" else ", ".join(self.columns)

    @property
    def left_out(self) -> str:
        """What is left out in turn for an interval, as text."""
        unit = "fold of rows" if self.by == "random" else f"{self.resampled_by} group"
        return f"one {unit} at a time (resampled by {self.resampled_by})"


def split_words(split: HashSplit | None) -> str:
    """Return how a training set is split, as text."""
    return "by time" if split is None else split.words


class Window(Record):
    """One part of a training set: its days (both included) and counts of its rows."""

    split: Split
    first_day: date
    last_day: date
    rows: int
    target_mean: float | None = None


class TrainingSetSummary(Record):
    """The frozen rows of a training: the as-of day, the windows, and which rows were excluded.

    Attributes:
        split: how the rows are split; None for windows of time.
        excluded_rows: rows of the features, by the reason why they were excluded.
        labels_without_features: labels of days of the windows that match no row of the features.
        objective: the declared objective of a regression or a ranking; None for the task's own.
        positive: the value of the label table that is the positive class; None if the labels are Boolean or 0 and 1.
        weight: the column with the weight of each row; None if all rows count alike.
        group: the column of the groups that may have rows in several windows of time; None without one. A split by
            group has its column in `split`.
    """

    model: str
    task: Task
    target: str
    classes: tuple[str, ...] = ()
    key: tuple[str, ...]
    event_time: str
    prediction_time: str
    known_time: str
    as_of: date
    features: tuple[Feature, ...]
    windows: tuple[Window, ...]
    excluded_rows: dict[str, int]
    labels_without_features: int = 0
    split: HashSplit | None = Field(default=None, exclude_if=lambda it: it is None)
    objective: Objective | None = Field(default=None, exclude_if=lambda it: it is None)
    positive: bool | int | str | None = Field(default=None, exclude_if=lambda it: it is None)
    weight: str | None = Field(default=None, exclude_if=lambda it: it is None)
    group: str | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def unit_column(self) -> str | None:
        """The column of the declared groups, whose rows are not independent; None without one."""
        by_group = self.split is not None and self.split.by == "group"
        return self.split.columns[0] if self.split is not None and by_group else self.group


@dataclass(frozen=True)
class TrainingSet:
    """Frozen rows: a `split` column (train, validation, test), keys, times, features and target."""

    rows: pl.DataFrame
    summary: TrainingSetSummary

    def part(self, split: Split) -> pl.DataFrame:
        """Return the rows of one split: in time order, or in random order if the split is not by time."""
        return self.rows.filter(pl.col("split") == split)

    def learned(self, *, refit: bool) -> pl.DataFrame:
        """Return the rows that a model is trained on: the train rows, and the validation rows if it is refitted."""
        return self.rows.filter(pl.col("split") != "test") if refit else self.part("train")


class ImportancesSummary(Record):
    """Which features are selected, and the validation metric of the quick model that selected them.

    Attributes:
        rows: Validation rows of the last fold, on which `score` and the permutation importances are measured.
    """

    metric: str
    score: float
    rows: int
    shuffles: int
    selected: tuple[str, ...]
    dropped: tuple[str, ...]
    folds: int
    rounds: int
    rows_explained: int


@dataclass(frozen=True)
class Importances:
    """How the features were selected: figures of a quick model, not of the challenger (those are in `Model`).

    Attributes:
        table: one row for each feature and for the strongest injected noise of each kind, measured in the last time
            fold.
        folds: one row for each fold and feature: its gain and permutation importance, those of the noise that it must
            exceed, and whether it does.
    """

    table: pl.DataFrame
    folds: pl.DataFrame
    summary: ImportancesSummary


class TunedParameters(Record):
    """The parameters of a study's best trial, for training.

    Attributes:
        rounds: boosting rounds of LightGBM; None for another estimator.
        estimator: the dotted name of the estimator that they are for; None for LightGBM.
    """

    metric: str
    value: float
    rounds: int | None
    parameters: dict[str, float | int | str | bool]
    trials: int
    pruned: int
    features: tuple[str, ...]
    estimator: str | None = Field(default=None, exclude_if=lambda it: it is None)


@dataclass(frozen=True)
class Tuning:
    """All trials of the study (one row each) and the best of them."""

    trials: pl.DataFrame
    best: TunedParameters


INTERVAL: Final = ("interval_low", "interval_high")
"""The columns of predictions with the ends of the prediction interval."""


class PredictionInterval(Record):
    """What is added to a prediction for its interval.

    Attributes:
        coverage: the declared share of labels inside.
        low: added for the lower end.
        high: added for the upper end.
        is_log: whether both are added to log(1 + prediction) instead.
        rows: validation rows whose residuals they are.
    """

    coverage: float
    low: float
    high: float
    is_log: bool
    rows: int


class MeasuredCoverage(Record):
    """Prediction intervals on the test rows: the declared and the measured share of labels inside, and the width."""

    declared: float
    measured: Interval
    mean_width: float


class ModelSpec(Record):
    """Everything that is needed to score a row with the model's text.

    Attributes:
        rounds: boosting rounds of LightGBM; None for another estimator.
        lightgbm_version: the version of LightGBM that trained it; None for another estimator.
        weights: each feature's share of mean |SHAP|, or for another estimator of the permutation importance.
        last_tuning_day: the last day of the rows that its parameters or rounds were chosen on. If the split is by time,
            it is after the days that it was trained on.
        split: how the rows of its training set were split; None for windows of time.
        objective: the declared objective of a regression or a ranking; None for the task's own.
        positive: the value of the label table that is the positive class; None if the labels are Boolean or 0 and 1.
        weight: the column with the weight of each row that it was trained with; None without one.
        smearing: the factor of predictions with a transformed target (see `ml_assets.logic.training.encoding`); None
            without one.
        interval: the prediction interval; None if none is declared.
        refit: whether it was trained again on train and validation rows (see `ml_assets.logic.training.model.refit`).
        estimator: the dotted name of the estimator that trained it and reads its text; None for LightGBM.
    """

    model: str
    task: Task
    target: str
    classes: tuple[str, ...] = ()
    features: tuple[Feature, ...]
    vocabularies: dict[str, tuple[str, ...]]
    unseen_categories: Unseen = "missing"
    parameters: dict[str, float | int | str | bool]
    rounds: int | None
    as_of: date
    first_training_day: date
    last_training_day: date
    last_tuning_day: date
    training_rows: int
    lightgbm_version: str | None
    weights: dict[str, float] = Field(default={})
    split: HashSplit | None = Field(default=None, exclude_if=lambda it: it is None)
    objective: Objective | None = Field(default=None, exclude_if=lambda it: it is None)
    positive: bool | int | str | None = Field(default=None, exclude_if=lambda it: it is None)
    weight: str | None = Field(default=None, exclude_if=lambda it: it is None)
    smearing: float | None = Field(default=None, exclude_if=lambda it: it is None)
    interval: PredictionInterval | None = Field(default=None, exclude_if=lambda it: it is None)
    refit: bool = Field(default=False, exclude_if=lambda it: not it)
    estimator: str | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def last_seen_day(self) -> date:
        """The last day of the rows that the model was trained or tuned on."""
        return max(self.last_training_day, self.last_tuning_day)


@dataclass(frozen=True)
class Model:
    """A trained model as text, its spec, and the reference that drift is measured against.

    Attributes:
        booster: LightGBM's text; None if another estimator trained the model.
        estimator: the text of the estimator that trained the model; None for LightGBM.
        contract: the contract of all declared features, selected or not; empty for a model that is not stored.
        request: the JSON Schema of one row to score; empty for a model that is not stored.
        importances: gain, mean |SHAP| and permutation importance of each of its features, on validation rows; empty for
            a model that was not explained. Only LightGBM has gain and SHAP.
        golden: golden rows and their scores (see `ml_assets.logic.training.golden_rows`); None for a model that is not
            stored, or that a release without them has stored.
    """

    booster: str | None
    spec: ModelSpec
    reference: pl.DataFrame
    contract: ContractRecord = field(default_factory=lambda: ContractRecord(name="", columns=()))
    request: str = field(default="", metadata={"file": "request.schema.json"})
    importances: pl.DataFrame = field(default_factory=pl.DataFrame)
    estimator: str | None = None
    golden: pl.DataFrame | None = None

    @property
    def text(self) -> str:
        """The trained model as text.

        Raises:
            ContractError: the artifact lacks it.
        """
        text = self.booster if self.spec.estimator is None else self.estimator
        if text is None:
            raise ContractError(
                f"model '{self.spec.model}' has no text of {self.spec.estimator or 'LightGBM'}. Restore the artifact, "
                "or train the model again."
            )
        return text


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


class OperatingPoint(Record):
    """Which rows are acted on: the share with the highest scores, or all above a threshold.

    Attributes:
        within: the column of the groups in which the share is taken; None for a share of all rows.
    """

    top_share: float | None = None
    threshold: float | None = None
    within: str | None = None

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


class ExceededLimit(Record):
    """One limit that is exceeded by features or the score.

    Attributes:
        is_of_feature: whether the limit applies to a single feature, not to the sum over all features.
    """

    rule: str
    feature: str
    value: float
    limit: float
    sentence: str
    is_of_feature: bool = True


_NO_HOUR: Final = datetime(1, 1, 1)  # noqa: DTZ001 - before every hour (UTC)


class DriftSummary(Record):
    """The drift of one model version's predictions of a day, compared with the declared limits.

    Attributes:
        model_version: the version that made the predictions, to which the reference belongs.
        day: the last day of the measured rows.
        first_day: the first day, if a single day has too few rows.
        rows: rows of all these days.
        weighted_excess_psi: sum over features of excess PSI times importance; None if there are too few rows to judge.
        score_excess_psi: the score's excess PSI; see `ml_assets.logic.monitoring.drift.measure_drift`.
        hour: the begin of the last hour (UTC), by the hour.
    """

    model: str
    model_version: str
    day: date
    first_day: date
    rows: int
    weighted_excess_psi: float | None
    score_excess_psi: float | None
    is_over: bool
    drifted_features: tuple[str, ...]
    exceeded: tuple[ExceededLimit, ...] = ()
    sentence: str
    hour: datetime | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def at(self) -> tuple[date, datetime]:
        """Its place in time, for sorting."""
        return self.day, self.hour or _NO_HOUR

    @property
    def state(self) -> State:
        """The verdict on the day."""
        if self.weighted_excess_psi is None:
            return "not judged"
        return "over the limits" if self.is_over else "within the limits"


@dataclass(frozen=True)
class Drift:
    """One row per feature, and one for the score, against the reference of the version that made the predictions."""

    table: pl.DataFrame
    summary: DriftSummary


class DriftSummaries(Record):
    """The drift of a day, for each model version that made predictions; empty for a day without predictions.

    Attributes:
        whole_day: by the hour, in the report of a day's last hour: the drift of the day.
    """

    day: date
    versions: tuple[DriftSummary, ...]
    whole_day: tuple[DriftSummary, ...] = Field(default=(), exclude_if=lambda it: not it)

    @property
    def of_days(self) -> tuple[DriftSummary, ...]:
        """The drift of whole days, or of longer periods, on which retrainings are decided; empty for most hours."""
        return self.whole_day or tuple(it for it in self.versions if it.hour is None)

    def of(self, version: str) -> DriftSummary | None:
        """Return the drift of one version's predictions; None if it made none."""
        return next((it for it in self.versions if it.model_version == version), None)

    @property
    def state(self) -> State:
        """The verdict on the day: over the limits if any version is, within them if all are."""
        return state_of_all(it.state for it in self.versions)


@dataclass(frozen=True)
class DailyDrift:
    """The drift of a day: the tables and summaries of all model versions that made predictions."""

    table: pl.DataFrame
    summaries: DriftSummaries

    def of(self, version: str) -> Drift | None:
        """Return the drift of one version's predictions; None if it made none."""
        summary = self.summaries.of(version)
        own = self.table.filter(pl.col("model_version") == version).drop("model_version")
        return None if summary is None else Drift(own, summary)


class PreviousChampionPerformance(Record):
    """Metrics of the previous champion on the same labelled rows."""

    version: str
    metrics: dict[str, float]


class PerformanceSummary(Record):
    """Metrics of a day's predictions on the labels known so far, and the expected metrics.

    A metric that is not defined on these rows is not in `measured`; `unmeasured` has the reason.

    Attributes:
        expected: The metrics expected from the scores of all predictions.
        expected_labelled: The metrics expected from the scores of the labelled rows, with which `measured` is compared.
        previous_champion: the metrics of the previous champion on the same rows; stored in the first days of a new
            champion.
        seen_rows: other predictions of rows that the model was trained or tuned on, which are not measured. Only for a
            model that is not split by time.
        weightless_rows: other predictions whose label has weight 0, which are not measured. All figures of a model with
            row weights are weighted, except counts.
        hour: the begin of the hour (UTC), by the hour.
    """

    model: str
    model_version: str
    day: date
    predictions: int
    labelled: int
    without_label: int = 0
    measured: dict[str, Interval]
    expected: dict[str, float]
    expected_labelled: dict[str, float]
    target_mean: float | None = None
    expected_target_mean: float | None = None
    unmeasured: dict[str, str] = Field(default={})
    previous_champion: PreviousChampionPerformance | None = None
    sentence: str = ""
    seen_rows: int = Field(default=0, exclude_if=lambda it: not it)
    weightless_rows: int = Field(default=0, exclude_if=lambda it: not it)
    hour: datetime | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def at(self) -> tuple[date, datetime]:
        """Its place in time, for sorting."""
        return self.day, self.hour or _NO_HOUR

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric on the labelled rows, without its interval."""
        return {name: figure.value for name, figure in self.measured.items()}


@dataclass(frozen=True)
class Performance:
    """One row per metric: measured on the labels known so far, and expected from the scores alone."""

    table: pl.DataFrame
    summary: PerformanceSummary


class PerformanceSummaries(Record):
    """The performance of a day, for each model version that made predictions; empty for a day without predictions.

    Attributes:
        whole_day: by the hour, in the report of a day's last hour: the performance of the day.
    """

    day: date
    versions: tuple[PerformanceSummary, ...]
    whole_day: tuple[PerformanceSummary, ...] = Field(default=(), exclude_if=lambda it: not it)

    @property
    def of_days(self) -> tuple[PerformanceSummary, ...]:
        """The performance of whole days, or of longer periods, which the rules compare; empty for most hours."""
        return self.whole_day or tuple(it for it in self.versions if it.hour is None)

    def of(self, version: str) -> PerformanceSummary | None:
        """Return the performance of one version's predictions; None if it made none."""
        return next((it for it in self.versions if it.model_version == version), None)


@dataclass(frozen=True)
class DailyPerformance:
    """The performance of a day: the tables and summaries of all model versions that made predictions."""

    table: pl.DataFrame
    summaries: PerformanceSummaries


@dataclass(frozen=True)
class Card:
    """The model card as one self-contained HTML page."""

    html: str = field(metadata={"file": "card.html"})
