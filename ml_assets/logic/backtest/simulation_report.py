"""What simulated lives came to: each policy's metric and cost, week by week, and where one did better than another.

Living through the days stays out (see `simulation`), and so does the page (see `simulation_page`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.simulation import PolicyResult
from ml_assets.logic.backtest.simulation import WEEK, Event, Life
from ml_assets.logic.evaluation.jackknife import Clusters, compare, interval_of, leave_one_out
from ml_assets.logic.evaluation.metrics import Measure, Metric, Vector

NEVER: Final = "never"
WEEKLY: Final = "weekly"
TRIGGERED: Final = "triggered"
WEEKS: Final = pl.Schema(
    {
        "policy": pl.String, "first_day": pl.Date, "last_day": pl.Date, "rows": pl.Int64, "value": pl.Float64,
        "fits": pl.Int64, "promotions": pl.Int64,
    }
)  # fmt: skip
EVENTS: Final = pl.Schema(
    {
        "day": pl.Date(), "policy": pl.String(), "cause": pl.String(), "outcome": pl.String(), "sentence": pl.String(),
        "version": pl.String(), "reasons": pl.List(pl.String()), "seconds": pl.Float64(),
    }
)  # fmt: skip
HELD: Final = pl.Schema({"day": pl.Date, "policy": pl.String, "sentence": pl.String})
TURNS: Final = pl.Schema(
    {
        "against": pl.String, "first_day": pl.Date, "last_day": pl.Date, "rows": pl.Int64, "value": pl.Float64,
        "other": pl.Float64, "gain": pl.Float64, "happened": pl.String,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """What each policy said of the same labelled rows.

    Attributes:
        days: (rows,) the day of each.
        truth: (rows,) as metrics take it.
        scores: by policy, (rows,) or (rows, classes).
        groups: (rows,) the group of each, for a metric within groups.
        unlabelled: the day of each prediction that has no label.
    """

    days: NDArray[np.datetime64]
    truth: Vector
    scores: Mapping[str, Vector]
    groups: NDArray[np.int64] | None = None
    unlabelled: NDArray[np.datetime64] = field(default_factory=lambda: np.array([], dtype="datetime64[D]"))

    def of(self, first: date, last: date) -> Scored:
        """Return the rows of some days, both ends included."""
        index, left_out = (
            (days >= np.datetime64(first)) & (days <= np.datetime64(last)) for days in (self.days, self.unlabelled)
        )
        groups = None if self.groups is None else self.groups[index]
        scores = {who: them[index] for who, them in self.scores.items()}
        return Scored(self.days[index], self.truth[index], scores, groups, self.unlabelled[left_out])

    def measure(self, metric: Metric, policy: str) -> Measure:
        """Return a metric of a policy's scores as a function of row weights."""
        return metric.measure(self.truth, self.scores[policy], self.groups)


def results(
    lives: Sequence[Life[Any]], scored: Scored, metric: Metric, *, first: date, last: date
) -> tuple[PolicyResult, ...]:
    """Return what each policy came to over some days.

    Intervals come from leaving out one day at a time, for all policies the same: what makes days hard for all of them
    cancels in the gains.

    Args:
        lives: as they stand at the end.
        scored: what they said.
        metric: the deciding metric.
        first: the first day.
        last: the last.

    Raises:
        DataError: the metric is not defined on the rows of these days.
    """
    scored = scored.of(first, last)
    measures = {life.policy: scored.measure(metric, life.policy) for life in lives}
    rows = len(scored.truth)
    clusters = Clusters.of_days(scored.days)
    left_out = leave_one_out(measures, clusters)
    exact = {policy: measure(np.ones(rows)) for policy, measure in measures.items()}
    base = exact.get(NEVER)
    weekly = metric.gain(exact[WEEKLY], base) if base is not None and WEEKLY in exact else 0.0
    found = []
    for life in lives:
        scores = scored.scores[life.policy]
        evidence = clusters.evidence(metric, scored.truth, scores, scored.groups)
        value, happened = exact[life.policy], [it for it in life.events if first <= it.day <= last]
        fits = [it for it in happened if it.is_fit]
        gain = None
        if base is not None and life.policy != NEVER:
            gain = compare(
                metric,
                against=NEVER,
                values=(value, base),
                left_out=(left_out[life.policy], left_out[NEVER]),
                evidence=evidence,
            ).difference
        found.append(
            PolicyResult(
                policy=life.policy,
                metric=interval_of(
                    metric,
                    scored.truth,
                    scores,
                    value=value,
                    left_out=left_out[life.policy],
                    evidence=evidence,
                ),
                gain=gain,
                share_of_weekly=gain.value / weekly if gain is not None and weekly > 0 else None,
                fits=len(fits),
                promotions=sum(it.promoted for it in fits),
                refusals=sum(not it.promoted for it in fits),
                rollbacks=len(happened) - len(fits),
                seconds=round(sum(it.seconds for it in fits), 1),
            )
        )
    return tuple(found)


def choose(found: Sequence[PolicyResult], metric: Metric) -> str | None:
    """Return the policy with the best metric, of equal ones that with the fewest fits; None where there is none."""
    best = min(found, key=lambda it: (-metric.gain(it.metric.value, 0.0), it.fits), default=None)
    return None if best is None else best.policy


