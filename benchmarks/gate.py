"""How often the gate errs: simulated challengers of known quality, compared and judged as real ones are.

    python -m benchmarks.gate [--runs 2000]

Not here: training. Scores are drawn, so that the truth is known. Every run has some days of 50 rows. Two models see the
same signal and each adds noise of its own. In the settings other than "independent", the day moves the target of all
rows, and for each model alone it moves the scores and scales the noise, as weather does that one model reads better
than the other. Between days, each of these effects has a correlation of 0.5 with that of the day before.

Of three challengers, one has as much noise as the champion, one more and one less. The margin is what the worse one
loses on average over all runs of a setting: it is worse by exactly the margin. Bars: superiority promotes the equal one
and non-inferiority the worse one in at most two points more than the stated rate, 95 % intervals cover the true
difference in at least 93 %, and independent days decide in most runs. Fifty generations of challengers that are each
slightly worse lose at most the margin in total, but for the stated rate of all attempts and two points.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from statistics import fmean, median

# The matrices are small: threads of two processes would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.evaluation import Comparison, EvaluationSummary
from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.decisions import Promotion
from ml_assets.logic.evaluation.jackknife import Clusters, compare_models
from ml_assets.logic.evaluation.metrics import METRICS, find_metric
from ml_assets.logic.promotion.comparisons import ERROR_RATE, FIRST, Attempt, ChampionRule
from ml_assets.logic.promotion.gate import GateLimits, Verdict, judge
from ml_assets.logic.promotion.log import GATE, anchor, attempt_number

Vector = NDArray[np.float64]

TASKS: Mapping[str, Task] = {"roc_auc": "binary", "log_loss": "binary", "rmse": "regression"}
SETTINGS = ("independent", "alike within a day", "alike between days")
DAYS, ROWS_A_DAY = (5, 8, 15, 30, 60), 50
NOISES = {"champion": 0.8, "equal": 0.8, "worse": 0.9, "better": 0.4}
DAY_SHIFT, DAY_SCALE, DAY_TARGET, CORRELATION = 0.4, 0.4, 0.5, 0.5
POINTS, COVERAGE, DECIDED = 0.02, 0.93, 0.5
STATED = 1 - FIRST.confidence

GENERATIONS, LIVES, WINDOW, STEP, FIRST_DAY = 50, 200, 28, 7, date(2024, 1, 1)
LOSS, DAY_NOISE = 0.3, 0.4
"""What a generation is worse by than the one before, and the noise of a model's day, in units of the margin."""


# ---------------------------------------------------------------- error rates, coverage and power


@dataclass(frozen=True)
class Outcome:
    """What came of all runs of a metric, a setting and a number of days."""

    metric: str
    setting: str
    days: int
    equal: float
    worse: float
    coverage: float
    decided: float
    power: float
    gain: float

    @property
    def broken(self) -> list[str]:
        """Which bars are missed, in words."""
        where = f"{self.metric}, {self.setting}, {self.days} days: "
        bars = (
            (self.equal <= STATED + POINTS, f"superiority promotes {self.equal:.1%} of equal challengers"),
            (self.worse <= STATED + POINTS, f"non-inferiority promotes {self.worse:.1%} of worse challengers"),
            (self.coverage >= COVERAGE, f"intervals cover {self.coverage:.1%}"),
            (self.setting != "independent" or self.decided >= DECIDED, f"decided in {self.decided:.1%} of runs"),
        )
        return [where + sentence for holds, sentence in bars if not holds]


def measure(metric: str, setting: str, days: int, *, runs: int, seed: int) -> Outcome:
    """Compare and judge the three challengers in many runs."""
    random = np.random.default_rng([seed, list(TASKS).index(metric), SETTINGS.index(setting), days])
    compared = [dict(_compared(metric, setting, days, random)) for _ in range(runs)]
    truth = {who: fmean(run[who].difference.value for run in compared) for who in ("worse", "better")} | {"equal": 0.0}
    decided = [(who, run[who]) for run in compared for who in ("equal", "worse") if run[who].standard_error is not None]
    covered = sum((it.difference.low or 0) <= truth[who] <= (it.difference.high or 0) for who, it in decided)

    def promoted(who: str, rule: ChampionRule, margin: float = 0.0) -> float:
        return fmean(_judged(metric, run[who], rule, margin).promote for run in compared)

    return Outcome(
        metric,
        setting,
        days,
        equal=promoted("equal", "superiority"),
        worse=promoted("worse", "non_inferiority", -truth["worse"]),
        coverage=covered / max(len(decided), 1),
        decided=len(decided) / (2 * runs),
        power=promoted("better", "superiority"),
        gain=truth["better"],
    )


