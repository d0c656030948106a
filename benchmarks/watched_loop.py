"""An hour of `ml-assets loop` in which the daemon, the webserver and steps are killed at random moments.

    python -m benchmarks.watched_loop FOLDER [--seconds 60] [--minutes 60] [--seed 1]

`ml-assets ui` ends when one of its processes does, so the loop is started again and goes on with the next day. At the
end the lake says what happened: each day must have landed once, and have one current prediction for each row.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

import polars as pl
import psutil

from ml_assets.authoring.loop import BAD_DAY, MODEL, TRAINED_ON
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.store import Lake

VICTIMS: Final = {
    "daemon": ("dagster._daemon", "dagster-daemon"), "webserver": ("dagster_webserver",),
    "code server": ("dagster api grpc", "dagster._grpc", "code-server"),
    "run": ("execute_run", "multiprocessing", "forkserver"),
}  # fmt: skip


def main() -> None:
    """Run the loop with kills, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--port", type=int, default=3070)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random, end = Random(arguments.seed), time.monotonic() + 60 * arguments.minutes  # noqa: S311 - faults
    killed: Counter[str] = Counter()
    memory: list[float] = []
    loop, next_kill, starts = _start(arguments), time.monotonic() + 240, 1
    while time.monotonic() < end:
        time.sleep(5)
        memory.append(sum(_memory(it) for it in _below(loop)) / 2**20)
        if loop.poll() is not None:
            loop, starts = _start(arguments), starts + 1
        elif time.monotonic() >= next_kill:
            kind = random.choice([*VICTIMS])
            if found := [it for it in _below(loop) if any(word in _command(it) for word in VICTIMS[kind])]:
                random.choice(found).kill()
                killed[kind] += 1
                print(f"{time.strftime('%H:%M:%S')}              killed: {kind}", flush=True)
            next_kill = time.monotonic() + random.uniform(60, 240)
    loop.terminate()
    loop.wait()
    _report(arguments.folder, killed, starts, memory)


def _start(arguments: argparse.Namespace) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "ml_assets.cli.main", "loop", "--folder", str(arguments.folder)]
    return subprocess.Popen(
        [*command, "--seconds", str(arguments.seconds), "--port", str(arguments.port)], env=os.environ.copy()
    )


def _below(loop: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(loop.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _memory(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss)
    except psutil.Error:
        return 0.0


def _report(folder: Path, killed: Counter[str], starts: int, memory: list[float]) -> None:
    lake, quarter = Lake(str(folder / ".lake")), max(1, len(memory) // 4)
    delivered = sorted(it.stem for it in (folder / "data" / "days").glob("*.csv") if it.stem > str(TRAINED_ON))
    landed = lake.versions("raw/rentals", delivered)
    predicted = lake.newest(f"{MODEL}/predictions", delivered)
    rows = {day: lake.get(ref, pl.DataFrame).height for day, ref in predicted.items()}
    entries = PromotionLog(lake, MODEL).entries()
    requested = RetrainingLog(lake, MODEL).newest(100)
    print(f"kills: {dict(killed)}; starts of the loop: {starts}")
    versions = dict(Counter(map(len, landed.values())))
    print(f"days delivered: {len(delivered)}; landed: {len(landed)}, by the number of versions: {versions}")
    print(f"bad day {BAD_DAY}: {len(landed.get(str(BAD_DAY), ()))} version")
    print(f"days predicted: {len(predicted)}; rows of a day: {dict(Counter(rows.values()))}")
    print(f"retrainings requested: {Counter(it.cause for it in requested)}")
    print(f"promotion log: {[(it.action, it.decided_by) for it in entries]}")
    print(f"memory of all processes: {sum(memory[:quarter]) / quarter:.0f} MiB in the first quarter, "
          f"{sum(memory[-quarter:]) / quarter:.0f} in the last, at most {max(memory):.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