def weeks(lives: Sequence[Life[Any]], scored: Scored, metric: Metric) -> pl.DataFrame:
    """Return the metric of each policy in each seven days from the first on; null where the rows do not define it."""
    records = []
    for first, last in _weeks(lives[0]):
        part = scored.of(first, last)
        for life in lives:
            fits = [it for it in life.events if first <= it.day <= last and it.is_fit]
            value = _value(metric, part, life.policy)
            promotions = sum(it.promoted for it in fits)
            records.append((life.policy, first, last, len(part.truth), value, len(fits), promotions))
    return pl.DataFrame(records, schema=WEEKS, orient="row")


def _weeks(life: Life[Any]) -> Iterator[tuple[date, date]]:
    first, last = min(life.served), max(life.served)
    while first <= last:
        yield first, min(first + timedelta(days=WEEK - 1), last)
        first += timedelta(days=WEEK)


def _value(metric: Metric, scored: Scored, policy: str) -> float | None:
    """Return the metric, or None where the rows do not define it: the report then has a gap."""
    try:
        return scored.measure(metric, policy)(np.ones(len(scored.truth)))
    except DataError:
        return None


def events(lives: Sequence[Life[Any]]) -> pl.DataFrame:
    """Return every retraining and rollback, by day."""
    records = [
        (it.day, it.policy, it.cause, outcome(it), it.sentence, it.version, list(it.reasons), round(it.seconds, 2))
        for life in lives
        for it in life.events
    ]
    return pl.DataFrame(records, schema=EVENTS, orient="row").sort("day", maintain_order=True)


def outcome(event: Event) -> str:
    """Return what came of a retraining or a rollback, in a word or two."""
    if not event.is_fit:
        return "rolled back"
    return "promoted" if event.promoted else "refused"


def held(lives: Sequence[Life[Any]]) -> pl.DataFrame:
    """Return the days on which something asked for a retraining and was held back."""
    records = [(day, life.policy, sentence) for life in lives for day, sentence in life.held.items()]
    return pl.DataFrame(records, schema=HELD, orient="row")


def turns(lives: Sequence[Life[Any]], measured: pl.DataFrame, metric: Metric) -> pl.DataFrame:
    """Return where triggered retraining gained or lost against each other policy, by week, the worst week first.

    Args:
        lives: as they stand at the end.
        measured: as `weeks` gives it.
        metric: what was measured; a gain above zero is better, whatever its direction.
    """
    triggered = next((life for life in lives if life.policy == TRIGGERED), None)
    if triggered is None:
        return pl.DataFrame(schema=TURNS)
    records = []
    own = measured.filter(policy=TRIGGERED).drop_nulls("value")
    for life in lives:
        if life is triggered:
            continue
        others = measured.filter(policy=life.policy).select("first_day", other="value").drop_nulls()
        wanted = own.join(others, on="first_day").select("first_day", "last_day", "rows", "value", "other")
        for first, last, rows, mine, theirs in wanted.iter_rows():
            told = _happened(triggered, life, first, last)
            records.append((life.policy, first, last, rows, mine, theirs, metric.gain(mine, theirs), told))
    return pl.DataFrame(records, schema=TURNS, orient="row").sort("against", "gain", "first_day")


def _happened(life: Life[Any], other: Life[Any], first: date, last: date) -> str:
    """Return who served in a week, and what was asked for, held back, let in or refused."""
    told = [
        f"served the model as of {_served(life, first, last)}; {other.policy} that as of {_served(other, first, last)}"
    ]
    told += [
        f"{it.day}: {it.cause} asked, {outcome(it)}" if it.is_fit else f"{it.day}: rolled back"
        for it in life.events
        if first <= it.day <= last
    ]
    waited = [day for day in life.held if first <= day <= last]
    if waited:
        told.append(f"held back on {len(waited)} day{'s' * (len(waited) > 1)}")
    return "; ".join(told)


def _served(life: Life[Any], first: date, last: date) -> str:
    """Return as of when the models were trained that served within some days."""
    days = [day for day in sorted(life.served) if first <= day <= last]
    return ", then ".join(dict.fromkeys(str(life.served[day].serving.as_of) for day in days))


def sentence_of(
    found: Sequence[PolicyResult], metric: Metric, *, chosen: str | None, chosen_on: str, reported: str
) -> str:
    """Return what came of it in some sentences.

    Args:
        found: the figures of the reported days.
        metric: the deciding metric.
        chosen: the policy that was chosen; None where none could be.
        chosen_on: the days that it was chosen on, in words.
        reported: the reported days, in words.
    """
    by_policy = {it.policy: it for it in found}
    figures = ", ".join(f"{it.policy} {it.metric.value:z.4f}" for it in found)
    said = f"{metric.title} of {reported}: {figures}."
    triggered, weekly = by_policy.get(TRIGGERED), by_policy.get(WEEKLY)
    if triggered is not None and weekly is not None and triggered.share_of_weekly is not None:
        said += (
            f" Triggered retraining got {triggered.share_of_weekly:.0%} of weekly retraining's gain over never, with "
            f"{triggered.fits} fits to its {weekly.fits}."
        )
    if chosen is None:
        return f"{said} No policy was chosen: {chosen_on} do not define the metric."
    gain = by_policy[chosen].gain
    over = "" if gain is None else f" It gains {gain.value:+z.4f} {gain.ends('+z.4f')} over never."
    return f"{said} On {chosen_on}, which are not reported, {chosen} was best.{over}"
