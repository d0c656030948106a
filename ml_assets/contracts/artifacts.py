"""What each artifact of a model holds: records (JSON), frames (Parquet) and LightGBM text.

How they are written and read stays out: that is the artifact IO's work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from ml_assets.contracts.record import ContractRecord
from ml_assets.contracts.states import State, state_of_all

Task = Literal["binary", "regression", "multiclass"]
Split = Literal["train", "validation", "test"]
Unseen = Literal["missing", "error"]


class Record(BaseModel):
    """Base of every JSON record: closed and frozen, so that a stray field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Feature(Record):
    """One input column of a model, as its table's contract declares it."""

    name: str
    dtype: str
    is_categorical: bool = False
    unit: str | None = None
    description: str = ""


class Window(Record):
    """One part of a training set: the days it covers (both included) and what is in it."""

    split: Split
    first_day: date
    last_day: date
    rows: int
    target_mean: float | None = None


class TrainingSetSummary(Record):
    """What was frozen, as of when, and which rows were left out for what reason.

    Attributes:
        excluded: rows of the features, by reason.
        labels_without_features: outcomes of days of the windows that no row of the features is about.
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
    excluded: dict[str, int]
    labels_without_features: int = 0


@dataclass(frozen=True)
class TrainingSet:
    """Frozen rows with a `split` column (train, validation, test) beside keys, times, features and target."""

    rows: pl.DataFrame
    summary: TrainingSetSummary

    def part(self, split: Split) -> pl.DataFrame:
        """Return the rows of one split, in time order."""
        return self.rows.filter(pl.col("split") == split)


class ImportancesSummary(Record):
    """Which features are selected, and the validation metric of the quick model that selected them.

    Attributes:
        rows: Validation rows of the last fold, on which `score` and the permutation importances are measured.
        shuffles: Of each feature.
    """

    metric: str
    score: float
    rows: int
    shuffles: int
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    folds: int
    rounds: int
    rows_explained: int


@dataclass(frozen=True)
class Importances:
    """How the features were selected: figures of a quick model, not of the challenger (those are in `Model`).

    Attributes:
        table: a row for each feature and the strongest injected noise of each kind, as measured in the last time fold.
        folds: a row for each fold and feature: its gain and permutation importance, those of the noise that it must
            beat, and whether it does.
    """

    table: pl.DataFrame
    folds: pl.DataFrame
    summary: ImportancesSummary


class TunedParameters(Record):
    """The best trial of a study, ready to train with."""

    metric: str
    value: float
    rounds: int
    parameters: dict[str, float | int | str | bool]
    trials: int
    pruned: int
    features: tuple[str, ...]


@dataclass(frozen=True)
class Tuning:
    """Every trial of the study (one row each) and the best of them."""

    trials: pl.DataFrame
    best: TunedParameters


class ModelSpec(Record):
    """All that is needed to score a row with the LightGBM text beside it.

    Attributes:
        trained_until: the last day that its parameters or rounds were chosen on, which lies after the days it was
            trained on.
    """

    model: str
    task: Task
    target: str
    classes: tuple[str, ...] = ()
    features: tuple[Feature, ...]
    vocabularies: dict[str, tuple[str, ...]]
    unseen: Unseen = "missing"
    parameters: dict[str, float | int | str | bool]
    rounds: int
    as_of: date
    trained_first_day: date
    trained_last_day: date
    trained_until: date
    training_rows: int
    lightgbm_version: str
    weights: dict[str, float] = {}

    @property
    def learned_until(self) -> date:
        """The last day that the model has learned anything from."""
        return max(self.trained_last_day, self.trained_until)


@dataclass(frozen=True)
class Model:
    """A trained model as text, its spec, and the reference that drift is measured against.

    Attributes:
        contract: what the features it was offered had to be; a model from before there were contracts has none.
        request: the JSON Schema of one row to score: the features that it reads.
        importances: gain, mean |SHAP| and permutation importance of each of its features, on validation rows; empty for
            a model that was not explained.
    """

    booster: str
    spec: ModelSpec
    reference: pl.DataFrame
    contract: ContractRecord | None = None
    request: str | None = field(default=None, metadata={"file": "request.schema.json"})
    importances: pl.DataFrame = field(default_factory=pl.DataFrame)


class Interval(Record):
    """A figure with its 95 % interval, from leaving out one day or fold of rows at a time (see `logic.jackknife`).

    Attributes:
        low: The lower end; None where there is no interval.
        high: The upper end; None where there is no interval.
        reason: Why there is no interval, as a clause; empty where there is one.
    """

    value: float
    low: float | None
    high: float | None
    reason: str = ""

    def ends(self, spec: str) -> str:
        """The ends in brackets, or that there is no interval, and why.

        Args:
            spec: How a number is formatted, as for `format`.
        """
        if self.low is None or self.high is None:
            return f"(no interval: {self.reason})"
        return f"[{self.low:{spec}}, {self.high:{spec}}]"


class OperatingPoint(Record):
    """Which rows are acted on: the share with the highest scores, or all from a threshold on.

    Attributes:
        within: the column of the groups of which it is the share; None for a share of all rows.
    """

    top_share: float | None = None
    threshold: float | None = None
    within: str | None = None

    @property
    def words(self) -> str:
        """The point as an operator reads it."""
        if self.threshold is not None:
            return f"scores of {self.threshold:g} or more"
        of = f"of each {self.within} " if self.within else ""
        return f"the {100 * (self.top_share or 0):g} % {of}with the highest scores"


class GroupCount(Record):
    """Inside how many groups a metric was measured.

    Attributes:
        column: a group is the rows that share its value.
        measured: groups on which the metric is defined; each counts once, however many rows it has.
        left_out: groups on which it is not, because one class is absent.
    """

    column: str
    measured: int
    left_out: int

    @property
    def words(self) -> str:
        """The count as an operator reads it."""
        left = f"; {self.left_out:,} with a single class left out" if self.left_out else ""
        return f"mean over {self.measured:,} values of {self.column}, each of which counts once{left}"


class Baseline(Record):
    """A simple predictor's metrics on the same test rows."""

    name: str
    description: str
    metrics: dict[str, float]


