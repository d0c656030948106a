"""What a model card may show: all that is known about one version of a model, and how it was made.

Gathering it stays out, see `ml_assets.stages.card`; so does the page, see `card`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from ml_assets.contracts.artifacts import (
        Drift,
        DriftSummary,
        Evaluation,
        Importances,
        ModelSpec,
        PerformanceSummary,
        Promotion,
        Task,
        TrainingSetSummary,
        Tuning,
    )
    from ml_assets.logic.point_in_time.suspects import LeakFindings


@dataclass(frozen=True)
class CardTable:
    """One table that the model was made from."""

    name: str
    role: str
    description: str = ""
    rows: int | None = None
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True)
class ScoreLine:
    """One test of the ML Test Score with what proves it."""

    group: str
    test: str
    points: float
    evidence: str


@dataclass(frozen=True)
class Making:
    """How the model was made, from its manifest; what a manifest does not say is None."""

    code_version: str | None = None
    commit: str | None = None
    is_dirty: bool | None = None
    environment: str | None = None
    run_id: str | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class CardInput:
    """All that the card may show; what is None or empty is shown as not measured yet.

    Attributes:
        version: The model artifact's version that the card is about.
        leaks: What is known of leaks in the features behind the training set; None where there is no training set.
        promotion: The entry of the promotion log that decided about this version.
        serving: The version that serves when the card is made, if it is known.
        importances: How the features were selected.
        model_importances: What each feature is worth to this model, as `Model.importances`; empty if not measured.
        drift_history: Days since promotion, in any order.
        performance: Days since promotion, in any order.
        performance_metric: The metric to plot over days; the evaluation's metric where None.
        versions: Artifact name to version.
        written_at: When the card is made; naive UTC.
    """

    name: str
    task: Task
    target: str
    version: str | None = None
    description: str = ""
    owner: str = ""
    intended_use: str = ""
    limits: Sequence[str] = ()
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
    serving: str | None = None
    drift: Drift | None = None
    drift_history: Sequence[DriftSummary] = ()
    performance: Sequence[PerformanceSummary] = ()
    performance_metric: str | None = None
    test_score: Sequence[ScoreLine] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    making: Making = field(default_factory=Making)
    written_at: datetime | None = None
