"""A table that drifts: what a random-split leaderboard promises, what ours promises, and what came later.

    python -m benchmarks.head_to_head [--seeds 3] [--write]

Used cars are sold over three years. Prices rise and the taste for engines changes, and cars of one week's delivery
come from one fleet. At the end of the second year two models are chosen from the same rows. The leaderboard does what
one-click AutoML does: random 5-fold cross-validation, several configurations, the best mean wins, trained on all rows.
Ours is split by time and searched, trained and measured by the engine: its promise is the metric on the last weeks
before the decision, which neither its trees nor its parameters have seen. Both then meet the next twelve months; once
more, ours is trained again when each stretch of them begins.
`--write` writes the table to docs/head-to-head.md.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.page_table import table_lines, write_table
from ml_assets.contracts.artifacts.training import Feature, TrainingSet
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.frames import ModelColumns
from ml_assets.logic.tables.training_set import assemble_training_set, windows_as_of
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.importances import measure_importances
from ml_assets.logic.training.model import fit, refit
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import tune

PAGE: Final = Path(__file__).parent.parent / "docs" / "head-to-head.md"
HEAD: Final = ("rmse of the price", "random-split leaderboard", "split by time", "split by time, trained again")
COLUMNS: Final = (0, 1, 2)
FIRST: Final = date(2021, 1, 1)
DECIDED: Final = 730
LATER: Final = (30, 90, 180, 365)
ROWS: Final = 8_000
Vector = NDArray[np.float64]
FEATURES: Final = ("mileage", "age", "power", "engine", "delivery")


@dataclass(frozen=True)
class Course:
    """The promise of a model, and its metric in each stretch of days after the decision."""

    promised: float
    later: tuple[float, ...]


def main() -> int:
    """Print the table: means over the seeds."""
    arguments = _arguments()
    courses = [(leaderboard(rows := cars(seed)), *by_time(rows)) for seed in range(arguments.seeds)]
    lines = table_lines(HEAD, table_rows(courses))
    print("\n".join(lines))
    if arguments.write:
        write_table(PAGE, lines)
    return 0


def cars(seed: int, rows: int = ROWS) -> pl.DataFrame:
    """Return cars that were sold over three years, in the order of time."""
    random = np.random.default_rng(seed)
    day = np.sort(random.integers(0, 3 * 365, rows))
    mileage, age = random.gamma(2, 40, rows).round(), random.integers(1, 15, rows)
    power, engine = random.integers(60, 300, rows), random.choice(["diesel", "petrol", "electric"], rows)
    delivery = day // 7  # cars that arrive in the same week come from the same fleet
    state = random.normal(0, 2.0, 3 * 53)[delivery]
    taste = np.select([engine == "diesel", engine == "electric"], [2 - day / 200, -2 + day / 200], 0.0)
    level = 1 + 0.18 * np.sin(day / 365 * 2 * np.pi / 2.5) + day / 365 * 0.07
    price = level * (8 + 0.07 * power - 0.6 * age - 0.02 * mileage) + taste + state + random.normal(0, 1.2, rows)
    return pl.DataFrame({
        "sale": np.arange(rows), "day": [FIRST + timedelta(days=int(it)) for it in day], "mileage": mileage, "age": age,
        "power": power, "engine": engine, "delivery": delivery + 400, "day_number": day, "price": price.round(3),
    })  # fmt: skip


def leaderboard(rows: pl.DataFrame, configurations: int = 8) -> Course:
    """Return what the best of several configurations by random 5-fold cross-validation promises, and what came."""
    random = np.random.default_rng(3)
    x = rows.select(*(pl.col(it) for it in FEATURES if it != "engine"), pl.col("engine").rank("dense")).to_numpy()
    y, day = rows["price"].to_numpy(), rows["day_number"].to_numpy()
    known = np.flatnonzero(day < DECIDED)
    fold = random.permutation(len(known)) % 5
    best: tuple[float, dict[str, Any], int] | None = None
    for n in range(configurations):
        given = {
            "objective": "regression", "verbosity": -1, "seed": 1, "num_threads": 1, "bagging_freq": 1,
            "learning_rate": 0.1 if n == 0 else float(np.exp(random.uniform(np.log(0.03), np.log(0.2)))),
            "num_leaves": 31 if n == 0 else int(random.choice([15, 31, 63, 127])),
            "min_data_in_leaf": 20 if n == 0 else int(random.choice([5, 20, 60])),
            "feature_fraction": 1.0 if n == 0 else float(random.uniform(0.6, 1)),
        }  # fmt: skip
        squares, rounds = [], []
        for held in range(5):
            train, test = known[fold != held], known[fold == held]
            data = lgb.Dataset(x[train], y[train], params={"verbosity": -1})
            stop = lgb.early_stopping(30, verbose=False)
            on = lgb.Dataset(x[test], y[test], reference=data, params={"verbosity": -1})
            model = lgb.train({**given, "metric": "rmse"}, data, 600, valid_sets=[on], callbacks=[stop])
            squares.append(model.best_score["valid_0"]["rmse"] ** 2)
            rounds.append(model.best_iteration)
        loss = float(np.sqrt(np.mean(squares)))
        if best is None or loss < best[0]:
            best = loss, given, int(np.median(rounds))
    assert best is not None
    final = lgb.train(best[1], lgb.Dataset(x[known], y[known], params={"verbosity": -1}), best[2])
    return Course(best[0], _later(rows, np.asarray(final.predict(x), float)))


def by_time(rows: pl.DataFrame) -> tuple[Course, Course]:
    """Return what the engine's model promises on the last weeks before the decision, and what came.

    The second course is that of a model that is trained again when each of the later stretches begins, with the same
    parameters. Its promise is the first one's.
    """
    data = _training_set(rows, FIRST + timedelta(days=DECIDED - 1))
    conditions = Conditions(0, 1)
    chosen = measure_importances(data, "rmse", conditions).summary.selected
    search = Search(features=chosen, metric="rmse", trials=12, seed=0, threads=1, rounds=600, early_stopping_rounds=30)
    tuned = tune(data, search).best

    def trained(training: TrainingSet) -> Vector:
        model = refit(fit(training, tuned, conditions), training, tuned, conditions)
        return predict(model, rows, threads=1)["score"].to_numpy()

    is_test = rows["sale"].is_in(data.part("test")["sale"].implode()).to_numpy()
    guess, price = trained(data), rows["price"].to_numpy()
    promised = _rmse(price[is_test], guess[is_test])
    again = [
        _later(rows, trained(_training_set(rows, FIRST + timedelta(days=DECIDED + begin - 1))))[place] if begin else
        _later(rows, guess)[place]
        for place, begin in enumerate((0, *LATER[:-1]))
    ]  # fmt: skip
    return Course(promised, _later(rows, guess)), Course(promised, tuple(again))


def _training_set(rows: pl.DataFrame, as_of: date) -> TrainingSet:
    features = tuple(
        Feature(name=it, dtype="String" if it == "engine" else "Int64", is_categorical=it == "engine")
        for it in FEATURES
    )
    at = pl.col("day").cast(pl.Datetime("us"))
    columns = ModelColumns("cars", "regression", "price", ("sale",), "sold_at", "sold_at", "known_at", features)
    table = rows.with_columns(sold_at=at).drop("price").lazy()
    labels = rows.select("sale", "day", "price", sold_at=at, known_at=at).lazy()
    windows = windows_as_of(as_of, train_days=None, validation_days=73, test_days=73)
    return assemble_training_set(table, labels, columns, windows)


def _later(rows: pl.DataFrame, guess: Vector) -> tuple[float, ...]:
    """Return the metric in each stretch of days after the decision."""
    since, y = rows["day_number"].to_numpy() - DECIDED, rows["price"].to_numpy()
    found, begin = [], 0
    for end in LATER:
        among = (since >= begin) & (since < end)
        found.append(_rmse(y[among], guess[among]))
        begin = end
    return tuple(found)


def _rmse(truth: Vector, guess: Vector) -> float:
    return float(np.sqrt(np.mean((truth - guess) ** 2)))


def table_rows(courses: Sequence[tuple[Course, ...]]) -> Iterator[list[str]]:
    """Yield the rows of the table: means over the tables."""
    yield ["promised", *(f"{np.mean([it[n].promised for it in courses]):.2f}" for n in COLUMNS)]
    begin = 1
    for place, end in enumerate(LATER):
        figures = [np.mean([it[n].later[place] for it in courses]) for n in COLUMNS]
        yield [f"day {begin} to {end} after", *(f"{it:.2f}" for it in figures)]
        begin = end + 1
    short = [np.mean([it[n].later[0] / it[n].promised - 1 for it in courses]) for n in COLUMNS]
    yield ["first 30 days, against the promise", *(f"{it:+.0%}" for it in short)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="tables (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table to docs/head-to-head.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
