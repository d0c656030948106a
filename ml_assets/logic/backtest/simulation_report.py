"""Summarize a backtest: each policy's metric and cost, by week, and where one policy did better than another.

Not here: the backtest (see `simulation`), and its page (see `ml_assets.logic.pages.simulation_page`).
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
from ml_assets.contracts.words import counted
from ml_assets.logic.backtest.simulation import WEEK, PolicyState, SimulatedEvent
from ml_assets.logic.evaluation.formulas import Measure, Vector
from ml_assets.logic.evaluation.jackknife import Clusters, compare_models, interval_of, leave_one_out
from ml_assets.logic.evaluation.metrics import Metric

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
    """The scores of each policy for the same labelled rows.

    Attributes:
        days: (rows,) the day of each row.
        truth: (rows,) labels, as for metrics.
        scores: by policy, (rows,) or (rows, classes).
        groups: (rows,) the group of each row, for a metric within groups.
        unlabelled: the day of each prediction without a label, or with a label of weight 0.
        weights: (rows,) the declared weight of each row; None without one.
        units: (rows,) the declared group of each row, whose rows are not independent; None without one.
    """

    days: NDArray[np.datetime64]
    truth: Vector
    scores: Mapping[str, Vector]
    groups: NDArray[np.int64] | None = None
    unlabelled: NDArray[np.datetime64] = field(default_factory=lambda: np.array([], dtype="datetime64[D]"))
    weights: Vector | None = None
    units: NDArray[np.int64] | None = None

    def of(self, first: date, last: date) -> Scored:
        """Return the rows of some days, including both ends."""
        index, left_out = (
            (days >= np.datetime64(first)) & (days <= np.datetime64(last)) for days in (self.days, self.unlabelled)
        )
        groups, units = (None if it is None else it[index] for it in (self.groups, self.units))
        weights = None if self.weights is None else self.weights[index]
        scores = {who: them[index] for who, them in self.scores.items()}
        return Scored(self.days[index], self.truth[index], scores, groups, self.unlabelled[left_out], weights, units)

    @property
    def group_count(self) -> int:
        """The number of declared groups of the rows; 0 if none are declared."""
        return 0 if self.units is None else len(np.unique(self.units))

    @property
    def clusters(self) -> Clusters:
        """The clusters that are left out in turn: days, and groups if they are declared."""
        groups = None if self.units is None else Clusters.of_groups(self.units, column="declared")
        return Clusters.of_days(self.days).crossed_with(groups)

    def measure(self, metric: Metric, policy: str) -> Measure:
        """Return a metric of a policy's scores as a function of how often each row counts."""
        return metric.measure(self.truth, self.scores[policy], self.groups, self.weights)


def results(
    states: Sequence[PolicyState[Any]], scored: Scored, metric: Metric, *, first: date, last: date
) -> tuple[PolicyResult, ...]:
    """Return the result of each policy over some days.

    Intervals come from leaving out one day at a time, and one declared group at a time, the same for all policies, so
    days that are hard for all of them cancel in the gains.

    Raises:
        DataError: the metric is not defined on the rows of these days.
    """
    scored = scored.of(first, last)
    measures = {state.policy: scored.measure(metric, state.policy) for state in states}
    rows = len(scored.truth)
    clusters = scored.clusters
    left_out = leave_one_out(measures, clusters)
    exact = {policy: measure(np.ones(rows)) for policy, measure in measures.items()}
    base = exact.get(NEVER)
    weekly = metric.gain(exact[WEEKLY], base) if base is not None and WEEKLY in exact else 0.0
    found = []
    for state in states:
        scores = scored.scores[state.policy]
        evidence = clusters.evidence(metric, scored.truth, scores, scored.groups, scored.weights)
        value, happened = exact[state.policy], [it for it in state.events if first <= it.day <= last]
        fits = [it for it in happened if it.is_fit]
        gain = None
        if base is not None and state.policy != NEVER:
            gain = compare_models(
                metric,
                against=NEVER,
                values=(value, base),
                left_out=(left_out[state.policy], left_out[NEVER]),
                evidence=evidence,
            ).difference
        found.append(
            PolicyResult(
                policy=state.policy,
                metric=interval_of(
                    metric,
                    scored.truth,
                    scores,
                    value=value,
                    left_out=left_out[state.policy],
                    evidence=evidence,
                    weights=scored.weights,
                ),
                gain=gain,
                share_of_weekly=gain.value / weekly if gain is not None and weekly > 0 else None,
                fits=len(fits),
                promotions=sum(it.promoted for it in fits),
                rejections=sum(not it.promoted for it in fits),
                rollbacks=len(happened) - len(fits),
                seconds=round(sum(it.seconds for it in fits), 1),
            )
        )
    return tuple(found)


def choose(found: Sequence[PolicyResult], metric: Metric) -> str | None:
    """Return the policy with the best metric; of equal ones, the one with the fewest fits; None if there is none."""
    best = min(found, key=lambda it: (-metric.gain(it.metric.value, 0.0), it.fits), default=None)
    return None if best is None else best.policy


