"""Summarize what is known of leaks behind a model: what was tested, and which suspects a person should review.

Not here: leaks that a rebuild proves (see `ml_assets.logic.point_in_time.leak_test`), and how suspects are found (see
`ml_assets.logic.inspection.lone_columns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ml_assets.contracts.leaks import KnownTime
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.lone_columns import LonePredictor

# A rebuild clears a column if the probability of missing a leak at this share of prediction times is this low.
CLEARED_SHARE: Final = 0.1
CLEARED_CHANCE: Final = 0.05
SHARES: Final = (0.1, 0.05, 0.01)
"""Shares of prediction times, or of days, for which the chance to miss a leak is reported."""


def chance_missed(cuts: int, share: float) -> float:
    """Return the probability of missing a leak that shows at a share of the prediction times."""
    return float((1 - share) ** cuts)


def power(cuts: int, days: int) -> str:
    """Return a sentence about what a number of prediction times can miss.

    A leak may show at any time, or on certain days only. In the second case, prediction times of one day count as one.
    """

    def missed(count: int) -> str:
        return ", ".join(f"{share:.0%} with probability {chance_missed(count, share):.2g}" for share in SHARES)

    return (
        f"{counted(cuts, 'prediction time')} on {counted(days, 'day')} {'misses' if cuts == 1 else 'miss'} a leak that "
        f"shows at a share of times: {missed(cuts)}; on a share of days only: {missed(days)}"
    )


@dataclass(frozen=True)
class LeakFindings:
    """What is known of leaks in the features behind a model.

    Attributes:
        is_tested: whether the model declares a leak test.
        cuts: prediction times that the runs of the features have tested.
        cut_days: number of their days, counted run by run.
        rows: feature rows that were compared.
        days: days of features behind the model.
        untested: days that no leak test covered.
        proven: leaks that a rebuild proved, in sentences, from the newest test.
        suspects: features that predict the target almost alone, that no rebuild cleared, and no person acknowledged.
        known_times: the declared known times of the source tables.
    """

    is_tested: bool
    cuts: int
    cut_days: int
    rows: int
    days: int
    untested: int
    proven: tuple[str, ...] = ()
    suspects: tuple[LonePredictor, ...] = ()
    known_times: tuple[KnownTime, ...] = ()

    @property
    def sentence(self) -> str:
        """The result of the leak test, in a sentence."""
        if self.proven:
            return f"Features contain what was not known at their prediction time: {' '.join(self.proven)}"
        if not self.is_tested:
            return "The features are not tested for leaks: the declaration turns the test off (leak_test.samples: 0)."
        if self.untested:
            return f"Not tested for leaks: {self.untested} of {self.days} days of features. Materialize them again."
        return f"No leak was found in {self.rows:,} rows; {power(self.cuts, self.cut_days)}."


def suspects(
    lone: Sequence[LonePredictor], *, cuts: int, history: Sequence[str] | None, acknowledged: Sequence[str]
) -> tuple[LonePredictor, ...]:
    """Return the lone predictors that a person should review.

    A rebuild that found no difference clears a column that is computed from other rows than the prediction's own, such
    as a lag of the target. Its values depend on when those rows were known, which was tested. It clears no column of
    the prediction's own row, which is known by declaration, and none that is nearly perfect.

    Args:
        lone: the result of `lone_predictors`.
        cuts: prediction times at which no difference was found.
        history: columns that are computed from other rows; None if that was not measured.
        acknowledged: columns that a person has reviewed.
    """
    has_power = chance_missed(cuts, CLEARED_SHARE) <= CLEARED_CHANCE
    cleared = {it.column for it in lone if has_power and it.column in (history or ()) and not it.is_copy}
    return tuple(it for it in lone if it.column not in {*cleared, *acknowledged})
