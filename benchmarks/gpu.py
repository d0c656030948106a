"""Training and tuning on the CPU and on a device: seconds, energy where it can be read, and the metric's difference.

    python -m benchmarks.gpu --device cuda                      # 10 million synthetic rows, 50 features
    python -m benchmarks.gpu --device cuda --lake .lake         # the flights of a lake in which the flow has run
    python -m benchmarks.gpu --device gpu --rows 20000          # OpenCL; PoCL takes the CPU for one, for the code path

Every measurement is a process of its own, in turn. Seconds count from encoded rows: binning, training and, on the test
rows, scoring. A device's first fit, which compiles kernels or wakes the driver, is not counted. Energy is the power
that `nvidia-smi` tells, times time, and that of the GPU alone; a CPU's is not read.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from statistics import median
from typing import Self

import numpy as np
import polars as pl

from benchmarks.drawn_table import training_set
from ml_assets.contracts.artifacts.training import Model, TrainingSet, TunedParameters
from ml_assets.contracts.boosting_parameters import DEFAULTS, Conditions, Device, full_parameters
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.closeness import metric_on_test_rows
from ml_assets.logic.training.model import bin_training_set, fit
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import tune
from ml_assets.machine.devices import device_problem

METRIC = "roc_auc"
Figures = dict[str, float]


def main() -> None:
    """Measure each side in turn, print medians, the speed-up and the metric's difference."""
    arguments = _arguments()
    if arguments.side:
        print(json.dumps(measured(arguments)))
        return
    problem = device_problem(arguments.device)
    if problem is not None:
        sys.exit(f"LightGBM cannot train on '{arguments.device}' here: {problem}.")
    sides: dict[str, list[Figures]] = {"cpu": [], arguments.device: []}
    for _ in range(arguments.repeat):
        for side, figures in sides.items():
            figures.append(_process(side))
            print(f"{side}: {_line(figures[-1])}", file=sys.stderr, flush=True)
    cpu, device = ({name: median(one[name] for one in side) for name in side[0]} for side in sides.values())
    print(f"medians of {arguments.repeat}; {os.cpu_count()} cores, {arguments.threads} threads")
    for side, middle in (("cpu", cpu), (arguments.device, device)):
        print(f"{side:<5}{_line(middle)}")
    for what in ("train", "tune"):
        print(f"{what}: {arguments.device} takes {device[what] / cpu[what]:.2f} times the CPU's time")
    print(f"{METRIC} on the test rows: {cpu['metric']:.5f} and {device['metric']:.5f}, "
          f"{abs(device['metric'] - cpu['metric']) / cpu['metric']:.3%} apart")  # fmt: skip


def _line(figures: Figures) -> str:
    energy = f"{figures['joules']:,.0f} J" if figures["joules"] else "energy not readable"
    return (
        f"{figures['rows']:,.0f} rows x {figures['features']:.0f}: bin {figures['bin']:.1f} s, train "
        f"{figures['train']:.1f} s, tune {figures['tune']:.1f} s, {METRIC} {figures['metric']:.5f}, {energy}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("gpu", "cuda"), default="cuda")
    parser.add_argument("--lake", help="take the flights' newest training set of this lake instead of synthetic rows")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--side", choices=("cpu", "gpu", "cuda"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _process(side: str) -> Figures:
    """Measure one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:], "--side", side]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def measured(arguments: argparse.Namespace) -> Figures:
    """Bin, train and tune on one device."""
    device: Device = arguments.side
    data = flights(arguments.lake) if arguments.lake else synthetic(arguments.rows, arguments.features)
    names = [feature.name for feature in data.summary.features]
    if device != "cpu":  # what a first fit costs once a process
        _fit(synthetic(2_000, 4), ["f0", "f1", "f2", "f3"], device, rounds=1, threads=arguments.threads)
    began = time.perf_counter()
    parameters = full_parameters("binary", {}, Conditions(1, arguments.threads))
    bin_training_set(data, data.summary.features, parameters, with_validation=False)
    binned = time.perf_counter()
    with Power(is_on=device != "cpu") as power:
        model = _fit(data, names, device, rounds=arguments.rounds, threads=arguments.threads)
        trained = time.perf_counter()
        search = Search(
            features=tuple(names), metric=METRIC, trials=arguments.trials, seed=1, threads=arguments.threads,
            device=device, rounds=arguments.rounds,
        )  # fmt: skip
        tune(data, search)
        tuned = time.perf_counter()
    return {
        "rows": data.rows.height, "features": len(names), "bin": binned - began, "train": trained - binned,
        "tune": tuned - trained, "metric": metric_on_test_rows(model, data, METRIC), "joules": power.joules,
    }  # fmt: skip


def _fit(data: TrainingSet, names: list[str], device: Device, *, rounds: int, threads: int) -> Model:
    given = TunedParameters(
        metric=METRIC, value=0.0, rounds=rounds, parameters={**DEFAULTS}, trials=0, pruned=0, features=tuple(names)
    )
    return fit(data, given, Conditions(1, threads, device))


def flights(lake: str) -> TrainingSet:
    """Return the flights' newest training set."""
    opened = Lake(lake)
    found: TrainingSet = opened.get(opened.find("flight_delay/training_set"), TrainingSet)
    return found


def synthetic(rows: int, features: int) -> TrainingSet:
    """Return rows whose target depends on a third of their features, in steps, products and noise."""
    draw = np.random.default_rng(1)
    columns = {f"f{n}": draw.standard_normal(rows, dtype=np.float32) for n in range(features)}
    informative = max(2, features // 3)
    strength = draw.standard_normal(rows, dtype=np.float32)
    for n in range(informative):
        weight = np.float32(1.0 / (1 + n))
        strength += weight * np.where(
            columns[f"f{n}"] > 0.3, columns[f"f{n}"] * columns[f"f{(n + 1) % informative}"], -0.2
        )
    tenth = rows // 10
    table = pl.DataFrame({**columns, "target": strength > 0})
    return training_set(table, {"train": rows - 2 * tenth, "validation": tenth, "test": tenth})


@dataclass
class Power:
    """What the machine's first GPU draws while the context lasts, by `nvidia-smi`; 0 if there is none."""

    is_on: bool
    joules: float = 0.0

    def __enter__(self) -> Self:
        """Start to poll, five times a second."""
        self._process = None
        program = shutil.which("nvidia-smi")
        if self.is_on and program is not None:
            command = [program, "--query-gpu=power.draw", "--format=csv,noheader,nounits", "-lms", "200", "-i", "0"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._thread = threading.Thread(target=self._add)
            self._thread.start()
        return self

    def _add(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        before = time.perf_counter()
        for line in self._process.stdout:
            now = time.perf_counter()
            try:
                self.joules += float(line) * (now - before)
            except ValueError:  # "[N/A]" from a GPU without the figure
                return
            before = now

    def __exit__(self, *_: object) -> None:
        """Stop polling."""
        if self._process is not None:
            self._process.terminate()
            self._thread.join()
            self._process.wait()


if __name__ == "__main__":
    main()
