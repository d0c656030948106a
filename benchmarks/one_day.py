"""What one more day costs an existing champion, with few and with many days already in the lake.

Training stays out: the day is landed, built by dbt, turned into features, predicted and measured for drift.

    python -m benchmarks.one_day

Each measurement is one Dagster run in a fresh process on a hard-linked copy of a finished lake, cut to the days before
the day in question, and on an event log that has seen as many days. What the figures should show is a ratio near 1.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg


ROOT = Path(__file__).resolve().parent.parent
STAGES = ("features", "predictions", "drift")
Figures = dict[str, float]


def main() -> None:
    """Measure with few and with many days in turn, and print medians and their ratio."""
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(one_day(arguments.model, arguments.day, arguments.history, profile=arguments.profile)))
        return
    runs: dict[int, list[Figures]] = {days: [] for days in arguments.days}
    for _ in range(arguments.repeat):
        for days, found in runs.items():
            with _cut(arguments.lake, arguments.day, days) as folder:
                found.append(_in_fresh_process(folder, arguments, days))
                print(f"{days} days: {_line(found[-1])}", flush=True)
    print(f"one more day, {arguments.day}; medians of {arguments.repeat}")
    medians = {days: {name: median(run[name] for run in found) for name in found[0]} for days, found in runs.items()}
    for days, figures in medians.items():
        print(f"{days:4} days in the lake: {_line(figures)}")
    few, *_, many = medians
    ratios = [two["run"] / one["run"] for one, two in zip(runs[few], runs[many], strict=True)]
    print(f"run with {many} days / run with {few} days: {median(ratios):.2f} (median of the pairs)")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lake", type=Path, default=ROOT / ".lake", help="a lake with a finished run of the model")
    parser.add_argument("--model", default="flight_delay", help="which model (default: %(default)s)")
    parser.add_argument(
        "--day", type=date.fromisoformat, default=date(2013, 12, 31), help="the new day (default: %(default)s)"
    )
    parser.add_argument("--days", type=int, nargs="+", default=[30, 360], help="how many days the lake has before it")
    parser.add_argument("--repeat", type=int, default=3, help="runs with each (default: %(default)s)")
    parser.add_argument("--profile", action="store_true", help="print where Python's time goes")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--history", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _line(figures: Figures) -> str:
    return ", ".join(
        f"{name} {value:.2f} s" if name == "run" else f"{name} {value:.0f}" for name, value in figures.items()
    )


@contextmanager
def _cut(lake: Path, day: date, days: int) -> Iterator[Path]:
    """Give a folder with the lake as it was before a day, with so many days in it, as hard links."""
    kept = {str(day - timedelta(days=n)) for n in range(1, days + 1)}

    def others(_: str, names: list[str]) -> set[str]:
        return {name for name in names if _is_day(name) and name not in kept}

    with tempfile.TemporaryDirectory(prefix="one-day-") as name:
        shutil.copytree(lake, Path(name) / "lake", copy_function=_link, ignore=others)
        yield Path(name)


def _link(source: str, target: str) -> None:
    """Make a hard link, or a copy where the temporary folder is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _is_day(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return "-" in name


def _in_fresh_process(folder: Path, arguments: argparse.Namespace, days: int) -> Figures:
    command = [
        sys.executable, "-m", "benchmarks.one_day", "--child", "--model", arguments.model, "--day", str(arguments.day),
        "--history", str(days), *(["--profile"] if arguments.profile else []),
    ]  # fmt: skip
    environment = {**os.environ, "ML_ASSETS_LAKE": str(folder / "lake"), "DAGSTER_HOME": str(folder / "home")}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the run failed:\n{done.stdout}{done.stderr}")
    if arguments.profile:
        print(done.stderr)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def one_day(model: str, day: date, history: int, *, profile: bool) -> Figures:
    """Run everything that a new day needs, and return the seconds and the counted file operations on the lake."""
    import dagster as dg

    from ml_assets.cli.console.progress import Progress
    from ml_assets.cli.flow.project import open_instance
    from ml_assets.lake.resource import LakeResource
    from tests.flights import build

    lake = LakeResource().connect().url
    with open_instance() as found, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        defs = build(loggers=Progress(nowhere).loggers())
        graph = defs.resolve_asset_graph()
        wanted = {dg.AssetKey([model, stage]) for stage in STAGES}
        upstream = {parent for key in wanted for parent in graph.get_ancestor_asset_keys(key)} | wanted
        keys = [key for key in graph.toposorted_asset_keys if key in upstream and graph.get(key).is_partitioned]
        _remember(found, keys, [str(day - timedelta(days=n)) for n in range(1, history + 1)])
        job = defs.resolve_implicit_global_asset_job_def()
        counts = _count(lake)

        def run() -> None:
            job.execute_in_process(
                instance=found,
                asset_selection=keys,
                partition_key=str(day),
                run_config={"loggers": {"console": {}}},
            )

        started = time.perf_counter()
        if profile:
            _profiled(run)
        else:
            run()
        seconds = time.perf_counter() - started
    return {
        "run": seconds,
        "files opened": counts["open"],
        "folders listed": counts["os.scandir"] + counts["os.listdir"],
    }


def _remember(instance: "dg.DagsterInstance", keys: list["dg.AssetKey"], days: list[str]) -> None:
    """Put a materialization of each asset and day into the event log, as the runs of those days would have."""
    import dagster as dg

    from tests.adapters.dagster import StepMaterializationData, make_new_run_id

    run_id = make_new_run_id()
    events = [
        dg.EventLogEntry(  # type: ignore[no-untyped-call]
            error_info=None, level="debug", user_message="", run_id=run_id, timestamp=time.time(),
            dagster_event=dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
                job_name="history",
                event_specific_data=StepMaterializationData(dg.AssetMaterialization(key, partition=day)),
            ),
        )
        for day in reversed(days)
        for key in keys
    ]  # fmt: skip
    instance.event_log_storage.store_event_batch(events)


def _count(lake: str) -> Counter[str]:
    """Count the file operations of this process under the lake, without native readers and dbt's process."""
    counted: Counter[str] = Counter()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in {"open", "os.scandir", "os.listdir"} and str(arguments[0]).startswith(lake):
            counted[event] += 1

    sys.addaudithook(hook)
    return counted


def _profiled(run: Callable[[], None]) -> None:
    import cProfile
    import pstats

    profiler = cProfile.Profile()
    profiler.runcall(run)
    pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    main()
