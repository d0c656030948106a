"""When to train again: what drift, performance and labels say, held back by cool-down, budget and what runs already.

Gathering the facts stays out (see `sensors`), and so does the gate, which decides who serves: see `champion`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from ml_assets.contracts.artifacts import Cause, DailyLoss, DriftSummary, PerformanceSummary, Retraining
from ml_assets.contracts.words import counted
from ml_assets.logic.evaluation.metrics import Metric

SLACK: Final = 1.0
"""Standard deviations a day that a CUSUM lets go: half of the smallest fall worth finding quickly.

With 4 as limit and as the most of a day, 200 days drawn from one month asked more than twice in 0 to 2 % of streams,
and a fall of 3 standard deviations was found within 3 days in 87 to 94 %; with 0.75, 5 and 3 it was 0 to 5 % and 75 to
86 % of 300.
"""
MOST: Final = 4.0
"""Standard deviations that one day counts at most, so that no single day asks for a retraining."""
DOUBLINGS: Final = 3
"""Refused challengers after which the cool-down grows no longer."""
LOOKED_BACK: Final = 366
"""Days of performance since the champion's training that are looked at, the newest: bounds what a look costs."""


@dataclass(frozen=True)
class Rules:
    """When to ask, and how much of it there may be; see `RetrainingSettings` in `ml_assets.declaration.retraining`."""

    drift_days: int
    of_days: int
    performance_limit: float | None
    minimum_coverage: float
    label_growth: float | None
    floor_days: int | None
    cool_down_days: int
    per_day: int


@dataclass(frozen=True)
class Serving:
    """The champion as the rules see it.

    Attributes:
        version: who it is.
        as_of: the day by whose end the labels it was judged on were known.
        rows: labelled rows that it was trained on.
        daily_loss: how far a day of its test window fell behind what was promised; None where nobody measured it.
        promised: the deciding metric on its test window.
        refusals: challengers that the gate has rejected since it serves, and a rollback; see `promotion.refusals`.
        taken_back: the newest day that was predicted by whoever was taken back for it; None where nobody was.
        learned_until: the last day that it has learned anything from; None where only `as_of` is known.
    """

    version: str
    as_of: date
    rows: int
    daily_loss: DailyLoss | None
    promised: float | None
    refusals: int = 0
    taken_back: date | None = None
    learned_until: date | None = None


@dataclass(frozen=True)
class Finding:
    """What one kind of facts says.

    Attributes:
        cause: the kind.
        is_over: whether it asks for a retraining.
        day: the newest day that was looked at; None where there is none.
        sentence: what was seen, with figures.
        change: what would have to change for the answer to be another one.
        is_judged: whether there was anything to judge by; nothing is over where there was not, and nothing within.
    """

    cause: Cause
    is_over: bool
    day: date | None
    sentence: str
    change: str
    figures: dict[str, float] = field(default_factory=dict)
    is_judged: bool = True


@dataclass(frozen=True)
class Decision:
    """Whether to train again now.

    Attributes:
        asks: the finding that asks; None where nothing does, or where it is held back.
        sentence: why, for an operator.
        number: among the retrainings as of the day, from 1.
        is_held: whether something asks, but has to wait.
    """

    asks: Finding | None
    sentence: str
    number: int = 0
    is_held: bool = False


def drift_finding(days: Sequence[DriftSummary], champion: Serving, rules: Rules) -> Finding:
    """Ask where enough of the newest judged days are over their drift limits.

    A day with too few rows is not judged, and does not count among the days looked at. Of days that were judged
    together with days before them, each row counts once: the next one back is the newest that ends before these begin.

    Args:
        days: drift reports, in any order; those of other champions are left out.
        champion: who serves.
        rules: when to ask.
    """
    own = sorted((it for it in days if it.model_version == champion.version), key=lambda it: it.day)
    judged = _apart([it for it in own if it.state != "not judged"])[-rules.of_days :]
    over = [it for it in judged if it.is_over]
    is_over = len(over) >= rules.drift_days
    skipped = [it for it in own if it.state == "not judged" and (not judged or it.day > judged[0].day)]
    if not judged:
        said = f"Drift is not judged on any of {counted(len(own), 'day')} of this champion"
        said += f"; {own[-1].day}: {own[-1].sentence.rstrip('.')}" if own else ""
        return Finding(
            "drift", is_over=False, day=None, sentence=f"{said}.", change="days with enough rows",
            figures={"days over": 0.0, "days judged": 0.0, "days not judged": float(len(own))}, is_judged=False,
        )  # fmt: skip
    said = f"{len(over)} of the last {len(judged)} judged days are over their drift limits"
    said += f"; {counted(len(skipped), 'day')} among them not judged" if skipped else ""
    said += f"; {judged[-1].day}: {judged[-1].sentence.rstrip('.')}"
    missing = rules.drift_days - len(over)
    change = (
        f"at most {rules.drift_days - 1} of the last {rules.of_days} days over"
        if is_over
        else f"{missing} more day{'s' * (missing > 1)} over within {rules.of_days} days"
    )
    figures = {
        "days over": float(len(over)),
        "days judged": float(len(judged)),
        "days not judged": float(len(skipped)),
    }
    if judged[-1].weighted_excess_psi is not None:
        figures["weighted excess PSI"] = judged[-1].weighted_excess_psi
    return Finding("drift", is_over=is_over, day=judged[-1].day, sentence=f"{said}.", change=change, figures=figures)


