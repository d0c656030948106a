"""The usual range of a reference: how much its own days differ from the whole of it."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.logic.monitoring.distances import Counts, psi_beyond_sampling

USUAL: Final = 0.99
"""The share of the reference's days that lie within the usual range: all of up to 100 days.

A day from the same distribution lies beyond all of n days in one of n + 1 cases for each feature. With 0.95 instead of
0.99, 5 to 11 % of days that were drawn from one month were above the limits.
"""


@dataclass(frozen=True)
class Usual:
    """The usual range of a column: how 99 of 100 of the reference's own days compare with the whole reference.

    Attributes:
        psi: upper limit of the PSI beyond sampling error; see `psi_beyond_sampling`.
        new_category_share: upper limit of the share of rows with a new category; see `is_new_category`. None for
            numbers.
        rows: median number of rows of a day.
    """

    psi: float
    null_low: float
    null_high: float
    new_category_share: float | None
    rows: float

    @property
    def sketch(self) -> pl.DataFrame:
        """The rows of the sketch, of which `parts` are the names."""
        return pl.DataFrame({"part": self.parts(), "value": astuple(self)}, schema_overrides={"value": pl.Float64})

    @classmethod
    def parts(cls) -> list[str]:
        """Return the parts of the sketch that hold the figures, in order."""
        return [f"usual_{it.name}" for it in fields(cls)]


def usual_range(
    whole: Counts, bin_of: Counts, day_of: Counts, *, is_missing: NDArray[np.bool_], is_new: NDArray[np.bool_] | None
) -> Usual:
    """Return the usual range of a column.

    `whole` is (bins,) the rows of the reference. The others are (rows,): bins and days are numbers from 0, and
    `is_new` is None for numbers.
    """
    days, bins = int(day_of.max()) + 1, len(whole)
    counts = np.bincount(day_of * bins + bin_of, minlength=days * bins).reshape(days, bins)
    rows = counts.sum(axis=1)
    usual_rows = float(np.median(rows))
    low, high = np.quantile(np.bincount(day_of, weights=is_missing) / rows, [(1 - USUAL) / 2, (1 + USUAL) / 2])
    return Usual(
        psi=float(np.quantile(psi_beyond_sampling(whole, counts, usual_rows), USUAL)),
        null_low=float(low),
        null_high=float(high),
        new_category_share=(
            None if is_new is None else float(np.quantile(np.bincount(day_of, weights=is_new) / rows, USUAL))
        ),
        rows=usual_rows,
    )


def is_new_category(code_of: Counts, day_of: Counts, *, categories: int) -> NDArray[np.bool_]:
    """Return (rows,) whether the category of a row is new on its day, for a vocabulary that does not contain the day.

    The days of the later half are compared with the vocabulary of the earlier half. A block of days is left out, not
    one day: a code of a campaign lasts for some days, so the days beside a day have its new categories too, and the
    days to judge are as far from training (Bergmeir and Benítez 2012, «On the use of cross-validation for time series
    predictor evaluation»). Of a single day, each row is left out in turn, so a category is new if only one row has it
    (Good 1953, «The population frequencies of species and the estimation of population parameters»).

    `code_of` is the number of each row's category from 0, and `categories` that of a missing value, which is not new.
    """
    days = int(day_of.max()) + 1
    if days == 1:
        is_known = np.bincount(code_of, minlength=categories + 1) > 1
    else:
        is_known = np.zeros(categories + 1, np.bool_)
        is_known[code_of[day_of < (days + 1) // 2]] = True
    is_known[categories] = True
    is_new: NDArray[np.bool_] = ~is_known[code_of]
    return is_new
