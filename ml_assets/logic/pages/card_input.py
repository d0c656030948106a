"""The input of a model card: everything known about one version of a model.

Not here: gathering it (see `ml_assets.stages.card`), and the page (see `card`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import polars as pl

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.monitoring import Drift, DriftSummary, PerformanceSummary
from ml_assets.contracts.artifacts.training import Importances, ModelSpec, Task, TrainingSetSummary, Tuning
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.shadow import Shadow
from ml_assets.logic.point_in_time.suspects import LeakFindings


@dataclass(frozen=True)
class CardTable:
    """A table that the model reads."""

    name: str
    role: str
    description: str = ""
    rows: int | None = None
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True)
class ScoreLine:
    """One test of the ML Test Score, with its evidence."""

    group: str
    test: str
    points: float
    evidence: str


@dataclass(frozen=True)
class Making:
    """How the model was trained, from its manifest; None for what the manifest does not have."""

    code_version: str | None = None
    commit: str | None = None
    is_dirty: bool | None = None
    environment: str | None = None
    run_id: str | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class CardInput:
    """Everything that the card shows. None or empty is shown as not measured yet.

    Attributes:
        left_out: Columns of the source that are no features, each with the reason.
        leaks: Findings about leaks in the features behind the training set; None without a training set.
        promotion: The entry of the promotion log that decided about this version.
        champions: The entries of the promotion log that promoted a version or rolled back to one, the newest first.
        shadow: Challengers that were not promoted, compared with the champion; None if they are not in shadow.
        serving: The current champion's version, if it is known.
        model_importances: The importances of this model's features, as `Model.importances`; empty if not measured.
        drift_history: Days since promotion, in any order.
        performance: Days since promotion, in any order.
        performance_metric: The metric to plot over days; None for the evaluation's metric.
        written_at: Time of rendering; naive UTC.
    """

    name: str
    task: Task
    target: str
    version: str | None = None
    description: str = ""
    owner: str = ""
    intended_use: str = ""
    limits: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    as_of: date | None = None
    tables: Sequence[CardTable] = ()
    leaks: LeakFindings | None = None
    training_set: TrainingSetSummary | None = None
    model: ModelSpec | None = None
    importances: Importances | None = None
    model_importances: pl.DataFrame = field(default_factory=pl.DataFrame)
    tuning: Tuning | None = None
    evaluation: Evaluation | None = None
    promotion: Promotion | None = None
    champions: Sequence[Promotion] = ()
    shadow: Shadow | None = None
    serving: str | None = None
    drift: Drift | None = None
    drift_history: Sequence[DriftSummary] = ()
    performance: Sequence[PerformanceSummary] = ()
    performance_metric: str | None = None
    test_score: Sequence[ScoreLine] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    making: Making = field(default_factory=Making)
    written_at: datetime | None = None