def _apart(days: Sequence[DriftSummary]) -> list[DriftSummary]:
    """Return days, oldest first, that have no rows in common, the newest among them."""
    found: list[DriftSummary] = []
    for it in reversed(days):
        if not found or it.day < found[-1].first_day:
            found.append(it)
    return found[::-1]


def performance_finding(days: Sequence[PerformanceSummary], champion: Serving, rules: Rules, metric: Metric) -> Finding:
    """Ask where measured performance keeps falling behind what was promised.

    A day's loss is what its own scores led to expect (for a metric that scores say nothing of: what the test window
    promised) less what its labels showed. It is put in standard deviations of the days of the test window, and summed
    as a one-sided CUSUM (Page 1954, Continuous Inspection Schemes): what is above `SLACK` adds up, a good day takes
    off, below zero it starts again. No day counts for more than `MOST`, so it takes several.

    Args:
        days: performance reports, in any order; those of other champions, and days of which too few labels are known,
            are left out.
        champion: who serves.
        rules: when to ask.
        metric: the deciding metric.
    """
    if rules.performance_limit is None:
        return Finding("performance", is_over=False, day=None, sentence="Performance never asks.", change="a limit")
    own = sorted((it for it in days if it.model_version == champion.version), key=lambda it: it.day)
    matured = [it for it in own if is_matured(it, metric, rules.minimum_coverage)]
    waiting = len(own) - len(matured)
    usual = champion.daily_loss
    expected = [(it, it.expected_labelled.get(metric.name, champion.promised)) for it in matured]
    promises = [(it, promised) for it, promised in expected if promised is not None]
    if not promises or usual is None or usual.deviation <= 0:
        why, change = "no day has enough labels", "days with labels"
        if own:
            why = f"none of {counted(len(own), 'day')} has enough labels"
        if matured:
            why, change = "the evaluation of this model has not measured how much days differ", "an evaluation"
        return Finding(
            "performance", is_over=False, day=None, sentence=f"Performance is not judged: {why}.", change=change,
            figures={"days": 0.0, "days without labels": float(waiting)}, is_judged=False,
        )  # fmt: skip
    total, losses = 0.0, []
    for it, promised in promises:
        losses.append(metric.gain(promised, it.metrics[metric.name]))
        # A day of far fewer rows than those of the test window strays further by chance alone.
        deviation = usual.deviation * math.sqrt(max(1.0, usual.rows / it.labelled))
        total = max(0.0, total + min((losses[-1] - usual.mean) / deviation, MOST) - SLACK)
    is_over = total > rules.performance_limit
    newest = matured[-1]
    said = (
        f"{metric.name} of {newest.day} is {newest.metrics[metric.name]:z.3f}; the shortfall from what was expected "
        f"has summed to {total:z.1f} standard deviations, {'over' if is_over else 'under'} {rules.performance_limit:g}"
    )
    if waiting:
        said += f" ({counted(waiting, 'day')} without enough labels yet)"
    change = f"a CUSUM {'under' if is_over else 'over'} {rules.performance_limit:g}"
    return Finding(
        "performance", is_over=is_over, day=newest.day, sentence=f"{said}.", change=change,
        figures={"cusum": total, "days": float(len(losses)), "days without labels": float(waiting)},
    )  # fmt: skip


def is_matured(day: PerformanceSummary, metric: Metric, coverage: float) -> bool:
    """Return whether a metric of a day is measured on enough labels to be compared.

    Args:
        day: performance of the day.
        metric: the metric.
        coverage: share of the predictions that must have their label, those left out that never get one.
    """
    wanted = coverage * (day.predictions - day.without_label)
    return day.predictions > 0 and metric.name in day.metrics and day.labelled >= wanted


