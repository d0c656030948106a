"""Draw random samples of rows, reproducible by a seed and independent of the order of the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def random_rows(rows: int | NDArray[np.int64], size: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Return at most `size` row numbers, drawn without replacement, in ascending order.

    Taking every n-th row instead would follow patterns in the order of the rows: of pairs, it could take only one side.
    The generator is not advanced if all rows are taken.
    """
    index = np.arange(rows) if isinstance(rows, int) else rows
    if len(index) <= size:
        return index
    return np.sort(draw.choice(index, size, replace=False))
