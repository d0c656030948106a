"""The training set of a table that a benchmark draws: two classes, without times."""

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import Feature, Split, TrainingSet, TrainingSetSummary, Window


def training_set(table: pl.DataFrame, parts: Mapping[Split, int]) -> TrainingSet:
    """Return the rows of a table in parts of so many rows; all columns but `target` are features."""
    day = date(2026, 1, 1)
    return TrainingSet(
        rows=table.with_columns(split=pl.Series(np.repeat([*parts], [*parts.values()]))),
        summary=TrainingSetSummary(
            model="drawn", task="binary", target="target", key=("id",), event_time="at", prediction_time="at",
            known_time="at", as_of=day, excluded_rows={},
            features=tuple(Feature(name=it, dtype=str(table.schema[it])) for it in table.columns if it != "target"),
            windows=tuple(Window(split=it, first_day=day, last_day=day, rows=parts[it]) for it in parts),
        ),
    )  # fmt: skip