def labels_finding(
    days: Sequence[PerformanceSummary], champion: Serving, history: Sequence[Retraining], rules: Rules
) -> Finding:
    """Ask where labels of predicted days after the last training would grow its rows by enough.

    Days without predictions have no report of performance, so that their labels are not counted.

    Args:
        days: performance reports, in any order, by whichever champion.
        champion: who serves.
        history: retrainings that were asked for, in any order; a refused challenger was trained on its labels too.
        rules: when to ask.
    """
    if rules.label_growth is None:
        return Finding("labels", is_over=False, day=None, sentence="New labels never ask.", change="a share")
    last = last_training(champion, history)
    later = [it for it in days if it.day > last]
    new = sum(it.labelled for it in later)
    rows = champion.rows + sum(it.labelled for it in days if champion.as_of < it.day <= last)
    growth = new / rows if rows else 0.0
    is_over = growth >= rules.label_growth
    wanted = math.ceil(rules.label_growth * rows)
    return Finding(
        "labels",
        is_over=is_over,
        day=max((it.day for it in later), default=None),
        sentence=f"{new:,} labels of predicted days since {last} beside {rows:,} rows of training: {growth:.1%} more, "
        f"{'at least' if is_over else 'under'} {rules.label_growth:.0%}.",
        change="a training on them" if is_over else f"{wanted - new:,} more labels",
        figures={"new labels": float(new), "growth": growth},
    )


def floor_finding(today: date, champion: Serving, history: Sequence[Retraining], rules: Rules) -> Finding:
    """Ask where the last training is too long ago, whatever the other facts say.

    Args:
        today: the day that would be trained as of.
        champion: who serves.
        history: retrainings that were asked for, in any order.
        rules: when to ask.
    """
    if rules.floor_days is None:
        return Finding("floor", is_over=False, day=today, sentence="There is no floor.", change="floor_days")
    last = last_training(champion, history)
    age = (today - last).days
    is_over = age >= rules.floor_days
    return Finding(
        "floor",
        is_over=is_over,
        day=today,
        sentence=f"The last training is as of {last}, {counted(age, 'day')} before {today}; the floor is "
        f"{counted(rules.floor_days, 'day')}.",
        change="a training" if is_over else f"{rules.floor_days - age} more days",
        figures={"days since training": float(age)},
    )


def last_training(champion: Serving, history: Sequence[Retraining]) -> date:
    """Return the day that was trained as of last, whatever came of it."""
    return max([champion.as_of, *(it.as_of for it in history)])


def decide(
    findings: Sequence[Finding],
    *,
    day: date,
    champion: Serving,
    history: Sequence[Retraining],
    rules: Rules,
    busy: str | None = None,
) -> Decision:
    """Return whether to train again as of a day.

    One retraining at a time; none within the cool-down, in days of data, since the last one, or since a champion was
    taken back, whoever had trained it; each challenger that the
    gate refused since the champion serves doubles the cool-down, at most `DOUBLINGS` times: where training again does
    not help, it is not done over and over.

    Args:
        findings: what was seen; the first that asks is the cause.
        day: the newest day whose features there are.
        champion: who serves.
        history: retrainings that were asked for, in any order.
        rules: when to ask.
        busy: what runs already, in words; None where nothing does.
    """
    asking = next((it for it in findings if it.is_over), None)
    if asking is None:
        return Decision(None, " ".join(it.sentence for it in findings))
    if busy:
        return Decision(None, f"{asking.sentence} It waits: {busy}.", is_held=True)
    same_day = [it for it in history if it.as_of == day]
    last = last_training(champion, history)
    since = max(last, champion.taken_back or last)
    wait = rules.cool_down_days * 2 ** min(champion.refusals, DOUBLINGS)
    if len(same_day) >= rules.per_day:
        held = f"{asking.sentence} It waits: {len(same_day)} as of {day} is the budget of a day."
        return Decision(None, held, is_held=True)
    if (day - since).days < wait:
        until = since + timedelta(days=wait)
        began = f"the last training is as of {last}" if since == last else f"a champion was taken back on {since}"
        refused = f", {_doubled(champion.refusals)}" if champion.refusals else ""
        return Decision(
            None,
            f"{asking.sentence} It waits until {until}: {began}, the cool-down is {wait} days{refused}.",
            is_held=True,
        )
    return Decision(asking, asking.sentence, number=len(same_day) + 1)


def _doubled(refusals: int) -> str:
    """Return how often the cool-down is doubled for challengers that were refused, at least one."""
    times = min(refusals, DOUBLINGS)
    told = {1: "once", 2: "twice"}.get(times, f"{times} times")
    return f"doubled {told} for {refusals} refused challenger{'s' * (refusals > 1)}"
