"""How long LightGBM trains while its threads wait for each other in three ways, on idle cores and beside busy ones."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from ml_assets.machine.openmp import with_waiting

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_OTHERS = {name: value for name, value in os.environ.items() if name not in NAMES}
WAYS = {
    "libgomp's default": _OTHERS,
    "OMP_WAIT_POLICY=PASSIVE": _OTHERS | {"OMP_WAIT_POLICY": "PASSIVE"},
    "the command's": with_waiting(_OTHERS),
}
_TRAIN = """\
import sys, time
import lightgbm, numpy
rows = numpy.random.default_rng(0).normal(size=(80_000, 40))
parameters = {"objective": "binary", "num_leaves": 63, "num_threads": int(sys.argv[1]), "verbose": -1}
data = lightgbm.Dataset(rows, (rows[:, :3].sum(axis=1) > 0).astype(float), params=parameters).construct()
start = time.perf_counter()
lightgbm.train(parameters, data, 40)
print(time.perf_counter() - start)
"""


def main() -> None:
    """Train in turn in each way, and print medians and their ratios to the fastest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    for busy in (0, 1, arguments.threads):
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        with _busy(busy):
            for _ in range(arguments.repeat):
                for way, environment in WAYS.items():
                    taken[way].append(_seconds(environment, arguments.threads))
        least = min(map(median, taken.values()))
        for way, seconds in taken.items():
            print(
                f"{busy} busy processes  {way:<24} {median(seconds):6.2f} s  {median(seconds) / least:5.2f}", flush=True
            )


def _seconds(environment: dict[str, str], threads: int) -> float:
    command = [sys.executable, "-c", _TRAIN, str(threads)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@contextmanager
def _busy(number: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
