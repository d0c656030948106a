"""Parcels whose lateness is known to follow from distance and depot, and scores that know it to a degree.

Expectations stay out; they stand in the tests.
"""

import datetime as dt
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import Feature, Task, TrainingSetSummary
from ml_assets.logic.evaluation.report import EvaluationPlan, Opponent, evaluate
from tests.records import record

FIRST_DAY = dt.date(2013, 1, 1)
BEFORE = FIRST_DAY - dt.timedelta(days=1)
CLASSES = ("early", "on time", "late")
DECLARED: dict[Task, str] = {"binary": "roc_auc", "regression": "rmse", "multiclass": "multi_log_loss"}


def summary(task: Task = "binary") -> TrainingSetSummary:
    return record(
        TrainingSetSummary, model="parcels", task=task, target="target", key=("parcel",),
        classes=CLASSES if task == "multiclass" else (),
        features=(
            Feature(name="distance_miles", dtype="Float64"),
            Feature(name="depot", dtype="String", is_categorical=True),
        ),
    )  # fmt: skip


def parcels(rows: int, *, seed: int, task: Task = "binary", days: int = 20) -> pl.DataFrame:
    """Rows whose target rises with `distance_miles`, and is higher at depot north."""
    generator = np.random.default_rng(seed)
    distance = generator.normal(size=rows)
    depot = generator.choice(["north", "south", "west"], size=rows, p=[0.5, 0.4, 0.1])
    signal = distance + 0.5 * (depot == "north") - 1
    target: pl.Series
    if task == "binary":
        target = pl.Series(generator.random(rows) < 1 / (1 + np.exp(-signal)))
    elif task == "regression":
        target = pl.Series(10 * signal + generator.normal(size=rows))
    else:
        target = pl.Series(np.array(CLASSES)[np.digitize(signal + generator.normal(size=rows), [-1.5, 0])])
    return pl.DataFrame(
        {
            "parcel": np.arange(rows),
            "day": [FIRST_DAY + dt.timedelta(days=each) for each in sorted((np.arange(rows) % days).tolist())],
            "distance_miles": distance,
            "depot": depot,
            "is_express": generator.random(rows) < 0.3,
            "target": target,
        }
    )


def scores(rows: pl.DataFrame, task: Task = "binary", *, skill: float = 1.0, seed: int = 0) -> pl.DataFrame:
    """What a model would give that knows the signal to a degree."""
    noise = np.random.default_rng(seed).normal(size=rows.height)
    distance = rows["distance_miles"].to_numpy()
    signal = skill * (distance + 0.5 * (rows["depot"] == "north").to_numpy()) + (1 - skill) * noise - 1
    if task == "binary":
        return pl.DataFrame({"score": 1 / (1 + np.exp(-signal))})
    if task == "regression":
        return pl.DataFrame({"score": 10 * signal})
    below = np.vectorize(NormalDist().cdf)(np.array([-1.5, 0.0]) - signal[:, None])
    weights = np.diff(np.column_stack([np.zeros(rows.height), below, np.ones(rows.height)]), axis=1)
    return pl.DataFrame(
        {
            "score": weights.max(axis=1),
            "predicted": np.array(CLASSES)[weights.argmax(axis=1)],
            **{f"score_{name}": weights[:, position] for position, name in enumerate(CLASSES)},
        }
    )


def evaluation(task: Task = "binary", *, size: int = 1_500, **changes: Any) -> Evaluation:
    test = changes.pop("rows", None)
    test = parcels(size, seed=2, task=task) if test is None else test
    given = changes.pop("scores", None)
    wanted: dict[str, Any] = {
        "metric": DECLARED[task],
        "slices": ["depot"],
        "baseline_rates": [["depot"], ["depot", "is_express"]],
        "seed": 3,
        "threads": 1,
    }
    wanted |= {name: changes.pop(name) for name in [*changes] if name in EvaluationPlan.__dataclass_fields__}
    return evaluate(
        test,
        changes.pop("train", parcels(3_000, seed=1, task=task)),
        changes.pop("summary", summary(task)),
        Opponent(
            changes.pop("model_version", "new"),
            scores(test, task) if given is None else given,
            learned=changes.pop("learned", None),
        ),
        EvaluationPlan(**wanted),
        **{"training_set_version": "frozen", "last_seen_day": BEFORE} | changes,
    )
