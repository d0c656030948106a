"""What serving a model costs: its size, and a row to time it with.

The clock stays out; see `ml_assets.stages.champion`.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ml_assets.contracts.artifacts import Model, ModelSpec

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """What serving the challenger costs, and the most that is declared.

    Attributes:
        name: Of the rule about it.
        measured: What was measured, as a sentence begins.
        value: How much it is.
        limit: How much it may be; None where nothing is declared, and it is a figure and no rule.
        unit: Of both.
    """

    name: str
    measured: str
    value: float
    limit: float | None
    unit: str


def example_row(spec: ModelSpec) -> pl.DataFrame:
    """Return one row that the model can score: zeros, and the first category of each vocabulary.

    What a row holds hardly changes what scoring it takes: the work is in encoding it and in walking every tree.
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
    """Return the size of the booster's text in MiB; what lies beside it is small."""
    return len(model.booster.encode()) / MIB