def _compared(metric: str, setting: str, days: int, random: np.random.Generator) -> Iterator[tuple[str, Comparison]]:
    """Yield each challenger beside the champion on the same rows."""
    shifts, scales, target = (_day_effects(setting, days, random, count) for count in (len(NOISES), len(NOISES), 1))
    signal, drawn = random.normal(size=(days, ROWS_A_DAY)), random.normal(size=(days, ROWS_A_DAY))
    level = signal + DAY_TARGET * target[0][:, None]
    truth = level + drawn
    if TASKS[metric] == "binary":
        truth = (random.random(level.shape) < 1 / (1 + np.exp(1 - level))).astype(np.float64)
    clusters = Clusters.of_days(np.repeat(np.arange(days), ROWS_A_DAY))
    evidence = clusters.evidence(METRICS[metric], truth.ravel(), signal.ravel())
    measured = {}
    for (who, noise), shift, scale in zip(NOISES.items(), shifts, scales, strict=True):
        size = noise * np.exp(DAY_SCALE * scale - DAY_SCALE**2 * float(scale.any()))
        scores = signal + size[:, None] * random.normal(size=signal.shape) + DAY_SHIFT * shift[:, None]
        measured[who] = without_each_day(metric, truth, scores)
    value, left_out = measured["champion"]
    for who in ("equal", "worse", "better"):
        own, without = measured[who]
        yield (
            who,
            compare_models(
                METRICS[metric],
                against="champion",
                values=(own, value),
                left_out=(without, left_out),
                evidence=evidence,
            ),
        )


def _day_effects(setting: str, days: int, random: np.random.Generator, count: int) -> Vector:
    """Return effects of the days with a variance of 1; none where rows are independent."""
    if setting == SETTINGS[0]:
        return np.zeros((count, days))
    effects = random.normal(size=(count, days))
    if setting == SETTINGS[2]:
        for day in range(1, days):
            effects[:, day] = CORRELATION * effects[:, day - 1] + (1 - CORRELATION**2) ** 0.5 * effects[:, day]
    return effects


def without_each_day(metric: str, truth: Vector, scores: Vector) -> tuple[float, Vector]:
    """Return a metric on all rows and without each day, from sums by day: what `leave_one_out` gives, much faster."""
    if metric == "roc_auc":
        return _auc_without_each_day(truth, scores)
    losses = (truth - scores) ** 2
    if metric == "log_loss":
        losses = np.log1p(np.exp(np.where(truth == 1, 1 - scores, scores - 1)))
    by_day, size = losses.sum(axis=1), losses.shape[1]
    values = np.append(by_day.sum(), by_day.sum() - by_day) / np.append(
        losses.size, np.full(len(by_day), losses.size - size)
    )
    values = np.sqrt(values) if metric == "rmse" else values
    return float(values[0]), values[1:]


def _auc_without_each_day(truth: Vector, scores: Vector) -> tuple[float, Vector]:
    """Count the pairs in the right order by the day of the positive and that of the negative."""
    days, rows = truth.shape
    order = np.argsort(scores, axis=None)
    is_positive, day = truth.ravel()[order] == 1, np.repeat(np.arange(days), rows)[order]
    each = np.arange(days)[:, None]
    below = np.cumsum(day[~is_positive] == each, axis=1, dtype=np.float64)
    below = np.hstack([np.zeros((days, 1)), below])[:, np.cumsum(~is_positive)[is_positive]]
    pairs = (day[is_positive] == each).astype(np.float64) @ below.T
    positives, negatives = truth.sum(axis=1), (1 - truth).sum(axis=1)
    right = pairs.sum() - pairs.sum(axis=0) - pairs.sum(axis=1) + pairs.diagonal()
    left_out = right / ((positives.sum() - positives) * (negatives.sum() - negatives))
    return float(pairs.sum() / (positives.sum() * negatives.sum())), left_out


def _judged(
    metric: str,
    comparison: Comparison,
    rule: ChampionRule,
    margin: float,
    *,
    attempt: Attempt = FIRST,
    **changes: object,
) -> Verdict:
    known = {"against_champion": comparison, "champion_version": "champion", "model_version": "challenger", **changes}
    summary = EvaluationSummary.model_validate(
        {
            "model": "simulated", "training_set_version": "", "task": TASKS[metric], "metric": metric,
            "rows": comparison.rows, "metrics": {}, "baselines": (), "against_baselines": (),
            "last_seen_day": FIRST_DAY, **known,
        }
    )  # fmt: skip
    return judge(summary, GateLimits(margin=margin, rule=rule), attempt=attempt)


# ---------------------------------------------------------------- fifty generations


def live(seed: int, *, has_anchor: bool) -> float:
    """Return what fifty generations of challengers, each slightly worse than the champion, lose in margins.

    Each week a challenger is compared with champion and anchor on the last four weeks.
    """
    random = np.random.default_rng([seed, GENERATIONS])
    log, quality, daily = [_entry(1, "0", is_anchor=True)], {"0": 0.0}, {"0": _days_of(0.0, random)}
    champion = "0"
    for generation in range(1, GENERATIONS + 1):
        challenger, first = str(generation), STEP * generation
        quality[challenger] = quality[champion] - LOSS
        daily[challenger] = _days_of(quality[challenger], random)
        test_days = (FIRST_DAY + timedelta(first), FIRST_DAY + timedelta(first + WINDOW - 1))
        attempt = Attempt(attempt_number(log, challenger, test_days))
        against = {
            who: _by_day(daily[challenger][first : first + WINDOW], daily[who or ""][first : first + WINDOW])
            for who in (champion, anchor(log))
        }
        changes: dict[str, object] = {"champion_version": champion, "model_version": challenger}
        if has_anchor and len(against) > 1:
            changes |= {"anchor_version": anchor(log), "against_anchor": against[anchor(log)]}
        verdict = _judged("log_loss", against[champion], "non_inferiority", 1.0, attempt=attempt, **changes)
        champion = challenger if verdict.promote else champion
        found = {"is_anchor": verdict.is_anchor, "attempt": verdict.attempt, "test_days": test_days}
        log.append(_entry(generation + 1, challenger, champion=champion, **found))
    return -quality[champion]


