"""Finds whole numbers that are codes: the target depends on each value, and little on the order of the values.

Trees split numbers by their order, so they learn hardly anything of such a column unless it is a category.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from ml_assets.logic.inspection.candidates import Candidates
from ml_assets.logic.inspection.strength import BINS, explained_by

# Single values have to explain this share of the target's variance more than 64 quantiles do...
MORE: Final = 0.02
# ... and this multiple: of amounts with a few extreme values, single values also explain somewhat more.
TIMES: Final = 2.0
# With fewer rows of each value, the selection of features drops the category: noise with as many values gains as much.
# Of 300 codes, 130 rows of each gave a ROC AUC of 0.77 as a category and 0.73 as numbers, 27 rows 0.63 and 0.73.
ROWS_OF_EACH: Final = 100


@dataclass(frozen=True)
class Code:
    """A column of codes.

    Attributes:
        by_value: the share of the target's variance that the mean of each value explains.
        by_order: the share that 64 quantiles explain.
    """

    column: str
    by_value: float
    by_order: float

    @property
    def sentence(self) -> str:
        """What was found, and what follows."""
        return (
            f"'{self.column}' holds codes, and becomes a category: its single values explain {self.by_value:.1%} of "
            f"the target's variance, their order {self.by_order:.1%}."
        )


def find_codes(table: Candidates) -> Iterator[Code]:
    """Yield the columns of whole numbers that are codes. With up to 64 values, trees can split off each value."""
    outcomes = table.outcomes
    for column in table.series:
        if not column.dtype.is_integer() or not BINS < column.n_unique() <= column.len() // ROWS_OF_EACH:
            continue
        by_order, by_value = explained_by(column, outcomes), explained_by(column.cast(pl.String), outcomes)
        if by_value >= max(by_order + MORE, TIMES * by_order):
            yield Code(column.name, by_value, by_order)