class Comparison(Record):
    """Challenger minus champion (or baseline) on the same frozen rows.

    `difference` is signed so that above zero means the challenger is better, whatever the metric's direction.

    Attributes:
        clusters: How many days (or folds of rows) were left out in turn.
        unit: What was left out in turn, in the plural.
        error: Standard error of the difference; None where `difference` has no interval.
        degrees: Degrees of freedom of Student's t, by which a bound of any confidence follows from the error.
        correlation: The correlation of neighbouring days that the error allows for.
    """

    against: str
    metric: str
    challenger: float
    other: float
    difference: Interval
    rows: int
    clusters: int
    unit: str = "days"
    error: float | None = None
    degrees: int | None = None
    correlation: float = 0.0


class EvaluationSummary(Record):
    """The challenger's report on the frozen test rows.

    Attributes:
        against_anchor: None where the champion is the anchor, and where the anchor cannot score.
        test_days: the first and the last day of the rows that were measured.
        learned_until: the last day that challenger, champion or anchor has learned from.
        left_out: test rows up to that day, which are not measured on.
        seen_rows: test rows up to that day that had to be measured on, since the others are too few; with any of them
            the challenger is not compared with champion and anchor.
        daily_loss: how far its days fell behind what was promised, by which later days are judged.
        groups: inside how many groups the declared metric was measured; None if it is one over all rows.
        operating_point: where precision, recall and lift were measured.
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
    learned_until: date | None = None
    left_out: int = 0
    seen_rows: int = 0
    calibration_error: float | None = None
    daily_loss: DailyLoss | None = None
    groups: GroupCount | None = None
    operating_point: OperatingPoint | None = None


@dataclass(frozen=True)
class Evaluation:
    """Metrics, per-slice metrics, curves and calibration bins of one challenger."""

    summary: EvaluationSummary
    slices: pl.DataFrame
    curves: pl.DataFrame
    calibration: pl.DataFrame


class RuleRecord(Record):
    """One rule of the gate as it is kept: whether it held, in a sentence with its figures."""

    name: str
    holds: bool
    sentence: str


class Promotion(Record):
    """One entry of the promotion log: what was decided, about which version, and why.

    Attributes:
        action: `wait` is a challenger that passed the gate and waits for a person to let it in.
        rules: every rule that the gate tried; a person's entry has none.
        is_anchor: whether the challenger becomes the anchor once it is champion; see `logic.promotion.anchor`.
        anchor: the version that was the anchor when the gate judged.
        attempt: which one it was on these test days since the last promotion, from 1; None where nothing was tested.
        test_days: the first and the last day of the rows that the gate judged by.
        cause: why the retraining that led to it was asked for, where it was.
        decided_at: with its time zone; UTC as it is written.
        id: drawn at random for a person's decision, so that two equal ones never look like one; the gate's, of which a
            run makes one, have none.
        previous: the digest of the entry before it, which the log sets.
        gives_up: of the first entry of a log that a person began in place of a damaged one, the digests of the entries
            of that one that manifests name.
    """

    number: int
    model: str
    action: Literal["promote", "refuse", "rollback", "wait"]
    champion: str | None
    challenger: str
    reasons: tuple[str, ...]
    rules: tuple[RuleRecord, ...] = ()
    figures: dict[str, float] = {}
    is_anchor: bool = False
    anchor: str | None = None
    attempt: int | None = None
    test_days: tuple[date, date] | None = None
    cause: str | None = None
    evaluation_version: str | None = None
    decided_at: datetime
    decided_by: str
    run_id: str | None = None
    id: str | None = None
    previous: str | None = None
    gives_up: tuple[str, ...] = ()


class FoundLeak(Record):
    """A leak that the leak test proved: the column (None where it is the row), and a moment at which it shows."""

    column: str | None
    day: date
    at: datetime
    sentence: str


class KnownTime(Record):
    """The declared known time of a source table's rows, or of some of its columns.

    Attributes:
        columns: the columns it is declared for; empty where it is that of the row.
        sql: as declared; where landing computes the column it names, that column's expression.
        is_observed: whether it is a column that the source records. An expression over other columns, or a constant, is
            an assumption: no rebuild can find out that it is wrong.
    """

    table: str
    columns: tuple[str, ...]
    sql: str
    is_observed: bool

    @property
    def sentence(self) -> str:
        """The known time in words."""
        what = f"{', '.join(self.columns)} of {self.table}" if self.columns else f"rows of {self.table}"
        return f"{what}: {self.sql}"


class LeakTestRecord(Record):
    """What the newest leak test of a model's features found; while it has a leak, nothing is trained or promoted.

    Attributes:
        samples: prediction times that were tested.
        leaks: those found, and those found before on days that were not tested since.
        history: columns made of other source rows than the prediction's own, of which a rebuild can say whether they
            hold what came later; None where that was not measured.
        known_times: what the source tables behind the features declare.
    """

    model: str
    samples: int
    rows: int
    leaks: tuple[FoundLeak, ...]
    history: tuple[str, ...] | None = None
    known_times: tuple[KnownTime, ...] = ()


class DailyLoss(Record):
    """How far the days of a test window fell behind what was promised of them, in units of the deciding metric.

    Attributes:
        mean: over days; above zero is worse than promised.
        deviation: standard deviation between days.
        days: how many were measured.
        rows: labelled ones of a day, as a median.
    """

    mean: float
    deviation: float
    days: int
    rows: float


Cause = Literal["drift", "performance", "labels", "floor"]


class Retraining(Record):
    """A retraining that was asked for, and the facts that asked for it.

    Attributes:
        number: among those as of the same day, from 1.
        champion: who served then.
        asked_by: the sensor or schedule.
    """

    model: str
    as_of: date
    number: int
    cause: Cause
    sentence: str
    figures: dict[str, float] = {}
    champion: str
    asked_at: datetime
    asked_by: str


class BrokenLimit(Record):
    """One limit that a feature or the score is over.

    Attributes:
        figure: what was compared with the limit.
        is_own: whether it is a limit of the feature alone, and not of what all features add up to.
    """

    rule: str
    feature: str
    figure: float
    limit: float
    sentence: str
    is_own: bool = True


class DriftSummary(Record):
    """The drift of one model version's predictions of a day: is it over the declared limits, and by which features.

    Attributes:
        model_version: the version that made the predictions, whose reference they are measured against.
        day: the last day whose rows were measured.
        first_day: the first, where a day alone has too few rows.
        rows: of all these days.
        weighted_excess_psi: sum of each feature's excess PSI times its importance; None where there are too few rows to
            judge.
        score_excess_psi: the score's excess PSI; see `ml_assets.logic.monitoring.drift.measure_drift`.
        broken: every limit that something is over.
    """

    model: str
    model_version: str
    day: date
    first_day: date
    rows: int
    weighted_excess_psi: float | None
    score_excess_psi: float | None
    is_over: bool
    culprits: tuple[str, ...]
    broken: tuple[BrokenLimit, ...] = ()
    sentence: str

    @property
    def state(self) -> State:
        """What the day came to."""
        if self.weighted_excess_psi is None:
            return "not judged"
        return "over the limits" if self.is_over else "within the limits"


@dataclass(frozen=True)
class Drift:
    """One row a feature, and one for the score, against the reference of the version that made the predictions."""

    table: pl.DataFrame
    summary: DriftSummary


class DriftSummaries(Record):
    """The drift of a day, of each model version that made predictions of it; none of a day without predictions."""

    day: date
    versions: tuple[DriftSummary, ...]

    def of(self, version: str) -> DriftSummary | None:
        """Return what is known of one version's predictions; None where it made none."""
        return next((it for it in self.versions if it.model_version == version), None)

    @property
    def state(self) -> State:
        """What the day came to: over where any version is, within where all are."""
        return state_of_all(it.state for it in self.versions)


