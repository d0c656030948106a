"""How long loading the code location takes with 1, 100 and 500 declared models, each time in a fresh process.

What the models compute stays out: their declarations are copies of one, under other names.

    python -m benchmarks.load

A load is what Dagster's code server does before it answers: imports, declarations and contracts, assets, repository,
all jobs. The snapshot that the web UI then requests is timed separately.
"""

import argparse
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from unittest.mock import patch

DEFS = Path(__file__).resolve().parent.parent / "defs"
PHASES = ("imports", "repository", "jobs", "load", "load (CPU)", "snapshot")


def main() -> None:
    """Measure each number of models in turn, several times over, and print the medians."""
    arguments = _arguments()
    if arguments.child is not None:
        print(json.dumps(load(arguments.child, arguments.started)))
        return
    with tempfile.TemporaryDirectory(prefix="declared-") as name:
        folders = {models: declare(Path(name) / str(models), models, arguments.model) for models in arguments.models}
        runs: dict[int, list[dict[str, float]]] = {models: [] for models in folders}
        for _ in range(arguments.repeat):
            for models, folder in folders.items():
                runs[models].append(_in_fresh_process(folder))
    print(f"seconds, medians of {arguments.repeat} (slowest load in brackets)")
    print("models  " + "".join(f"{phase:>12}" for phase in PHASES))
    for models, found in runs.items():
        figures = "".join(f"{median(run[phase] for run in found):12.2f}" for phase in PHASES)
        print(f"{models:6}  {figures}  ({max(run['load'] for run in found):.2f})")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=int, nargs="+", default=[1, 100, 500], help="how many to declare")
    parser.add_argument("--model", default="flight_delay", help="whose declaration is copied (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="loads of each (default: %(default)s)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args()


def declare(folder: Path, models: int, model: str) -> Path:
    """Write the project's declarations with one model's many times, and return the folder."""
    for path in DEFS.glob("*/defs.yaml"):
        text = path.read_text(encoding="utf-8")
        if "ml_assets.Model" not in text:
            shutil.copytree(path.parent, folder / path.parent.name)
    text = (DEFS / model / "defs.yaml").read_text(encoding="utf-8")
    for number in range(models):
        target = folder / f"{model}_{number:04}" / "defs.yaml"
        target.parent.mkdir(parents=True)
        target.write_text(re.sub(rf"\bname: {model}\b", f"name: {model}_{number:04}", text, count=1), encoding="utf-8")
    return folder


def load(folder: Path, started: float) -> dict[str, float]:
    """Load the code location over other declarations, as Dagster does, and return the seconds of each phase."""
    from ml_assets.declaration.reading import read_all
    from tests.adapters.dagster import CodePointer, RepositorySnap, initialize_repository_def_from_pointer

    moments = [started, time.monotonic()]
    with patch("ml_assets.assembly.read_all", lambda _: read_all(folder)):
        repository = initialize_repository_def_from_pointer(CodePointer.from_module("definitions", "defs", None))
        moments.append(time.monotonic())
        repository.load_all_definitions()
    moments.append(time.monotonic())
    cpu = time.process_time()
    RepositorySnap.from_def(repository)
    moments.append(time.monotonic())
    imports, built, jobs, snapshot = (end - start for start, end in itertools.pairwise(moments))
    figures = (imports, built, jobs, moments[3] - started, cpu, snapshot)
    return dict(zip(PHASES, figures, strict=True))


def _in_fresh_process(folder: Path) -> dict[str, float]:
    command: Sequence[str] = [sys.executable, "-m", "benchmarks.load", "--child", str(folder), "--started"]
    root = DEFS.parent
    done = subprocess.run([*command, str(time.monotonic())], cwd=root, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
