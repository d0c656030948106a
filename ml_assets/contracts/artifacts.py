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
    """What was frozen, as of when, and which rows were left out for what reason."""

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


@dataclass(frozen=True)
class TrainingSet:
    """Frozen rows with a `split` column (train, validation, test) beside keys, times, features and target."""

    rows: pl.DataFrame
    summary: TrainingSetSummary

    def part(self, split: Split) -> pl.DataFrame:
        """Return the rows of one split, in time order."""
        return self.rows.filter(pl.col("split") == split)


class ImportancesSummary(Record):
    """Which features stay and which go, measured with what."""

    metric: str
    score: float
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    folds: int
    rows_explained: int


@dataclass(frozen=True)
class Importances:
    """One row a feature (the injected noise included), most important first."""

    table: pl.DataFrame
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
    """All that is needed to score a row with the LightGBM text beside it."""

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
    training_rows: int
    lightgbm_version: str
    weights: dict[str, float] = {}


@dataclass(frozen=True)
class Model:
    """A trained model as text, its spec, and the reference that drift is measured against.

    Attributes:
        contract: what the features it was offered had to be; a model from before there were contracts has none.
        request: the JSON Schema of one row to score: the features that it reads.
    """

    booster: str
    spec: ModelSpec
    reference: pl.DataFrame
    contract: ContractRecord | None = None
    request: str | None = field(default=None, metadata={"file": "request.schema.json"})


class Interval(Record):
    """A figure with its bootstrap interval (percentile, 95 % unless said otherwise)."""

    value: float
    low: float
    high: float


class Baseline(Record):
    """A simple predictor's metrics on the same test rows."""

    name: str
    description: str
    metrics: dict[str, float]


class Comparison(Record):
    """Challenger minus champion (or baseline) on the same frozen rows, by a paired bootstrap.

    `difference` is signed so that above zero means the challenger is better, whatever the metric's direction.
    """

    against: str
    metric: str
    challenger: float
    other: float
    difference: Interval
    rows: int


class EvaluationSummary(Record):
    """The challenger's report on the frozen test rows."""

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
    calibration_error: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Metrics, per-slice metrics, curves and calibration bins of one challenger."""

    summary: EvaluationSummary
    slices: pl.DataFrame
    curves: pl.DataFrame
    calibration: pl.DataFrame


class Promotion(Record):
    """One entry of the promotion log: what was decided, about which version, and why.

    Attributes:
        decided_at: with its time zone; UTC as it is written.
        id: drawn at random for a person's decision, so that two equal ones never look like one; the gate's, of which a
            run makes one, have none.
    """

    number: int
    model: str
    action: Literal["promote", "refuse", "rollback"]
    champion: str | None
    challenger: str
    reasons: tuple[str, ...]
    figures: dict[str, float] = {}
    evaluation_version: str | None = None
    decided_at: datetime
    decided_by: str
    run_id: str | None = None
    id: str | None = None


class DriftSummary(Record):
    """The day's drift in one line: is it over the declared limits, and by which features.

    Without a weighted PSI the day has too few rows to be judged.
    """

    model: str
    model_version: str
    day: date
    rows: int
    weighted_psi: float | None
    score_psi: float | None
    is_over: bool
    culprits: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Drift:
    """One row a feature, and one for the score, against the champion's reference."""

    table: pl.DataFrame
    summary: DriftSummary


class PerformanceSummary(Record):
    """Metrics of a day's predictions on the labels known so far, beside what was expected.

    A metric that these rows do not define is not in `metrics`; `unmeasured` says why.
    """

    model: str
    model_version: str
    day: date
    predictions: int
    labelled: int
    without_label: int = 0
    metrics: dict[str, float]
    expected: dict[str, float]
    target_mean: float | None = None
    expected_target_mean: float | None = None
    unmeasured: dict[str, str] = {}
    sentence: str = ""


@dataclass(frozen=True)
class Performance:
    """One row a metric: measured on the labels known so far, and expected from the scores alone."""

    table: pl.DataFrame
    summary: PerformanceSummary


@dataclass(frozen=True)
class Card:
    """The model card as one self-contained HTML page."""

    html: str = field(metadata={"file": "card.html"})
