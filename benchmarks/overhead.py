"""What orchestration costs: the same ML work as a plain script and as Dagster runs, alternating; then the executors.

Landing raw data and dbt stay out: both sides read the same features and labels from an existing lake.

    python -m benchmarks.overhead

Both sides are whole processes, imports included. The script reads, trains, measures, plots and writes plain Parquet and
JSON; the Dagster side besides hashes contents, writes manifests and events, and builds the code location. Both must
end with the byte-identical model. The same graph with empty steps says which part of the difference is Dagster's own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
INPUTS = ("features", "labels")
BATCHES = {"DAGSTER_EVENT_BATCH_SIZE": "500"}
"""How many events Dagster writes at once, as `ml-assets run` sets it."""
BAR = 1.2


@dataclass(frozen=True)
class Took:
    """The cost of one whole process, and the model that it trained."""

    seconds: float
    cpu: float
    model: str


def main() -> None:
    """Run both sides in turn, print medians and their ratio, then each executor once."""
    arguments = _arguments()
    inputs = _inputs(arguments.lake, arguments.model)
    as_of = max(inputs["features"])
    plain: list[Took] = []
    dagster: list[Took] = []
    for number in range(arguments.repeat):
        plain.append(_plain(arguments.model, inputs))
        dagster.append(_orchestrated(arguments.lake, arguments.model, as_of, "in_process"))
        print(
            f"run {number + 1}: script {plain[-1].seconds:.1f} s, Dagster {dagster[-1].seconds:.1f} s "
            f"(CPU {plain[-1].cpu:.1f} s and {dagster[-1].cpu:.1f} s)",
            flush=True,
        )
    if {took.model for took in [*plain, *dagster]} != {plain[0].model}:
        sys.exit("script and Dagster made different models: they did not do the same work.")
    script, orchestrated = (median(took.seconds for took in side) for side in (plain, dagster))
    print(f"script       {script:6.1f} s  median of {arguments.repeat}")
    print(f"in process   {orchestrated:6.1f} s  median of {arguments.repeat}")
    pairs = [*zip(plain, dagster, strict=True)]
    ratio = median(two.seconds / one.seconds for one, two in pairs)
    cpu = median(two.cpu / one.cpu for one, two in pairs)
    print(f"ratio        {ratio:6.2f}    median of the pairs (bar: {BAR}); of CPU seconds {cpu:.2f}")
    alone = median(_dagster_alone(arguments.model, as_of).seconds for _ in range(arguments.repeat))
    print(f"empty steps  {alone:6.1f} s  median of {arguments.repeat}, {alone / script:.2f} of the script")
    for executor in arguments.executors:
        took = _orchestrated(arguments.lake, arguments.model, as_of, executor)
        print(f"{executor:<12} {took.seconds:6.1f} s  once, {took.seconds / script:.2f} of the script", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lake", type=Path, default=ROOT / ".lake", help="a lake with a finished run of the model")
    parser.add_argument("--model", default="flight_delay", help="which model (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each side (default: %(default)s)")
    parser.add_argument(
        "--executors", nargs="*", default=["in_process", "spawn", "forkserver"], help="executors to run once each"
    )
    return parser.parse_args()


def _inputs(lake: Path, model: str) -> dict[str, dict[str, str]]:
    """Return the current files of features and labels by day."""
    from ml_assets.lake.store import Lake

    found = Lake(str(lake))
    inputs = {name: dict(sorted(found.newest(f"{model}/{name}").items())) for name in INPUTS}
    empty = [name for name, refs in inputs.items() if not refs]
    if empty:
        sys.exit(f"lake {lake} has no {' and no '.join(empty)} of {model}; run `ml-assets run {model}` first.")
    return {
        name: {day: f"{found.directory(r)}/data.parquet" for day, r in refs.items()} for name, refs in inputs.items()
    }


def _plain(model: str, inputs: dict[str, dict[str, str]]) -> Took:
    with tempfile.TemporaryDirectory(prefix="plain-") as name:
        files = Path(name) / "files.json"
        files.write_text(json.dumps(inputs), encoding="utf-8")
        return _time(["benchmarks.plain", model, str(files), name], {})


def _orchestrated(lake: Path, model: str, as_of: str, executor: str) -> Took:
    with _scratch(lake, model) as folder:
        environment = {"ML_ASSETS_LAKE": str(folder / "lake"), "DAGSTER_HOME": str(folder / "home"), **BATCHES}
        return _time(["benchmarks.orchestrated", model, as_of, "--executor", executor], environment)


def _dagster_alone(model: str, as_of: str) -> Took:
    from ml_assets.declaration.reading import read_all

    days = read_all(ROOT / "defs").model(model).split.test_days
    with tempfile.TemporaryDirectory(prefix="dagster-") as home:
        return _time(["benchmarks.dagster_alone", as_of, str(days)], {"DAGSTER_HOME": home, **BATCHES})


@contextmanager
def _scratch(lake: Path, model: str) -> Iterator[Path]:
    """Give a folder with a lake of the model's features and labels alone, as hard links: artifacts are immutable."""
    with tempfile.TemporaryDirectory(prefix="orchestrated-") as name:
        for stage in INPUTS:
            inside = Path("artifacts") / model / stage
            shutil.copytree(lake / inside, Path(name) / "lake" / inside, copy_function=_link)
        yield Path(name)


def _link(source: str, target: str) -> None:
    """Make a hard link, or a copy where the temporary folder is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _time(command: list[str], environment: dict[str, str]) -> Took:
    before, start = os.times(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, check=False, capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    seconds, after = time.monotonic() - start, os.times()
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(seconds, cpu, done.stdout.split()[-1])


if __name__ == "__main__":
    main()
