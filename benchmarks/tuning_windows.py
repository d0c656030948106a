"""How many validation windows should judge the trials of a search, and how large should its space be?

    python -m benchmarks.tuning_windows [--seeds 4] [--rare] [loans load ...]

Tables with a time of `benchmarks.foreign_tables`, without their leaks. The first 65 % of the rows are train rows, the
next 15 % the validation window. Two searches of the same trials differ only in the number of validation windows. Each
best model is trained again with the validation rows. Both are measured with the deciding metric on further rows of the
same process (of the load by hour: on its last 20 %). The table has the mean gain of three windows, in percent of the
metric with one, with its standard error over the seeds. Above 0, three windows gave the better model.

With `--rare`, both searches have one window, and differ in their space: that of the number of train rows, or that of 20
times the rows of the rarer class, if these are fewer.

Ends with 1 if the second search is worse by more than two standard errors on any table.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

import numpy as np
import polars as pl

from benchmarks.choices import one_of
from benchmarks.foreign.rivals import measured
from benchmarks.foreign.tables import TABLES, ForeignTable
from benchmarks.page_table import table_lines
from ml_assets.contracts.artifacts.training import Feature, Split, Task, TrainingSet, TrainingSetSummary, Window
from ml_assets.contracts.boosting_parameters import Conditions, Range, space_of
from ml_assets.contracts.objective import Objective
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.model import fit, refit
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import tune

FEW_ROWS: Final = 20_000
LATER: Final = 100_000
WINDOWS, SPACES = ("one window", "three windows"), ("space of all rows", "space of the rarer class")


@dataclass(frozen=True)
class Case:
    """How a table is learned, as `new` declares it."""

    task: Task
    deciding: str
    rated_by: str
    objective: Objective | None = None


CASES: Final = {
    "loans": Case("binary", "roc_auc", "log_loss"),
    "contracts": Case("binary", "roc_auc", "log_loss"),
    "payments": Case("binary", "average_precision", "log_loss"),
    "crops": Case("multiclass", "multi_log_loss", "multi_log_loss"),
    "claims": Case("regression", "mae", "mae", Objective(loss="mae", transform="log1p")),
    "load": Case("regression", "rmse", "rmse"),
}


def prepared(table: ForeignTable) -> pl.DataFrame:
    """Return the honest columns, hour and weekday as features, with the times and the target."""
    at = table.rows[str(table.time)].cast(pl.Datetime("us"))
    target = table.rows[table.target]
    features = {
        f"x{n}": it if it.dtype == pl.String else (at - it.cast(pl.Datetime("us"))).dt.total_hours() / 24
        if it.dtype.is_temporal() else it.cast(pl.Float64)
        for n, it in enumerate(table.rows[name] for name in table.honest)
    }  # fmt: skip
    return pl.DataFrame({
        **features, "hour": at.dt.hour().cast(pl.Float64), "weekday": at.dt.weekday().cast(pl.Float64),
        "at": at, "day": at.dt.date(), "target": target if table.positive is None else target == table.positive,
    })  # fmt: skip


def training_set(rows: pl.DataFrame, case: Case) -> TrainingSet:
    """Return rows in the order of time as train rows and, of the last days, validation rows."""
    begins = rows["day"][round(rows.height * 0.65 / 0.8)]
    split = pl.when(pl.col("day") < begins).then(pl.lit("train")).otherwise(pl.lit("validation"))
    parted = rows.with_columns(split=split)
    names: tuple[Split, Split] = ("train", "validation")
    days = {it: parted.filter(split=it)["day"] for it in names}
    windows = tuple(Window(split=it, first_day=of[0], last_day=of[-1], rows=len(of)) for it, of in days.items())
    features = tuple(
        Feature(name=it, dtype=str(dtype), is_categorical=dtype == pl.String)
        for it, dtype in rows.schema.items() if it not in {"at", "day", "target"}
    )  # fmt: skip
    return TrainingSet(
        parted,
        TrainingSetSummary(
            model="drawn", task=case.task, target="target", key=("at",), event_time="at", prediction_time="at",
            known_time="at", as_of=windows[-1].last_day, features=features, windows=windows, excluded_rows={},
            classes=tuple(rows["target"].unique().sort()) if case.task == "multiclass" else (),
            objective=case.objective,
        ),
    )  # fmt: skip


def reached(
    table: TrainingSet, later: pl.DataFrame, case: Case, *, windows: int = 1, space: Mapping[str, Range] | None = None
) -> float:
    """Return the deciding metric, on the later rows, of the best model of a search."""
    few = table.rows.height <= FEW_ROWS
    search = Search(
        features=tuple(it.name for it in table.summary.features), metric=case.rated_by, trials=24 if few else 12,
        seed=1, rounds=1_000, early_stopping_rounds=30, fixed={"feature_fraction": 1.0}, windows=windows,
    )  # fmt: skip
    tuned, conditions = tune(table, search, space=space).best, Conditions(1, 2)
    scores = predict(refit(fit(table, tuned, conditions), table, tuned, conditions), later, threads=2)
    truth, guess = later["target"], scores.to_series()
    if case.task == "multiclass":
        truth = truth.replace_strict({name: code for code, name in enumerate(table.summary.classes)})
        guess = scores.select(pl.concat_list(f"score_{name}" for name in table.summary.classes)).to_series()
    return measured(case.deciding, truth.cast(pl.Float64).to_numpy(), np.array(guess.to_list(), float))


def compared(name: str, seeds: int, what: tuple[str, str]) -> tuple[list[float], list[float]]:
    """Return the metric of both searches, of each seed."""
    entry, case, found = TABLES[name], CASES[name], []
    for seed in range(11, 11 + seeds):
        rows = prepared(entry.made(np.random.default_rng(seed), entry.rows))
        known = rows.head(round(entry.rows * 0.8))
        later = (
            rows.tail(entry.rows - known.height)
            if name == "load"
            else prepared(entry.made(np.random.default_rng(1_000 + seed), min(8 * entry.rows, LATER)))
        )
        table = training_set(known, case)
        by_rows = space_of(table.part("train").height) if what == SPACES else None
        before = reached(table, later, case, space=by_rows)
        found.append([before, reached(table, later, case, windows=1 if what == SPACES else 3)])
        print(name, seed, *found[-1], file=sys.stderr)
    first, second = zip(*found, strict=True)
    return [*first], [*second]


def outcomes(names: list[str], seeds: int, what: tuple[str, str]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the cells of each table, and whether the second search is worse."""
    for name in names:
        first, second = compared(name, seeds, what)
        sign = 1 if CASES[name].deciding in {"roc_auc", "average_precision"} else -1
        gains = [sign * (after - before) / before for before, after in zip(first, second, strict=True)]
        gain, error = fmean(gains), stdev(gains) / seeds**0.5
        figures = (f"{fmean(first):.4g}", f"{fmean(second):.4g}", f"{gain:+.1%}", f"{error:.1%}")
        yield (name, f"{TABLES[name].rows:,}", CASES[name].deciding, *figures), gain < -2 * error


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=[*CASES], type=one_of([*CASES]), help="which (default: all)")
    parser.add_argument("--seeds", type=int, default=4, help="draws of each table (at least 2)")
    parser.add_argument("--rare", action="store_true", help="compare the spaces of the search instead")
    arguments = parser.parse_args()
    what = SPACES if arguments.rare else WINDOWS
    found = [*outcomes(arguments.tables, max(2, arguments.seeds), what)]
    head = ("table", "rows", "metric", *what, "gain", "standard error")
    print("\n".join(table_lines(head, [cells for cells, _ in found])))
    return int(any(is_worse for _, is_worse in found))


if __name__ == "__main__":
    sys.exit(main())
