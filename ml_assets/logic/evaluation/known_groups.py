"""How much of a test window is of groups that the challenger has seen in training, and how good it is on both kinds.

A model that is used on known customers is tested on known customers too: groups may have rows in several windows. How
good it will be on a new customer is another question, which the rows of unseen groups answer.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.evaluation import GroupPart, KnownGroups
from ml_assets.logic.evaluation.formulas import Vector
from ml_assets.logic.evaluation.measuring import Frozen, measure_slice


def known_groups(frozen: Frozen, groups: pl.Series, trained: pl.Series, scores: Vector, min_rows: int) -> KnownGroups:
    """Return the deciding metric on test rows of groups that the challenger has seen in training, and on the others.

    Args:
        frozen: The test rows.
        groups: (test rows,) the group of each.
        trained: (train rows,) the group of each.
        scores: The challenger's scores of the test rows.
        min_rows: Rows that a part needs to be judged.
    """
    is_seen = groups.is_in(trained.unique().implode()).to_numpy()

    def part(index: NDArray[np.int64]) -> GroupPart:
        if not len(index):
            return GroupPart(rows=0, groups=0, reason="0 rows")
        found = measure_slice(frozen.of(index), scores[index], None, min_rows=min_rows)
        own = None if found.reason else found.interval
        return GroupPart(rows=len(index), groups=groups[index].n_unique(), metric=own, reason=found.reason)

    return KnownGroups(column=groups.name, seen=part(np.flatnonzero(is_seen)), unseen=part(np.flatnonzero(~is_seen)))