@dataclass(frozen=True)
class DailyDrift:
    """The drift of a day: the tables of all model versions that made predictions of it, and their summaries."""

    table: pl.DataFrame
    summaries: DriftSummaries

    def of(self, version: str) -> Drift | None:
        """Return the drift of one version's predictions; None where it made none."""
        summary = self.summaries.of(version)
        own = self.table.filter(pl.col("model_version") == version).drop("model_version")
        return None if summary is None else Drift(own, summary)


class FormerPerformance(Record):
    """Metrics of the champion that served before, on the same labelled rows."""

    version: str
    metrics: dict[str, float]


class PerformanceSummary(Record):
    """Metrics of a day's predictions on the labels known so far, beside what was expected.

    A metric that these rows do not define is not in `measured`; `unmeasured` says why.

    Attributes:
        measured: Each metric of the labelled rows, with its interval.
        expected: What the scores of all predictions lead to expect.
        expected_labelled: What the scores of the labelled rows lead to expect, with which `measured` is compared.
        former: what the champion before would have shown; kept in the first days of a new one.
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
    unmeasured: dict[str, str] = {}
    former: FormerPerformance | None = None
    sentence: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric of the labelled rows, without its interval."""
        return {name: figure.value for name, figure in self.measured.items()}


@dataclass(frozen=True)
class Performance:
    """One row a metric: measured on the labels known so far, and expected from the scores alone."""

    table: pl.DataFrame
    summary: PerformanceSummary


class PerformanceSummaries(Record):
    """Performance of a day, of each model version that made predictions of it; none of a day without predictions."""

    day: date
    versions: tuple[PerformanceSummary, ...]

    def of(self, version: str) -> PerformanceSummary | None:
        """Return what is known of one version's predictions; None where it made none."""
        return next((it for it in self.versions if it.model_version == version), None)


@dataclass(frozen=True)
class DailyPerformance:
    """Performance of a day: the tables of all model versions that made predictions of it, and their summaries."""

    table: pl.DataFrame
    summaries: PerformanceSummaries


@dataclass(frozen=True)
class Card:
    """The model card as one self-contained HTML page."""

    html: str = field(metadata={"file": "card.html"})
