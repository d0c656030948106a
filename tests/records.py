"""Records of artifacts, as small as they can be: a test states the fields that it is about.

Expectations stay out; they stand in the tests.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar

import polars as pl

from ml_assets.contracts.artifacts.training import Feature, Task, TrainingSet, TrainingSetSummary, Window
from ml_assets.contracts.json_record import Record

R = TypeVar("R", bound=Record)

REQUIRED: Final[dict[str, Any]] = {
    # of all
    "model": "late", "model_version": "v1", "training_set_version": "t1", "task": "binary", "target": "is_late",
    "metric": "roc_auc", "rows": 1_000, "features": (), "sentence": "",
    # the training set and the model
    "key": ("id",), "event_time": "event_at", "prediction_time": "predicted_at", "known_time": "known_at",
    "as_of": date(2013, 12, 31), "windows": (), "excluded_rows": {}, "vocabularies": {}, "parameters": {}, "rounds": 1,
    "first_training_day": date(2013, 1, 1), "last_training_day": date(2013, 8, 31),
    "last_tuning_day": date(2013, 9, 30), "training_rows": 1, "lightgbm_version": "4.7.0",
    # selection of features and search of parameters
    "score": 0.7, "shuffles": 2, "selected": (), "dropped": (), "folds": 3, "rows_explained": 100, "value": 0.7,
    "trials": 2, "pruned": 0,
    # the evaluation and the promotion log
    "metrics": {}, "baselines": (), "against_baselines": (), "last_seen_day": date(2013, 9, 30), "number": 1,
    "action": "promote", "reasons": (), "decided_at": datetime(2026, 1, 1, 3, tzinfo=UTC), "decided_by": "gate",
    # monitoring
    "weighted_excess_psi": 0.01, "score_excess_psi": 0.02, "is_over": False, "drifted_features": (),
    "predictions": 100, "labelled": 100, "measured": {}, "expected": {}, "expected_labelled": {},
}  # fmt: skip
"""What a required field is where a test does not state it."""


def record(kind: type[R], **fields: Any) -> R:
    """Return a record with some fields; the other required ones are those of `REQUIRED`."""
    names = {name for name, field in kind.model_fields.items() if field.is_required()}
    return kind(**{name: value for name, value in REQUIRED.items() if name in names} | fields)


def training_set(
    rows: pl.DataFrame, task: Task, features: Sequence[Feature], *, classes: tuple[str, ...] = (), **fields: Any
) -> TrainingSet:
    """Return a frozen training set of rows with their column `split`; its target is `late`."""
    train = rows.filter(pl.col("split") == "train").height
    window = record(Window, split="train", first_day=date(2013, 1, 1), last_day=date(2013, 9, 30), rows=train)
    summary = record(
        TrainingSetSummary, model="flight_delay", task=task, target="late", features=tuple(features), windows=(window,),
        classes=classes if task == "multiclass" else (), **fields,
    )  # fmt: skip
    return TrainingSet(rows, summary)


def slice_row(value: str, rows: int = 500, score: float | None = 0.7, **changes: Any) -> dict[str, Any]:
    """Return a row of an evaluation's slices, of column `depot`, which was not compared with a champion."""
    ends = (None, None) if score is None else (score - 0.01, score + 0.01)
    row = {
        "column": "depot", "value": value, "rows": rows, "target_mean": 0.2, "metric": "roc_auc", "score": score,
        "low": ends[0], "high": ends[1], "champion_score": None, "difference": None, "difference_low": None,
        "difference_high": None, "difference_standard_error": None, "degrees_of_freedom": None, "clusters": 20,
        "unit": "days", "is_judged": True, "reason": "",
    }  # fmt: skip
    return row | changes
