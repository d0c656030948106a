"""Decide when to retrain: by drift, performance, new labels and age, limited by a cool-down and a budget.

Not here: gathering the facts (see `ml_assets.automation.retraining`), and the gate (see
`ml_assets.logic.promotion.gate`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from ml_assets.contracts.artifacts.evaluation import DailyLoss
from ml_assets.contracts.artifacts.monitoring import DriftSummary, PerformanceSummary
from ml_assets.contracts.decisions import Cause, Retraining
from ml_assets.contracts.words import counted
from ml_assets.logic.evaluation.metrics import Metric

SLACK: Final = 1.0
"""Standard deviations per day that are subtracted in the CUSUM: half of the smallest loss that is to be found quickly.

With 4 as the limit and as the maximum of a day, 0 to 2 % of streams of 200 days drawn from one month requested more
than two retrainings, and a loss of 3 standard deviations was found within 3 days in 87 to 94 % of trials. With 0.75, 5
and 3 it was 0 to 5 % of streams and 75 to 86 % of trials.
"""
MOST: Final = 4.0
"""Maximum of a day in the CUSUM, in standard deviations, so that no single day requests a retraining."""
DOUBLINGS: Final = 3
"""Rejected challengers after which the cool-down is not doubled any more."""
LOOKED_BACK: Final = 366
"""Maximum number of days, or longer periods, of performance that are read, the newest since the champion's training.
It bounds the cost.
"""


@dataclass(frozen=True)
class Rules:
    """When a retraining is requested; see `RetrainingSettings` in `ml_assets.declaration.retraining`."""

    drift_days: int
    drift_window_days: int
    performance_limit: float | None
    min_coverage: float
    label_growth: float | None
    floor_days: int | None
    cool_down_days: int
    max_per_day: int


@dataclass(frozen=True)
class Serving:
    """The current champion, as the rules need it.

    Attributes:
        as_of: its as-of day: the labels that it was judged on were known by the end of this day.
        daily_loss: how far the days of its test window fell short of the expected metric; None if that was not
            measured.
        promised: the deciding metric on its test window.
        rejections: challengers that the gate has rejected since its promotion, and rollbacks; see
            `promotion.log.rejections`.
        taken_back: the newest day that was predicted by the version that was rolled back to it; None if there is none.
        last_seen_day: the last day that it was trained or tuned on; None if only `as_of` is known.
    """

    version: str
    as_of: date
    rows: int
    daily_loss: DailyLoss | None
    promised: float | None
    rejections: int = 0
    taken_back: date | None = None
    last_seen_day: date | None = None


@dataclass(frozen=True)
class RetrainingFinding:
    """What one kind of facts shows.

    Attributes:
        day: the newest day that was read; None if there is none.
        is_judged: whether there were enough facts to judge. If not, `is_over` is False.
    """

    cause: Cause
    is_over: bool
    day: date | None
    sentence: str
    change: str
    figures: dict[str, float] = field(default_factory=dict)
    is_judged: bool = True


@dataclass(frozen=True)
class RetrainingDecision:
    """Whether to retrain now.

    Attributes:
        finding: the finding that requests it; None if there is none, or if it is postponed.
        number: number among the retrainings with this as-of day, from 1.
        is_held: whether a retraining is requested, but postponed.
    """

    finding: RetrainingFinding | None
    sentence: str
    number: int = 0
    is_held: bool = False


def drift_finding(days: Sequence[DriftSummary], champion: Serving, rules: Rules) -> RetrainingFinding:
    """Request a retraining if enough of the newest judged days are above their drift limits.

    A day with too few rows is not judged and does not count. If days were judged together, each row counts once: the
    next period back is the newest that ends before this one begins. Summaries of other champions are ignored.
    """
    own = sorted((it for it in days if it.model_version == champion.version), key=lambda it: it.day)
    judged = _apart([it for it in own if it.state != "not judged"])[-rules.drift_window_days :]
    over = [it for it in judged if it.is_over]
    is_over = len(over) >= rules.drift_days
    skipped = [it for it in own if it.state == "not judged" and (not judged or it.day > judged[0].day)]
    if not judged:
        sentence = f"Drift is not judged on any of {counted(len(own), 'day')} of this champion"
        sentence += f"; {own[-1].day}: {own[-1].sentence.rstrip('.')}" if own else ""
        return RetrainingFinding(
            "drift", is_over=False, day=None, sentence=f"{sentence}.", change="days with enough rows",
            figures={"days over": 0.0, "days judged": 0.0, "days not judged": float(len(own))}, is_judged=False,
        )  # fmt: skip
    sentence = f"{len(over)} of the last {len(judged)} judged days are over their drift limits"
    sentence += f"; {counted(len(skipped), 'day')} among them not judged" if skipped else ""
    sentence += f"; {judged[-1].day}: {judged[-1].sentence.rstrip('.')}"
    missing = rules.drift_days - len(over)
    change = (
        f"at most {rules.drift_days - 1} of the last {rules.drift_window_days} days over"
        if is_over
        else f"{missing} more day{'s' * (missing > 1)} over within {rules.drift_window_days} days"
    )
    figures = {"days over": float(len(over)), "days judged": float(len(judged)), "days not judged": float(len(skipped))}
    if judged[-1].weighted_excess_psi is not None:
        figures["weighted excess PSI"] = judged[-1].weighted_excess_psi
    return RetrainingFinding(
        "drift", is_over=is_over, day=judged[-1].day, sentence=f"{sentence}.", change=change, figures=figures
    )


def _apart(days: Sequence[DriftSummary]) -> list[DriftSummary]:
    """Return judged days that share no rows, oldest first. The newest day is always among them."""
    found: list[DriftSummary] = []
    for it in reversed(days):
        if not found or it.day < found[-1].first_day:
            found.append(it)
    return found[::-1]


def performance_finding(
    days: Sequence[PerformanceSummary], champion: Serving, rules: Rules, metric: Metric
) -> RetrainingFinding:
    """Request a retraining if the measured performance stays below the expected one.

    A day's loss is the metric that its scores led to expect, less the measured one. If the metric cannot be expected
    from scores, the one of the test window is used. Losses are divided by the standard deviation of the test window's
    days and summed in a one-sided CUSUM (Page 1954, Continuous Inspection Schemes): `SLACK` is subtracted each day, and
    the sum does not fall below zero. A day counts for at most `MOST`, so several days are needed. Days of other
    champions, and days with too few labels, are ignored.
    """
    if rules.performance_limit is None:
        return RetrainingFinding(
            "performance", is_over=False, day=None, sentence="Performance causes no retraining.", change="a limit"
        )
    own = sorted((it for it in days if it.model_version == champion.version), key=lambda it: it.day)
    matured = [it for it in own if is_matured(it, metric, rules.min_coverage)]
    waiting = len(own) - len(matured)
    usual = champion.daily_loss
    expected = [(it, it.expected_labelled.get(metric.name, champion.promised)) for it in matured]
    promises = [(it, promised) for it, promised in expected if promised is not None]
    if not promises or usual is None or usual.standard_deviation <= 0:
        why, change = "no day has enough labels", "days with labels"
        if own:
            why = f"none of {counted(len(own), 'day')} has enough labels"
        if matured:
            why, change = "the model's evaluation did not measure how much days differ", "an evaluation"
        return RetrainingFinding(
            "performance", is_over=False, day=None, sentence=f"Performance is not judged: {why}.", change=change,
            figures={"days": 0.0, "days without labels": float(waiting)}, is_judged=False,
        )  # fmt: skip
    total, losses = 0.0, []
    for it, promised in promises:
        losses.append(metric.gain(promised, it.metrics[metric.name]))
        # A day with far fewer rows than those of the test window deviates more by chance alone.
        deviation = usual.standard_deviation * math.sqrt(max(1.0, usual.rows_per_day / it.labelled))
        total = max(0.0, total + min((losses[-1] - usual.mean) / deviation, MOST) - SLACK)
    is_over = total > rules.performance_limit
    newest = matured[-1]
    sentence = (
        f"{metric.name} of {newest.day} is {newest.metrics[metric.name]:z.3f}; the CUSUM of its shortfall from the "
        f"expected value is {total:z.1f} standard deviations, {'over' if is_over else 'under'} "
        f"{rules.performance_limit:g}"
    )
    if waiting:
        sentence += f" ({counted(waiting, 'day')} without enough labels yet)"
    change = f"a CUSUM {'under' if is_over else 'over'} {rules.performance_limit:g}"
    return RetrainingFinding(
        "performance", is_over=is_over, day=newest.day, sentence=f"{sentence}.", change=change,
        figures={"cusum": total, "days": float(len(losses)), "days without labels": float(waiting)},
    )  # fmt: skip


def is_matured(day: PerformanceSummary, metric: Metric, coverage: float) -> bool:
    """Return whether enough labels of a day are known to use its metric.

    `coverage` is the share of the predictions that must have a label, not counting those that never get one.
    """
    possible = day.predictions - day.without_label
    return day.predictions > 0 and metric.name in day.metrics and day.labelled >= coverage * possible


def labels_finding(
    days: Sequence[PerformanceSummary], champion: Serving, history: Sequence[Retraining], rules: Rules
) -> RetrainingFinding:
    """Request a retraining if the labels of days after the last training would add enough rows.

    Days without predictions have no performance summary, so their labels are not counted. The summaries are of all
    champions. A rejected challenger of the history was trained on its labels too.
    """
    if rules.label_growth is None:
        return RetrainingFinding(
            "labels", is_over=False, day=None, sentence="New labels cause no retraining.", change="a share"
        )
    last = last_training(champion, history)
    later = [it for it in days if it.day > last]
    new = sum(it.labelled for it in later)
    rows = champion.rows + sum(it.labelled for it in days if champion.as_of < it.day <= last)
    growth = new / rows if rows else 0.0
    is_over = growth >= rules.label_growth
    wanted = math.ceil(rules.label_growth * rows)
    return RetrainingFinding(
        "labels",
        is_over=is_over,
        day=max((it.day for it in later), default=None),
        sentence=f"{new:,} labels of predicted days since {last}, compared with {rows:,} rows of the training: growth "
        f"{growth:.1%}, {'at least' if is_over else 'under'} {rules.label_growth:.0%}.",
        change="a training on them" if is_over else f"{wanted - new:,} more labels",
        figures={"new labels": float(new), "growth": growth},
    )


def floor_finding(today: date, champion: Serving, history: Sequence[Retraining], rules: Rules) -> RetrainingFinding:
    """Request a retraining if the last training is too long ago, whatever the other facts are."""
    if rules.floor_days is None:
        return RetrainingFinding(
            "floor", is_over=False, day=today, sentence="There is no maximum age.", change="floor_days"
        )
    last = last_training(champion, history)
    age = (today - last).days
    is_over = age >= rules.floor_days
    return RetrainingFinding(
        "floor",
        is_over=is_over,
        day=today,
        sentence=f"The last training is as of {last}, {counted(age, 'day')} before {today}; the maximum age is "
        f"{counted(rules.floor_days, 'day')}.",
        change="a training" if is_over else f"{rules.floor_days - age} more days",
        figures={"days since training": float(age)},
    )


def last_training(champion: Serving, history: Sequence[Retraining]) -> date:
    """Return the as-of day of the last training, whatever its result."""
    return max([champion.as_of, *(it.as_of for it in history)])


def decide(
    findings: Sequence[RetrainingFinding],
    *,
    day: date,
    champion: Serving,
    history: Sequence[Retraining],
    rules: Rules,
    busy: str | None = None,
) -> RetrainingDecision:
    """Return whether to retrain as of a day.

    There is one retraining at a time, and none within the cool-down. The cool-down, in days of data, begins at the last
    training, or when a champion was rolled back. It is doubled for each challenger that the gate has rejected since the
    champion's promotion, at most `DOUBLINGS` times, so that a retraining that does not help is not repeated over and
    over. The first finding that requests a retraining is the cause. `busy` is what is already running, as text.
    """
    requested = next((it for it in findings if it.is_over), None)
    if requested is None:
        return RetrainingDecision(None, " ".join(it.sentence for it in findings))
    if busy:
        return RetrainingDecision(None, f"{requested.sentence} It is postponed: {busy}.", is_held=True)
    same_day = [it for it in history if it.as_of == day]
    last = last_training(champion, history)
    since = max(last, champion.taken_back or last)
    wait = rules.cool_down_days * 2 ** min(champion.rejections, DOUBLINGS)
    if len(same_day) >= rules.max_per_day:
        done = counted(len(same_day), "retraining")
        held = f"{requested.sentence} It is postponed: {done} as of {day}, and max_per_day allows {rules.max_per_day}."
        return RetrainingDecision(None, held, is_held=True)
    if (day - since).days < wait:
        until = since + timedelta(days=wait)
        began = f"the last training is as of {last}" if since == last else f"a champion was rolled back on {since}"
        refused = f", {_doubled(champion.rejections)}" if champion.rejections else ""
        return RetrainingDecision(
            None,
            f"{requested.sentence} It is postponed until {until}: {began}, and the cool-down is {wait} days{refused}.",
            is_held=True,
        )
    return RetrainingDecision(requested, requested.sentence, number=len(same_day) + 1)


def _doubled(rejections: int) -> str:
    """Return how often the cool-down is doubled for rejected challengers, of which there is at least one."""
    times = min(rejections, DOUBLINGS)
    often = {1: "once", 2: "twice"}.get(times, f"{times} times")
    return f"doubled {often} for {counted(rejections, 'rejected challenger')}"
