"""Which metric should rate the trials of a search for two classes: the deciding one, or the log loss?

    python -m benchmarks.tuning_metric [--seeds 8]

A process with thresholds, products and noise draws tables of several sizes. On each, two searches of 24 trials differ
in the metric that rates a trial and stops it early. Each best model is trained again with the validation rows, and both
are measured with the deciding metric on 20,000 further rows. The table has the mean difference, log loss minus deciding
metric, with its standard error over the seeds. Above 0, rating by the log loss gave the better model.

Ends with 1 if the log loss is worse by more than two standard errors at any size.
"""

import argparse
import sys
from collections.abc import Iterator
from statistics import fmean, stdev
from typing import Final

import numpy as np
import polars as pl

from benchmarks.drawn_table import training_set
from benchmarks.page_table import table_lines
from ml_assets.contracts.artifacts.training import TrainingSet
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.logic.evaluation.closeness import metric_on_test_rows
from ml_assets.logic.training.model import fit, refit
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import tune

# The deciding metric, the share of positives with which it is used, and the rows of the tables.
CASES: Final = {"roc_auc": (0.3, (300, 1_250, 6_250)), "average_precision": (0.03, (6_250, 20_000))}
TRIALS: Final = 24
LATER: Final = 20_000
FEATURES: Final = 12
VALIDATION_SHARE: Final = 0.15
HEAD: Final = ("deciding metric", "rows", "log loss minus deciding metric", "standard error")


def drawn(rows: int, positives: float, seed: int) -> TrainingSet:
    """Return a table with validation rows, whose test rows are the later ones."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((rows + LATER, FEATURES))
    strength = x[:, 0] + np.where(x[:, 1] > 0.5, x[:, 2], -0.3) + 0.7 * x[:, 3] * x[:, 4] + np.sin(2 * x[:, 5])
    strength += 1.5 * draw.logistic(size=len(x))
    table = pl.DataFrame(x, schema=[f"x{n}" for n in range(FEATURES)]).with_columns(
        target=pl.Series(strength > np.quantile(strength, 1 - positives))
    )
    validation = round(rows * VALIDATION_SHARE)
    return training_set(table, {"train": rows - validation, "validation": validation, "test": LATER})


def reached(table: TrainingSet, rated_by: str, deciding: str, seed: int) -> float:
    """Return the deciding metric, on the later rows, of the best model of a search."""
    search = Search(
        features=tuple(it.name for it in table.summary.features), metric=rated_by, trials=TRIALS, seed=seed, rounds=1000
    )
    tuned, conditions = tune(table, search).best, Conditions(seed, search.threads)
    return metric_on_test_rows(refit(fit(table, tuned, conditions), table, tuned, conditions), table, deciding)


def compared(seeds: int) -> Iterator[tuple[str, int, float, float]]:
    """Yield deciding metric, rows, mean difference and its standard error."""
    for metric, (positives, sizes) in CASES.items():
        for rows in sizes:
            found = []
            for seed in range(seeds):
                table = drawn(rows, positives, seed)
                found.append(reached(table, "log_loss", metric, seed) - reached(table, metric, metric, seed))
            yield metric, rows, fmean(found), stdev(found) / seeds**0.5


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="tables of each size (at least 2)")
    seeds = max(2, parser.parse_args().seeds)
    found = [*compared(seeds)]
    cells = [(metric, f"{rows:,}", f"{mean:+.4f}", f"{error:.4f}") for metric, rows, mean, error in found]
    print("\n".join(table_lines(HEAD, cells)))
    return int(any(mean < -2 * error for *_, mean, error in found))


if __name__ == "__main__":
    sys.exit(main())