def weeks(states: Sequence[PolicyState[Any]], scored: Scored, metric: Metric) -> pl.DataFrame:
    """Return the metric of each policy in each period of seven days; null if it is not defined on the rows."""
    records = []
    for first, last in _weeks(states[0]):
        part = scored.of(first, last)
        for state in states:
            fits = [it for it in state.events if first <= it.day <= last and it.is_fit]
            value = _value(metric, part, state.policy)
            promotions = sum(it.promoted for it in fits)
            records.append((state.policy, first, last, len(part.truth), value, len(fits), promotions))
    return pl.DataFrame(records, schema=WEEKS, orient="row")


def _weeks(state: PolicyState[Any]) -> Iterator[tuple[date, date]]:
    first, last = min(state.served), max(state.served)
    while first <= last:
        yield first, min(first + timedelta(days=WEEK - 1), last)
        first += timedelta(days=WEEK)


def _value(metric: Metric, scored: Scored, policy: str) -> float | None:
    """Return the metric; None if it is not defined on the rows, and the report has a gap."""
    try:
        return scored.measure(metric, policy)(np.ones(len(scored.truth)))
    except DataError:
        return None


def events(states: Sequence[PolicyState[Any]]) -> pl.DataFrame:
    """Return every retraining and rollback, by day."""
    records = [
        (it.day, it.policy, it.cause, outcome(it), it.sentence, it.version, list(it.reasons), round(it.seconds, 2))
        for state in states
        for it in state.events
    ]
    return pl.DataFrame(records, schema=EVENTS, orient="row").sort("day", maintain_order=True)


def outcome(event: SimulatedEvent) -> str:
    """Return the result of a retraining or a rollback, in one or two words."""
    if not event.is_fit:
        return "rolled back"
    return "promoted" if event.promoted else "rejected"


def held(states: Sequence[PolicyState[Any]]) -> pl.DataFrame:
    """Return the days on which a requested retraining was postponed."""
    records = [(day, state.policy, sentence) for state in states for day, sentence in state.held.items()]
    return pl.DataFrame(records, schema=HELD, orient="row")


def turns(states: Sequence[PolicyState[Any]], measured: pl.DataFrame, metric: Metric) -> pl.DataFrame:
    """Return by week where triggered retraining gained or lost against each other policy, the worst week first.

    `measured` is the output of `weeks`.
    """
    triggered = next((state for state in states if state.policy == TRIGGERED), None)
    if triggered is None:
        return pl.DataFrame(schema=TURNS)
    records = []
    own = measured.filter(policy=TRIGGERED).drop_nulls("value")
    for state in states:
        if state is triggered:
            continue
        others = measured.filter(policy=state.policy).select("first_day", other="value").drop_nulls()
        wanted = own.join(others, on="first_day").select("first_day", "last_day", "rows", "value", "other")
        for first, last, rows, mine, theirs in wanted.iter_rows():
            what_happened = _happened(triggered, state, first, last)
            records.append((state.policy, first, last, rows, mine, theirs, metric.gain(mine, theirs), what_happened))
    return pl.DataFrame(records, schema=TURNS, orient="row").sort("against", "gain", "first_day")


def _happened(state: PolicyState[Any], other: PolicyState[Any], first: date, last: date) -> str:
    """Return the champions of a week, and which retrainings were requested, postponed, promoted or rejected."""
    compared = f"with {other.policy}: as of {_served(other, first, last)}"
    parts = [f"champion trained as of {_served(state, first, last)}; {compared}"]
    parts += [
        f"{it.day}: retraining by {it.cause}, {outcome(it)}" if it.is_fit else f"{it.day}: rolled back"
        for it in state.events
        if first <= it.day <= last
    ]
    waited = [day for day in state.held if first <= day <= last]
    if waited:
        parts.append(f"postponed on {counted(len(waited), 'day')}")
    return "; ".join(parts)


def _served(state: PolicyState[Any], first: date, last: date) -> str:
    """Return the as-of days of the models that were champion within some days."""
    days = [day for day in sorted(state.served) if first <= day <= last]
    return ", then ".join(dict.fromkeys(str(state.served[day].serving.as_of) for day in days))


def sentence_of(
    found: Sequence[PolicyResult], metric: Metric, *, chosen: str | None, chosen_on: str, reported: str
) -> str:
    """Return the result in a few sentences."""
    by_policy = {it.policy: it for it in found}
    figures = ", ".join(f"{it.policy} {it.metric.value:z.4f}" for it in found)
    sentence = f"{metric.title} of {reported}: {figures}."
    triggered, weekly = by_policy.get(TRIGGERED), by_policy.get(WEEKLY)
    if triggered is not None and weekly is not None and triggered.share_of_weekly is not None:
        sentence += (
            f" Triggered retraining got {triggered.share_of_weekly:.0%} of weekly retraining's gain over never, with "
            f"{triggered.fits} fits compared with {weekly.fits}."
        )
    if chosen is None:
        return f"{sentence} No policy was chosen: the metric is not defined on {chosen_on}."
    gain = by_policy[chosen].gain
    over = "" if gain is None else f" It gains {gain.value:+z.4f} {gain.ends('+z.4f')} over never."
    return f"{sentence} On {chosen_on}, which are not reported, {chosen} was best.{over}"
