"""Generated tables of many sizes: from few rows and columns to wide and long ones, with and without a time."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from benchmarks.foreign.tables import Entry, ForeignTable, Random, chance, moments, with_gaps

_STRONG: Final = 6
"""How many columns decide; the others are noise."""


def _sized(random: Random, rows: int, columns: int, days: float | None = None, middle: float = -1.5) -> ForeignTable:
    """Return two classes and as many features, every fifth of which is a category; with days, also a time.

    `middle` is the logit of the positive class where every feature is 0.
    """
    numbers = random.normal(size=(rows, columns))
    strong = numbers[:, : min(_STRONG, columns)]
    logit = strong @ np.linspace(1.0, 0.4, strong.shape[1]) + 0.8 * (strong[:, 0] > 0.5) * (strong[:, -1] > 0)
    names = [f"{'grade' if n % 5 == 4 else 'reading'} {n:04d}" for n in range(columns)]
    features = {
        name: pl.Series(np.digitize(numbers[:, n], (-1, 0, 1))).replace_strict([0, 1, 2, 3], ["D", "C", "B", "A"])
        if name.startswith("grade")
        else with_gaps(random, numbers[:, n].round(4), 0.05)
        for n, name in enumerate(names)
    }
    time = {} if days is None else {"Measured": moments(random, rows, days)}
    target = np.where(random.random(rows) < chance(logit + middle), "fault", "fine")
    frame = pl.DataFrame({"unit id": random.permutation(rows) + 10_000, **time, **features, "result": target})
    return ForeignTable(
        frame, "result", {"unit id": "unit_id"}, tuple(names), "Measured" if time else None, positive="fault"
    )


SIZES: Final[Mapping[str, Entry]] = {
    "300x2 by time": Entry(lambda random, rows: _sized(random, rows, 2, days=300, middle=-0.5), 300),
    "300x20": Entry(lambda random, rows: _sized(random, rows, 20), 300),
    "1000x200": Entry(lambda random, rows: _sized(random, rows, 200), 1_000),
    "20000x200": Entry(lambda random, rows: _sized(random, rows, 200), 20_000),
    "2000x2000": Entry(lambda random, rows: _sized(random, rows, 2_000), 2_000),
}
"""By rows and features."""
