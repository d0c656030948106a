"""The cost of serving a model: its size, and an example row to time it with.

Not here: measuring time (see `ml_assets.stages.champion`).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ml_assets.contracts.artifacts import Model, ModelSpec

MIB = 2**20


@dataclass(frozen=True)
class ServingCost:
    """A measured cost of serving the challenger, and its declared limit.

    Attributes:
        measured: The beginning of a sentence about it.
        limit: The declared limit; None if there is none, and no rule checks it.
    """

    name: str
    measured: str
    value: float
    limit: float | None
    unit: str


def example_row(spec: ModelSpec) -> pl.DataFrame:
    """Return one row that the model can score: zeros, and the first category of each vocabulary.

    The values of a row hardly change the time to score it, which is spent on encoding it and on walking every tree.
    """
    return pl.DataFrame(
        [
            pl.Series(feature.name, spec.vocabularies[feature.name][:1] or [None], dtype=pl.String)
            if feature.is_categorical
            else pl.Series(feature.name, [0.0])
            for feature in spec.features
        ]
    )


def size_mib(model: Model) -> float:
    """Return the size of the booster's text in MiB. The other files of a model are small."""
    return len(model.booster.encode()) / MIB
