"""The artifact of challengers in shadow: how each compares with the champion.

Not here: their scores (see `ml_assets.contracts.frames.shadow_predictions_table`).
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from ml_assets.contracts.artifacts.evaluation import Comparison
from ml_assets.contracts.json_record import Record

ShadowVerdict = Literal["better", "not better", "not judged"]


class ShadowedChallenger(Record):
    """A challenger in shadow, compared with the champion on the same rows.

    Attributes:
        verdict: `better` if the lower bound of the difference is above zero.
        sentence: the gate's rule about the champion with its figures, or why it is not judged.
        scored_days: days after both as-of days that it has scored and whose labels have matured, up to the days of a
            comparison.
        days: the first and the last day of the comparison; None before it.
        attempt: the number of the attempt, which decides the confidence of the lower bound; None before it.
        refused: why the gate, which judged it again, does not promote it; empty if it was not judged again, or passed.
        comparison: the deciding metric of the challenger and of the champion (`other`); None if not measured.
    """

    version: str
    verdict: ShadowVerdict
    sentence: str
    scored_days: int
    days: tuple[date, date] | None = None
    attempt: int | None = None
    refused: tuple[str, ...] = ()
    comparison: Comparison | None = None

    @property
    def words(self) -> str:
        """The finding, and why the gate does not promote the challenger, as text."""
        if not self.refused:
            return self.sentence
        others = " ".join(it for it in self.refused if it != self.sentence)
        return f"{self.sentence} The gate does not promote it{f': {others}' if others else '.'}"


class Online(Record):
    """The challenger that the prediction service scores beside the champion.

    Attributes:
        since: the day on which it came online; later days are compared.
        share: the share of the keys that it answers.
        step: what followed from the comparison: nothing yet, a larger share, its withdrawal, or that it has passed the
            last share.
        days: the days that were compared.
    """

    version: str
    since: date
    share: float
    step: Literal["stays", "widens", "withdrawn", "passed"]
    days: int
    sentence: str

    @property
    def words(self) -> str:
        """The challenger and the finding, as text."""
        if self.step == "withdrawn":
            return f"Challenger {self.version} was online from {self.since} on. {self.sentence}"
        answers = f"answers {self.share:.0%} of the keys" if self.share else "answers no request"
        return f"Challenger {self.version} is online since {self.since} and {answers}. {self.sentence}"


class Shadow(Record):
    """The challengers in shadow, the newest first.

    Attributes:
        champion: the champion that they are compared with.
        days: how many days one comparison has.
        sentence: which challengers there are, and which are left out and why.
        promoted: the challenger that was promoted because of its comparison; None without one.
        waits: the challenger that waits for approval because of its comparison; None without one.
        online: the challenger that the service scores; None without one.
    """

    model: str
    champion: str
    days: int
    sentence: str
    challengers: tuple[ShadowedChallenger, ...]
    promoted: str | None = None
    waits: str | None = None
    online: Online | None = Field(default=None, exclude_if=lambda it: it is None)
