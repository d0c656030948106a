"""Ten tables of other fields: what `new --yes` and `run` make of each without an edit, against LightGBM by hand.

    python -m benchmarks.foreign_tables [--large] [--seed 1] [--keep FOLDER] [visits load ... | 300x20 1000x200 ...]

For each table: `init --bare`, `new --yes` and `run` by the command line. The stored model's guesses for the held-out
rows are joined to the table's own target by key, and measured by code of its own. On the same rows: LightGBM's
defaults, and the best of 20 random configurations by early stopping; both have the honest columns only, and are trained
on all rows before the test. A table without a time is measured on 20 times as many later rows of the same process
(at most 50,000).

Ends with 1 if a command fails, a model is worse than the defaults or more than 2 % worse than the tuned one (by more
than two standard errors), a planted leak is a feature, or an honest column is left out.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from benchmarks.choices import one_of
from benchmarks.foreign.rivals import Vector, defaults, measured, numbers, tuned
from benchmarks.foreign.sizes import SIZES
from benchmarks.foreign.tables import TABLES, ForeignTable
from benchmarks.page_table import table_lines
from ml_assets.authoring.columns import safe_names
from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.lake.store import Lake
from ml_assets.logic.training.booster import predict

MODEL: Final = "foreign"
CLOSE: Final = 0.02
_RESAMPLED: Final = 200
_MOST_LATER: Final = 50_000
_HIGHER: Final = frozenset({"roc_auc", "average_precision"})
_HEAD: Final = (
    "table",
    "rows",
    "task",
    "metric",
    "ours",
    "defaults",
    "tuned",
    "error",
    "gate",
    "seconds",
    "leaks named",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one table.

    Attributes:
        error: the standard error of the difference between ours and the tuned model, by resampling test rows.
        missed: planted leaks that became features.
        lost: honest columns that were left out.
    """

    name: str
    rows: int
    task: str
    metric: str
    ours: float
    defaults: float
    tuned: float
    error: float
    verdict: str
    seconds: float
    named: Sequence[str]
    planted: int
    missed: Sequence[str]
    lost: Sequence[str]

    @property
    def row(self) -> tuple[str, ...]:
        """The outcome as cells."""
        leaks = f"{len(self.named)} of {self.planted}" if self.planted else "none planted"
        figures = (f"{it:.4g}" for it in (self.ours, self.defaults, self.tuned, self.error))
        return (
            self.name,
            f"{self.rows:,}",
            self.task,
            self.metric,
            *figures,
            self.verdict,
            f"{self.seconds:.0f}",
            leaks,
        )

    @property
    def problems(self) -> Iterator[str]:
        """What was not reached."""
        sign = 1 if self.metric in _HIGHER else -1
        if sign * (self.defaults - self.ours) > 2 * self.error:
            yield "worse than the defaults"
        if sign * (self.tuned - self.ours) > CLOSE * abs(self.tuned) + 2 * self.error:
            yield f"more than {CLOSE:.0%} worse than the tuned model"
        if self.missed:
            yield f"leaks are features: {', '.join(self.missed)}"
        if self.lost:
            yield f"honest columns were left out: {', '.join(self.lost)}"


def main() -> int:
    """Try the tables, print the results, and return 1 if something was not reached."""
    arguments = _arguments()
    outcomes = []
    for name in arguments.tables:
        entry = {**TABLES, **SIZES}[name]
        rows = entry.large if arguments.large and entry.large else entry.rows
        table = entry.made(np.random.default_rng(arguments.seed), rows)
        with tempfile.TemporaryDirectory(prefix=f"foreign-{name}-") as scratch:
            folder = Path(arguments.keep or scratch) / name
            folder.mkdir(parents=True)
            later = (
                entry.made(np.random.default_rng(arguments.seed + 1_000), min(20 * rows, _MOST_LATER))
                if table.time is None
                else table
            )
            outcomes.append(examine(name, table, folder, later.rows))
        print(*outcomes[-1].row, *outcomes[-1].problems, sep="  ", file=sys.stderr)
    print("\n".join(table_lines(_HEAD, [it.row for it in outcomes])))
    problems = [f"{it.name}: {problem}" for it in outcomes for problem in it.problems]
    print("\n".join(problems))
    return 1 if problems else 0


def examine(name: str, table: ForeignTable, folder: Path, later: pl.DataFrame) -> Outcome:
    """Return what became of one table. The folder keeps the project, its lake and what the commands printed.

    A table without a time is measured on later rows of the same process; what was its test part, if any, is unused.
    """
    table.written(table.rows).write_csv(folder / "table.csv", separator=table.separator)
    begun, height = time.perf_counter(), table.rows.height
    project = folder / "project"
    _ml_assets(folder, "init", str(project), "--bare")
    file = str(folder / "table.csv")
    _ml_assets(project, "new", MODEL, "--table", file, "--target", table.target, "--yes")
    _ml_assets(project, "run", MODEL)
    seconds = time.perf_counter() - begun

    lake = Lake(str(project / ".lake"))
    training: TrainingSet = lake.get(lake.find(f"{MODEL}/training_set"), TrainingSet)
    model: Model = lake.get(lake.find(f"{MODEL}/model"), Model)
    evaluation: Evaluation = lake.get(lake.find(f"{MODEL}/evaluation"), Evaluation)
    metric, task = evaluation.summary.metric, evaluation.summary.task
    rows = training.rows.with_columns(_guesses(predict(model, training.rows, threads=2), task))
    if table.time is None:  # of a snapshot, later rows are drawn: the held-out ones of 600 would be few
        rows = _with_later(rows, table, model, task, later)
        table = replace(table, rows=_numbered(table, later))
    joined = _joined(table, rows)
    truth, classes = _truth(table, joined[table.target], task)
    is_test = joined["split"] == "test"
    held = truth[is_test.to_numpy()]
    ours = _as_array(joined.filter(is_test)["guess"])
    if table.time is not None:
        assert abs(measured(metric, held, ours) - evaluation.summary.metrics[metric].value) < 1e-6, "another was stored"
    given = numbers(joined, truth, joined["split"], honest=table.honest, time=table.time, classes=classes)
    rival, best = defaults(given, task), tuned(given, task, metric)

    features = {it.name for it in training.summary.features}
    evidence, reported = ((folder / f"{it}.txt").read_text(encoding="utf-8") for it in ("new", "run"))
    names = safe_names(table.rows.columns)
    left = [it for it in (*table.honest, *table.leaks) if features.isdisjoint({names[it], f"days_since_{names[it]}"})]
    named = [it for it, guards in table.leaks.items() if _is_named(it, guards, evidence)]
    return Outcome(
        name, height, task, metric, measured(metric, held, ours), measured(metric, held, rival),
        measured(metric, held, best), _error(metric, held, ours, best), _verdict(reported),
        seconds, named, len(table.leaks), [it for it in table.leaks if it not in left],
        [it for it in table.honest if it in left],
    )  # fmt: skip


