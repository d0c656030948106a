"""How long the leak test takes on a lake that holds features: the whole command, each time in a fresh process.

The lake must be there: `ml-assets run flight_delay --as-of 2013-12-31` leaves a year of features in it.

    python -m benchmarks.leaktest flight_delay --samples 50
"""

import argparse
import json
import subprocess
import sys
import time
from statistics import median


def main() -> None:
    """Run the command several times with other seeds, and print the median."""
    arguments = _arguments()
    seconds = []
    for seed in range(arguments.repeat):
        took, found = measure(arguments.model, arguments.samples, seed)
        seconds.append(took)
        print(f"seed {seed}: {took:5.1f} s, {len(found['samples'])} samples, {found['rows']} rows, "
              f"{len(found['leaks'])} leaks")  # fmt: skip
    print(f"median {median(seconds):.1f} s, slowest {max(seconds):.1f} s")


def measure(model: str, samples: int, seed: int) -> tuple[float, dict[str, list[object]]]:
    """Return the seconds of one test and what it found.

    Raises:
        RuntimeError: the command failed.
    """
    command = [
        sys.executable, "-m", "ml_assets.cli.main", "leaktest", model, "--samples", str(samples), "--seed", str(seed),
        "--json",
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - start
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return took, json.loads(done.stdout)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default="flight_delay", help="whose features (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=50, help="prediction times (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="tests, each with its own seed (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
