"""Test whether what a function adds to feature rows depends on rows of later prediction times.

Feature rows hold what was known at their own prediction times. A function over them can therefore leak only by reading
rows of later times. Not here: the test of the rows themselves (see `ml_assets.logic.point_in_time.leak_test`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from ml_assets.contracts.table import redacted
from ml_assets.contracts.words import counted
from ml_assets.logic.point_in_time.leak_test import Difference, Leak, differences
from ml_assets.logic.point_in_time.suspects import power

A_PERIOD: Final = 5
"""The most prediction times of one period, if there are enough periods, because leaks differ between periods."""
_PLACE: Final = "__place"
_LATER: Final = "it changes if the rows with a later prediction time are removed or replaced by each other"


@dataclass(frozen=True)
class LaterRowsTest:
    """The result of the test.

    Attributes:
        samples: the number of tested prediction times.
        periods: the number of periods that they are of.
        leaks: one for each column that differs.
    """

    samples: int
    periods: int
    leaks: tuple[Leak, ...]

    @property
    def text(self) -> str:
        """The verdict and its power, or every leak."""
        if self.leaks:
            over = f"{counted(self.samples, 'prediction time')} on {counted(self.periods, 'period')}"
            return "\n".join([f"leaks found at {over}:", *(f"- {leak.sentence}" for leak in self.leaks)])
        if not self.samples:
            return "no leak: no period has rows of several prediction times"
        return f"no leak; {power(self.samples, self.periods)}"


def leaks_from_later_rows(
    periods: Mapping[str, pl.DataFrame],
    add: Callable[[pl.DataFrame], pl.DataFrame],
    *,
    key: Sequence[str],
    prediction_time: str,
    fixed: Sequence[str],
    samples: int,
    seed: int,
    personal: Collection[str] = (),
) -> LaterRowsTest:
    """Compute the columns again without later rows, and with other values in them, and compare them.

    Args:
        periods: the rows of each period, by its key.
        add: returns the key and the new columns of the rows of one period.
        key: columns that identify a row.
        prediction_time: the column with the time of the prediction.
        fixed: columns that are not replaced: key, day, times and group.
        samples: the most prediction times to test.
        seed: of the choice and of the replacement.
        personal: columns whose values messages do not show.
    """
    random = np.random.default_rng(seed)
    names = sorted(day for day, rows in periods.items() if rows.height)
    order = [names[place] for place in random.permutation(len(names))]
    a_period = max(A_PERIOD, -(-samples // max(1, len(order))))
    found: dict[str | None, list[tuple[str, datetime, Difference]]] = {}
    tested, days = 0, 0
    for day in order:
        count = min(a_period, samples - tested)
        if count <= 0:
            break
        rows = periods[day]
        times = rows[prediction_time].unique().sort()[:-1]  # nothing is later than the last one
        chosen = sorted(random.permutation(times.len())[:count])
        if not chosen:
            continue
        tested, days, full = tested + len(chosen), days + 1, add(rows)
        for at in (times[int(place)] for place in chosen):
            is_known = pl.col(prediction_time) <= at
            shown = full.filter(rows.select(is_known).to_series())
            for other in _other_futures(rows, is_known, fixed, random):
                again = add(other).join(shown.select(key), on=list(key), how="semi", nulls_equal=True)
                columns = [name for name in full.columns if name not in key]
                for it in differences(shown.reverse(), again, key=key, columns=columns):
                    found.setdefault(it.column, []).append((day, at, it))
    return LaterRowsTest(tested, days, tuple(_leak(differing, personal) for differing in found.values()))


def _other_futures(
    rows: pl.DataFrame, is_known: pl.Expr, fixed: Sequence[str], random: np.random.Generator
) -> Iterator[pl.DataFrame]:
    """Yield the rows without the later ones, and with the values of later rows exchanged among each other."""
    known = rows.filter(is_known)
    yield known
    numbered = rows.with_row_index(_PLACE)
    later = numbered.filter(~is_known)
    values = later.drop(_PLACE, *fixed)[random.permutation(later.height)]
    replaced = pl.concat([later.select(_PLACE, *fixed), values], how="horizontal").select(numbered.columns)
    yield pl.concat([numbered.filter(is_known), replaced]).sort(_PLACE).drop(_PLACE)


def _leak(differing: Sequence[tuple[str, datetime, Difference]], personal: Collection[str]) -> Leak:
    day, at, first = differing[0]
    return Leak(
        column=first.column,
        day=day,
        at=at,
        key={name: redacted(name, value, personal) for name, value in first.key.items()},
        built=first.one,
        known=first.other,
        rows=sum(it.rows for *_, it in differing),
        samples=len({(day, at) for day, at, _ in differing}),
        unexplained=_LATER,
    )
