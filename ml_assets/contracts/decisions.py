"""The records of the logs of promotions and of requested retrainings.

Apart from the artifacts, because a trace reads them without loading polars.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final, Literal

from pydantic import Field

from ml_assets.contracts.json_record import Record

IN_SHADOW: Final = "shadow"
"""The cause of an entry about a challenger that the gate judged again, by its comparison in shadow."""
Action = Literal["promote", "reject", "rollback", "request_approval", "online", "withdraw"]


class RuleRecord(Record):
    """The result of one rule of the gate, as it is stored, in a sentence with figures."""

    name: str
    holds: bool
    sentence: str


class Promotion(Record):
    """One entry of the promotion log: the decision, its version, and why.

    Attributes:
        action: `request_approval` means that a challenger passed the gate and waits for a person's approval. `online`
            means that the prediction service scores it beside the champion, and `withdraw` ends that. None of the three
            changes the champion.
        rules: all rules that the gate checked; a person's entry has none.
        is_anchor: whether the challenger becomes the anchor when it is promoted; see `logic.promotion.log.anchor`.
        anchor: the version that was the anchor when the gate judged.
        attempt: the number of the attempt on these test days since the last promotion, from 1; None if nothing was
            tested.
        test_days: the first and the last day of the rows that the gate used.
        cause: why the retraining that led to it was requested, if one was; `shadow` for a challenger that was judged
            again by its comparison in shadow.
        share: of an entry `online`, the share of the keys that the challenger answers; 0 for none.
        decided_at: with its time zone; stored in UTC.
        id: a random string for a person's decision, so that two equal decisions are distinct. The gate's entries have
            none, because a run makes only one.
        previous_digest: the digest of the entry before, which the log sets.
        replaced_entries: only in the first entry of a log that a person began in place of a damaged one: the digests of
            the damaged log's entries that manifests name.
    """

    number: int
    model: str
    action: Action
    champion: str | None
    challenger: str
    reasons: tuple[str, ...]
    rules: tuple[RuleRecord, ...] = ()
    figures: dict[str, float] = Field(default={})
    is_anchor: bool = False
    anchor: str | None = None
    attempt: int | None = None
    test_days: tuple[date, date] | None = None
    cause: str | None = None
    evaluation_version: str | None = None
    share: float | None = Field(default=None, exclude_if=lambda it: it is None)
    decided_at: datetime
    decided_by: str
    run_id: str | None = None
    id: str | None = None
    previous_digest: str | None = None
    replaced_entries: tuple[str, ...] = ()

    @property
    def is_verdict(self) -> bool:
        """Whether it decides about a version, and not only about the requests that it scores."""
        return self.action not in ("online", "withdraw")

    @property
    def was_in_shadow(self) -> bool:
        """Whether it follows from a comparison in shadow."""
        return self.cause == IN_SHADOW


Cause = Literal["drift", "performance", "labels", "floor"]


class Retraining(Record):
    """A retraining that was requested, and the facts that caused it.

    Attributes:
        number: among the retrainings with the same as-of day, from 1.
        requested_by: the sensor or schedule that requested it.
    """

    model: str
    as_of: date
    number: int
    cause: Cause
    sentence: str
    figures: dict[str, float] = Field(default={})
    champion: str
    requested_at: datetime
    requested_by: str
