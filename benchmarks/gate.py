"""How often the gate errs: simulated challengers of known quality, compared and judged as the real ones are.

Not here: training. Scores are drawn, so that the truth is known.

    python -m benchmarks.gate

A trial has 40 days of 50 rows. The day moves the share of positives for everybody, and each model's scores up or down
for it alone, as weather does that one model reads better than the other. Models of equal quality differ in their
noise. Better and worse ones have less or more of it, so much that ROC AUC over endless days differs as the row says;
the standard error is that of the difference between equal ones over all trials.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import stdev

import numpy as np
from numpy.typing import NDArray

from ml_assets.contracts.artifacts import Comparison, EvaluationSummary
from ml_assets.logic.champion import ChampionRule, judge
from ml_assets.logic.jackknife import Clusters, compare, leave_one_out
from ml_assets.logic.metrics import METRICS

AUC = METRICS["roc_auc"]
DAYS, ROWS_A_DAY = 40, 50
NOISE, DAY_NOISE, DAY_EFFECT, BASE = 1.0, 0.8, 0.5, -1.5


@dataclass(frozen=True)
class Population:
    """Rows grouped by day with the signal that both models see, and the noise that each adds."""

    truth: NDArray[np.float64]
    days: NDArray[np.int64]
    signal: NDArray[np.float64]
    noises: tuple[NDArray[np.float64], NDArray[np.float64]]

    @classmethod
    def draw(cls, seed: int, days: int = DAYS) -> "Population":
        """Draw some days."""
        random = np.random.default_rng(seed)
        day = np.repeat(np.arange(days), ROWS_A_DAY)
        signal = random.normal(size=len(day))
        chance = 1 / (1 + np.exp(-(BASE + signal + DAY_EFFECT * random.normal(size=days)[day])))
        truth = (random.random(len(day)) < chance).astype(np.float64)
        one, other = (
            random.normal(size=len(day)) + DAY_NOISE * random.normal(size=days)[day] for _ in ("challenger", "champion")
        )
        return cls(truth, day, signal, (one, other))

    def scores(self, which: int, noise: float = NOISE) -> NDArray[np.float64]:
        """Return what one of the models gives: logistic, with so much of its noise."""
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-(BASE + self.signal + noise * self.noises[which])))
        return scores


def noise_for(difference: float) -> float:
    """Return the noise with which a model's AUC over endless days differs so much from one of the usual noise."""
    endless = Population.draw(1, days=4_000)
    wanted = AUC.function(endless.truth, endless.scores(0)) + difference
    low, high = 0.0, 4 * NOISE
    for _ in range(20):
        middle = (low + high) / 2
        better = AUC.function(endless.truth, endless.scores(0, middle)) > wanted
        low, high = (middle, high) if better else (low, middle)
    return low


def trial(seed: int, *, noise: float) -> Comparison:
    """Return a challenger of so much noise beside a champion of the usual one, as an evaluation keeps it."""
    rows = Population.draw(seed)
    measures = {0: AUC.measure(rows.truth, rows.scores(0, noise)), 1: AUC.measure(rows.truth, rows.scores(1))}
    clusters, everything = Clusters.of_days(rows.days), np.ones(len(rows.truth))
    left_out = leave_one_out(measures, clusters)
    return compare(
        AUC,
        against="champion",
        values=(measures[0](everything), measures[1](everything)),
        left_out=(left_out[0], left_out[1]),
        clusters=clusters,
    )


def promoted(comparison: Comparison, rule: ChampionRule, margin: float) -> bool:
    """Return whether the gate lets the challenger in."""
    summary = EvaluationSummary(
        model="simulated", model_version="challenger", training_set_version="", task="binary", metric="roc_auc",
        rows=comparison.rows, metrics={}, baselines=(), against_baselines=(), against_champion=comparison,
        champion_version="champion",
    )  # fmt: skip
    return judge(summary, rule=rule, margin=margin).promote


def share(promotions: Sequence[bool]) -> str:
    """Return a share with its 95 % interval (Wilson 1927)."""
    n, z = len(promotions), 1.96
    rate = sum(promotions) / n
    middle = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (rate * (1 - rate) / n + z**2 / (4 * n**2)) ** 0.5
    return f"{rate:6.1%} [{middle - half:5.1%}, {middle + half:6.1%}]"


def main() -> None:
    """Simulate equal, better and worse challengers, and print how many each rule lets in."""
    arguments = _arguments()
    begun = time.monotonic()
    with ProcessPoolExecutor(arguments.processes) as pool:

        def simulated(difference: float, first: int) -> list[Comparison]:
            one = partial(trial, noise=noise_for(difference) if difference else NOISE)
            return list(pool.map(one, range(first, first + arguments.trials), chunksize=20))

        equal = simulated(0.0, 10_000)
        error = stdev(found.difference.value for found in equal)
        better_by_half, better = simulated(2.5 * error, 20_000), simulated(3.0 * error, 30_000)
        worse = simulated(-error, 40_000)
    print(f"{arguments.trials} trials each of {DAYS} days of {ROWS_A_DAY} rows.")
    print(f"The difference of equal models has a standard error of {error:.4f}.")
    print(f"{'rule':<17}{'challenger':<26}{'margin':<9}{'gate lets in':<25}bar")
    _print(equal, "equal", "superiority", margin=0.5 * error, error=error, bar="at most 5 %")
    _print(equal, "equal", "superiority", margin=error, error=error, bar="at most 5 %")
    _print(
        better_by_half, "better by margin + 2 SE", "superiority", margin=0.5 * error, error=error, bar="80 % or more"
    )
    _print(better, "better by margin + 2 SE", "superiority", margin=error, error=error, bar="80 % or more")
    _print(worse, "worse by margin", "non_inferiority", margin=error, error=error, bar="at most 5 %")
    _print(equal, "equal", "non_inferiority", margin=error, error=error)
    _print(equal, "equal", "non_inferiority", margin=3 * error, error=error)
    print(f"{time.monotonic() - begun:.0f} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1_000, help="of each kind (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="at once (default: %(default)s)")
    return parser.parse_args()


def _print(
    trials: Sequence[Comparison], name: str, rule: ChampionRule, *, margin: float, error: float, bar: str = ""
) -> None:
    gate = share([promoted(each, rule, margin) for each in trials])
    print(f"{rule:<17}{name:<26}{f'{margin / error:g} SE':<9}{gate:<25}{bar}")


if __name__ == "__main__":
    main()
