"""Random samples of rows: reproducible by a seed, and independent of the order that the rows came in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def random_rows(rows: int | NDArray[np.int64], size: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Return at most `size` row numbers, drawn without replacement, in ascending order.

    Every n-th row instead would follow any pattern in the order of the rows: of pairs it can take one side only.

    Args:
        rows: How many rows there are, or the row numbers to draw from.
        size: How many to draw, at most.
        draw: The generator; not advanced where all rows are taken.
    """
    index = np.arange(rows) if isinstance(rows, int) else rows
    if len(index) <= size:
        return index
    return np.sort(draw.choice(index, size, replace=False))