def _numbered(table: ForeignTable, later: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the table, then the later ones, with keys of their own."""
    for column in table.key:
        later = later.with_columns(pl.col(column) + 10**9)
    return pl.concat([table.rows, later])


def _with_later(rows: pl.DataFrame, table: ForeignTable, model: Model, task: str, later: pl.DataFrame) -> pl.DataFrame:
    """Return the key, split and guess of the rows before the test and of the later rows, which become the test."""
    (key,) = table.key.values() or ("row_key",)
    sources = {name: source for source, name in safe_names(later.columns).items()}
    given = later.select(pl.col(sources[it.name]).alias(it.name) for it in model.spec.features)
    if table.key:
        keys = later[next(iter(table.key))] + 10**9
    else:
        keys = pl.Series([f"later-{table.rows.height + n + 1}" for n in range(later.height)])
    guesses = _guesses(predict(model, given, threads=2), task)
    found = given.with_columns(keys.alias(key), guesses, split=pl.lit("test"))
    columns = [key, "split", "guess"]
    return pl.concat(
        [rows.filter(pl.col("split") != "test").select(columns), found.select(columns)], how="vertical_relaxed"
    )


def _ml_assets(folder: Path, command: str, *arguments: str) -> None:
    """Run a command, and keep what it prints beside the project.

    Raises:
        SystemExit: it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "ml_assets.cli.main", command, *arguments], cwd=folder, check=False,
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2", "COLUMNS": "200"},
    )  # fmt: skip
    place = folder if command == "init" else folder.parent
    (place / f"{command}.txt").write_text(f"{done.stdout}\n{done.stderr}", encoding="utf-8")
    if done.returncode not in (0, 1) or (done.returncode and command != "run"):
        sys.exit(f"{command} of {folder} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


def _guesses(scores: pl.DataFrame, task: str) -> pl.Series:
    if task == "multiclass":
        columns = [it for it in scores.columns if it.startswith("score_")]
        return scores.select(pl.concat_list(columns).alias("guess")).to_series()
    return scores["score"].alias("guess")


def _as_array(guesses: pl.Series) -> Vector:
    return np.array(guesses.to_list(), float)


def _joined(table: ForeignTable, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the table's own rows that are in the training set, with their split and the stored model's guess."""
    if table.key:
        raw, key = table.rows, {it: rows[name] for it, name in table.key.items()}
    else:
        raw = table.rows.with_row_index("row", offset=1)
        key = {"row": rows["row_key"].str.extract(r"-(\d+)$").cast(pl.UInt32)}
    found = pl.DataFrame({**key, "split": rows["split"], "guess": rows["guess"]})
    joined = raw.join(found, on=[*key], how="inner", maintain_order="left", validate="1:1")
    assert joined.height == rows.height, "rows of the training set that the table does not have"
    return joined


def _truth(table: ForeignTable, target: pl.Series, task: str) -> tuple[Vector, int]:
    if task == "multiclass":
        codes = {value: float(code) for code, value in enumerate(target.unique().sort())}
        return target.replace_strict(codes).to_numpy(), len(codes)
    return (target == table.positive if task == "binary" else target).cast(pl.Float64).to_numpy(), 0


def _verdict(printed: str) -> str:
    """Return the word of the gate in what `run` printed: promoted, rejected or waits."""
    found = re.search(r"^ +gate +\w+ (\w+)", printed, re.MULTILINE)
    assert found, printed
    return found[1]


def _is_named(column: str, guards: Sequence[str], printed: str) -> bool:
    return any(re.search(rf"^{re.escape(column)} +{guard} +left out", printed, re.MULTILINE) for guard in guards)


def _error(metric: str, truth: Vector, one: Vector, other: Vector) -> float:
    """Return the standard error of the difference of two models, by resampling the test rows."""
    random, found = np.random.default_rng(2), []
    for _ in range(_RESAMPLED):
        drawn = random.integers(0, len(truth), len(truth))
        found.append(measured(metric, truth[drawn], one[drawn]) - measured(metric, truth[drawn], other[drawn]))
    return float(np.std(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "tables", nargs="*", default=[*TABLES], type=one_of([*TABLES, *SIZES]), help="which (default: the ten)"
    )
    parser.add_argument("--large", action="store_true", help="a million trips instead of 200,000")
    parser.add_argument("--seed", type=int, default=1, help="makes the tables (default: %(default)s)")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the projects, their lakes and what was printed here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