def _days_of(quality: float, random: np.random.Generator) -> Vector:
    """Return a model's figure of each day: its quality, and noise of its own."""
    noise: Vector = _day_effects(SETTINGS[2], WINDOW + STEP * (GENERATIONS + 1), random, 1)[0]
    return np.full_like(noise, quality) + DAY_NOISE * noise


def _by_day(one: Vector, other: Vector) -> Comparison:
    """Compare two models by their daily figures, of which more is better; a loss is the negative of it."""
    figures = [(-float(it.mean()), -(it.sum() - it) / (len(it) - 1)) for it in (one, other)]
    (value, left_out), (other_value, other_left_out) = figures
    return compare_models(
        METRICS["log_loss"], against="other", values=(value, other_value), left_out=(left_out, other_left_out),
        evidence=Clusters.of_days(np.arange(len(one))).everything,
    )  # fmt: skip


def _entry(number: int, challenger: str, *, champion: str | None = None, **changes: object) -> Promotion:
    champion = champion or challenger
    return Promotion.model_validate(
        {
            "number": number, "model": "simulated", "champion": champion, "challenger": challenger, "reasons": ("",),
            "action": "promote" if champion == challenger else "reject", "decided_by": GATE,
            "decided_at": datetime(2024, 1, 1, tzinfo=UTC), **changes,
        }
    )  # fmt: skip


# ---------------------------------------------------------------- the command


def main() -> int:
    """Simulate every setting, print what came of it, and return 1 if a bar is missed."""
    arguments = _arguments()
    begun, wanted = time.monotonic(), list(itertools.product(TASKS, SETTINGS, DAYS))
    found: dict[tuple[str, str, int], Outcome] = {}
    with ProcessPoolExecutor(arguments.processes) as pool:
        lives = {
            has_anchor: pool.map(partial(live, has_anchor=has_anchor), range(arguments.lives), chunksize=10)
            for has_anchor in (True, False)
        }
        pending = {pool.submit(measure, *it, runs=arguments.runs, seed=arguments.seed): it for it in wanted}
        for done in as_completed(pending):
            found[pending[done]] = done.result()
            print(f"\r{len(found)} of {len(wanted)} settings", end="", file=sys.stderr, flush=True)
        lost = {has_anchor: list(each) for has_anchor, each in lives.items()}
    print(file=sys.stderr)
    print("\n".join(_table(arguments.runs, [found[it] for it in wanted])))
    creep, broken = _generations(lost)
    print(creep)
    broken += [it for outcome in found.values() for it in outcome.broken]
    print("\n".join(f"missed: {it}" for it in broken) or "every bar is kept")
    print(f"{time.monotonic() - begun:.0f} s")
    return int(bool(broken))


def _generations(lost: Mapping[bool, Sequence[float]]) -> tuple[str, list[str]]:
    beyond = fmean(it > 1 for it in lost[True])
    sentence = (
        f"{GENERATIONS} generations, each worse by {LOSS:g} margins than the champion, {len(lost[True])} times: "
        f"they lose {median(lost[True]):.1f} margins (median; {max(lost[True]):.1f} at most), more than one in "
        f"{beyond:.1%}. Without the anchor: {median(lost[False]):.1f} margins."
    )
    return sentence, [] if beyond <= ERROR_RATE + POINTS else [f"generations lose more than the margin in {beyond:.1%}"]


def _table(runs: int, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield a Markdown table with a row for each metric and setting, and the figures by days in each cell."""
    by_days = ", ".join(str(it) for it in DAYS)
    yield f"{runs:,} runs each; in each cell those of {by_days} days, in %."
    yield ""
    yield "| metric | days | equal, superiority | worse, non-inferiority | coverage | decided | power (gain) |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for (metric, setting), group in itertools.groupby(outcomes, key=lambda it: (it.metric, it.setting)):
        each = list(group)
        cells = [
            ", ".join(f"{100 * getattr(it, name):.{digits}f}" for it in each)
            for name, digits in (("equal", 1), ("worse", 1), ("coverage", 1), ("decided", 0), ("power", 0))
        ]
        title = find_metric(metric, TASKS[metric]).title
        yield f"| {title} | {setting} | {' | '.join(cells)} ({fmean(it.gain for it in each):.3f}) |"
    yield ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2_000, help="of each setting (default: %(default)s)")
    parser.add_argument("--lives", type=int, default=LIVES, help="of fifty generations (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=2, help="at once (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
