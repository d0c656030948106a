"""What drift of a million rows costs beside Evidently and NannyML: 20 numeric and 5 categorical columns from Parquet.

    python -m benchmarks.drift [--others PYTHON]

Theirs need pandas, which is not in the lock: give the interpreter of another environment
(`python -m venv other && other/bin/pip install evidently nannyml 'pandas<3'`). Each measurement is a process of its
own, in turn. Seconds count from imported libraries to the measured columns, reading included, and so does CPU, which
neighbours on the machine touch less; memory is the most that the whole process had. Ours reads the stored sketch of
the reference; they read its rows, as they keep no sketch.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.logic.monitoring.drift import Watched, measure_drift
from ml_assets.logic.monitoring.drift_verdict import DriftLimits, Pooled
from ml_assets.logic.monitoring.reference import Reference
from ml_assets.logic.monitoring.sketch import sketch_reference

HERE = Path(__file__).resolve()
BARS = {"evidently": {"seconds": 80, "cpu": 80, "megabytes": 5}, "nannyml": {"seconds": 8, "cpu": 8}}
LABELS = {
    "ours": "`measure_drift`",
    "evidently": "Evidently, data drift preset",
    "nannyml": "NannyML, univariate drift",
}
LIMITS = DriftLimits(
    weighted_excess_psi=0.1, score_excess_psi=0.2, new_category_share=0.05, null_share_change=0.2, min_rows=1
)
Figures = dict[str, float]


def main() -> None:
    """Make the files, measure every side in turn, print medians and the ratios of pairs."""
    arguments = _arguments()
    if arguments.side:
        if arguments.side == "make":
            make(arguments.folder, arguments.rows, arguments.seed)
        else:
            ours(arguments.folder)
        return
    sides: dict[str, list[Figures]] = {side: [] for side in (LABELS if arguments.others else ["ours"])}
    with tempfile.TemporaryDirectory(prefix="drift-") as name:
        folder = Path(name)
        _process("make", folder, arguments)
        for _ in range(arguments.repeat):
            for side, measured in sides.items():
                measured.append(_process(side, folder, arguments))
                print(f"{side}: {_line(measured[-1])}", file=sys.stderr, flush=True)
    print(f"{arguments.rows} rows, medians of {arguments.repeat}; ratios are medians of the pairs")
    for side, measured in sides.items():
        figures = {name: median(one[name] for one in measured) for name in measured[0]}
        print(f"{LABELS[side]:<30} {_line(figures)}")
    for side, bars in BARS.items():
        for what, bar in bars.items() if side in sides else ():
            pairs = [one[what] / other[what] for one, other in zip(sides[side], sides["ours"], strict=True)]
            span = f"{min(pairs):.1f} to {max(pairs):.1f}"
            print(f"{LABELS[side]}, {what} beside ours: {median(pairs):.1f} ({span}; bar: {bar})")


def _line(figures: Figures) -> str:
    spent = f"{figures['seconds']:7.2f} s, {figures['cpu']:7.2f} s of CPU, {figures['megabytes']:6.0f} MB"
    return f"{spent}, whole process {figures['process']:7.2f} s"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--others", metavar="PYTHON", help="an interpreter that has evidently, nannyml and pyarrow")
    parser.add_argument("--side", choices=["make", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make(folder: Path, rows: int, seed: int) -> None:
    """Write the reference, its sketch, and a day in which some columns have shifted."""
    reference, day = _rows(rows, seed, shift=0.0), _rows(rows, seed + 1, shift=0.3)
    reference.write_parquet(folder / "reference.parquet")
    day.write_parquet(folder / "day.parquet")
    features = [
        Feature(name=name, dtype=str(dtype), is_categorical=dtype == pl.String)
        for name, dtype in reference.schema.items()
    ]
    sketch_reference(reference, features=features, score=None).write_parquet(folder / "sketch.parquet")
    names = {
        kind: [feature.name for feature in features if feature.is_categorical == (kind == "categorical")]
        for kind in ("numeric", "categorical")
    }
    (folder / "columns.json").write_text(json.dumps(names), encoding="utf-8")


def _rows(rows: int, seed: int, *, shift: float) -> pl.DataFrame:
    """Return five columns each of bell-shaped, skewed, whole and even numbers, and words of 3 to 1,000 kinds."""
    random = np.random.default_rng(seed)
    columns = {
        f"{kind}_{number}": pl.Series(values)
        for number in range(5)
        for kind, values in (
            ("bell", random.normal(shift * (number == 0), 1, rows)),
            ("skewed", random.lognormal(3 + shift * (number == 1), 0.7, rows)),
            ("whole", random.integers(0, 10 ** (number + 1), rows).astype(np.float64)),
            ("even", random.random(rows)),
        )
    }
    for number, kinds in enumerate((3, 10, 50, 200, 1_000)):
        place = (kinds * random.random(rows) ** (2 + shift * (number == 2))).astype(np.int64)
        columns[f"word_{number}"] = pl.Series([f"word {kind}" for kind in range(kinds)]).gather(place)
    return pl.DataFrame(
        {
            name: column.set(pl.Series(random.random(rows) < 0.05), None) if place % 2 else column
            for place, (name, column) in enumerate(columns.items())
        }
    )


def _process(side: str, folder: Path, arguments: argparse.Namespace) -> Figures:
    """Return what one side took in a process of its own.

    The files too are made in one: a process inherits the peak of memory of the one that started it.
    """
    command = [sys.executable, "-m", "benchmarks.drift", "--side", side, "--folder", str(folder)]
    command += ["--rows", str(arguments.rows), "--seed", str(arguments.seed)]
    if side in BARS:
        command = [arguments.others, str(HERE.with_name("drift_by_others.py")), side, str(folder)]
    start = time.perf_counter()
    quiet = os.environ | {
        "NML_DISABLE_USAGE_LOGGING": "1",
        "DO_NOT_TRACK": "1",
    }  # they wait for it where there is no net
    done = subprocess.run(command, cwd=HERE.parent.parent, env=quiet, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stdout}{done.stderr}")
    measured: Figures = json.loads(done.stdout.splitlines()[-1]) if side != "make" else {}
    return measured | {"process": seconds}


def ours(folder: Path) -> None:
    """Measure the day against the stored sketch once, and print what it took."""
    start, cpu = time.perf_counter(), time.process_time()
    reference = Reference.of(pl.read_parquet(folder / "sketch.parquet"), model="benchmark")
    day = Pooled("2013-01-01", "2013-01-01")
    drift = measure_drift(
        pl.scan_parquet(folder / "day.parquet"), Watched("benchmark", "1", reference, {}), day, LIMITS
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if drift.table["psi"].null_count():
        sys.exit("a column was not measured")
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "megabytes": megabytes}))


if __name__ == "__main__":
    main()
