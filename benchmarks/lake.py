"""What the lake costs beside polars alone: a frame of 2 GB through the artifact IO, and as a plain Parquet file.

Object stores stay out: there the network is what takes time.

    python -m benchmarks.lake io [--gb 2] [--repeat 5]
    python -m benchmarks.lake order [--artifacts 100000]    see `benchmarks.lake_order`

The frame has numbers, times, words, categories and missing values. Both sides write with the same settings and read
the same file. The lake's side is all of `Lake.put` and `Lake.get`: the version of the values, the digest of the file
and its check, the manifest. Each measurement is a process of its own, in turn, with a clean write cache before it and
the file read in memory already; imports and the loading of the frame are not counted. Memory is what is added to a
process that holds the frame, or nothing yet. CPU time tells more than the clock where neighbours are busy.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median

import numpy as np
import polars as pl
import psutil

from ml_assets.lake.content import ROW_GROUP
from ml_assets.lake.store import Lake, Origin

HERE = Path(__file__).resolve()
BAR = 1.1
ASSET = "benchmark/frame"
SIDES = ("polars write", "lake write", "polars read", "lake read")
SHOPS = [f"shop {n}" for n in range(40)]
WORDS = [f"{size} {colour} {thing}" for size in ("small", "large", "very large") for colour in ("red", "green", "blue")
         for thing in ("bicycle", "lamp", "book", "chair")]  # fmt: skip


def main() -> None:
    """Make the frame, measure every side, print medians and their ratios."""
    arguments = _arguments()
    if "artifacts" in arguments:
        from benchmarks.lake_order import measure

        measure(artifacts=arguments.artifacts, on_s3=arguments.on_s3, repeat=arguments.repeat)
        return
    if arguments.side:
        print(json.dumps(_measured(arguments.side, arguments.folder)))
        return
    with tempfile.TemporaryDirectory(prefix="lake-") as name:
        folder = Path(name)
        prepared = prepare(folder, arguments.gb, arguments.seed)
        sides: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        random = Random(arguments.seed)  # noqa: S311 - an order, not a secret
        for _ in range(arguments.repeat):
            for side in random.sample(SIDES, len(SIDES)):  # none always comes after the same other
                sides[side].append(_side(side, folder))
    print(prepared)
    for side, measured in sides.items():
        seconds, cpu, megabytes = (median(one[what] for one in measured) for what in ("seconds", "cpu", "megabytes"))
        print(f"{side:<13} {seconds:6.2f} s {cpu:6.2f} s CPU {megabytes:6.0f} MB  median of {arguments.repeat}")
    for what in ("seconds", "cpu"):
        taken = {side: [one[what] for one in measured] for side, measured in sides.items()}
        write = _ratio(taken["lake write"], taken["polars write"])
        read = _ratio(taken["lake read"], taken["polars read"])
        both = _ratio(_sum(taken, "lake"), _sum(taken, "polars"))
        print(f"lake beside polars, {what}: write {write}, read {read}, both {both} (bar: {BAR})")


def _sum(taken: dict[str, list[float]], who: str) -> list[float]:
    return [one + other for one, other in zip(taken[f"{who} write"], taken[f"{who} read"], strict=True)]


def _ratio(ours: list[float], theirs: list[float]) -> str:
    """Return the ratio of the medians, and the least and greatest of the pairs, which show how noisy it was."""
    pairs = [one / other for one, other in zip(ours, theirs, strict=True)]
    return f"{median(ours) / median(theirs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = parser.add_subparsers(required=True)
    io = what.add_parser("io", help="writing and reading one large frame")
    io.add_argument("--gb", type=float, default=2, help="size of the frame in memory (default: %(default)s)")
    io.add_argument("--repeat", type=int, default=5, help="measurements of each side (default: %(default)s)")
    io.add_argument("--seed", type=int, default=1)
    io.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    io.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    order = what.add_parser("order", help="the numbered records of publications")
    order.add_argument("--artifacts", type=int, default=100_000, help="on a disk (default: %(default)s)")
    order.add_argument("--on-s3", type=int, default=2_000, help="on a pretended S3 (default: %(default)s)")
    order.add_argument("--repeat", type=int, default=5, help="measurements of each way (default: %(default)s)")
    return parser.parse_args()


def make(rows: int, seed: int) -> pl.DataFrame:
    """Return a frame of all kinds of columns; one in 20 values of some is missing."""
    random = np.random.default_rng(seed)

    def lacking(values: pl.Series) -> pl.Series:
        return values.set(pl.Series(random.random(rows) < 0.05), None)

    return pl.DataFrame(
        {
            "order_id": np.arange(rows),
            "customer": random.integers(0, 10**6, rows),
            "count": lacking(pl.Series(random.integers(0, 1_000, rows), dtype=pl.Int32)),
            "amount": np.round(random.gamma(2, 50, rows), 2),
            "score": random.standard_normal(rows),
            "distance": lacking(pl.Series(random.standard_normal(rows))),
            "share": pl.Series(random.random(rows), dtype=pl.Float32),
            "shop": pl.Series([f"shop {n}" for n in range(40)])
            .gather(random.integers(0, 40, rows))
            .cast(pl.Categorical),
            "article": lacking(pl.Series(WORDS).gather(random.integers(0, len(WORDS), rows))),
            "code": pl.Series(random.integers(0, 10**9, rows)).cast(pl.String),
            "ordered_at": pl.Series(random.integers(0, 10**15, rows)).cast(pl.Datetime("us")),
            "day": pl.Series(np.arange(rows) * 365 // rows, dtype=pl.Int32).cast(pl.Date),
            "is_gift": random.random(rows) < 0.3,
        }
    )


def prepare(folder: Path, gigabytes: float, seed: int) -> str:
    """Write the frame, and a lake that holds it; return its size in words."""
    rows = int(gigabytes * 1e9 / make(100_000, seed).estimated_size() * 100_000)
    frame = make(rows, seed)
    version = Lake(str(folder / "lake")).put(ASSET, None, frame, Origin()).version
    (file,) = (folder / "lake").rglob("data.parquet")
    file.rename(folder / "data.parquet")
    os.link(folder / "data.parquet", file)
    (folder / "version").write_text(version, encoding="utf-8")
    size = (folder / "data.parquet").stat().st_size
    return f"{rows:,} rows, {frame.width} columns, {frame.estimated_size() / 1e9:.1f} GB; Parquet {size / 1e9:.2f} GB"


def _side(side: str, folder: Path) -> dict[str, float]:
    """Return what one side took in a process of its own."""
    os.sync()
    command = [sys.executable, "-m", "benchmarks.lake", "io", "--side", side, "--folder", str(folder)]
    done = subprocess.run(command, cwd=HERE.parent.parent, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stdout}{done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _measured(side: str, folder: Path) -> dict[str, float]:
    scratch = folder / "written"
    scratch.mkdir()
    work = _write(side, folder, scratch) if side.endswith("write") else _read(side, folder, scratch)
    with _peak() as peak:
        start, cpu = time.perf_counter(), time.process_time()
        kept = work()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    del kept
    shutil.rmtree(scratch)
    return {"seconds": seconds, "cpu": cpu, "megabytes": peak[0] / 1e6}


def _write(side: str, folder: Path, scratch: Path) -> Callable[[], object]:
    frame = pl.read_parquet(folder / "data.parquet")
    lake = Lake(str(scratch))

    def polars(rows: pl.DataFrame, name: str) -> None:
        rows.write_parquet(scratch / name, compression="zstd", statistics=True, row_group_size=ROW_GROUP)

    if side == "polars write":
        polars(frame.head(1_000), "few")  # code is loaded, threads are started
        return lambda: polars(frame, "data.parquet")
    lake.put(ASSET, None, frame.head(1_000), Origin())  # as above; the environment is listed once a process
    return lambda: lake.put(ASSET, None, frame, Origin())


def _read(side: str, folder: Path, scratch: Path) -> Callable[[], object]:
    file = folder / "data.parquet"
    _bring_into_memory(file)
    few = Lake(str(scratch)).put(ASSET, None, make(1_000, 1), Origin()).ref
    if side == "polars read":
        pl.read_parquet(next(scratch.rglob("data.parquet")))
        return lambda: pl.read_parquet(file)
    Lake(str(scratch)).get(few, pl.DataFrame)
    ref = few.model_copy(update={"version": (folder / "version").read_text(encoding="utf-8")})
    lake = Lake(str(folder / "lake"))
    return lambda: lake.get(ref, pl.DataFrame)


def _bring_into_memory(file: Path) -> None:
    with file.open("rb") as opened:
        while opened.read(2**20):
            pass


@contextmanager
def _peak() -> Iterator[list[int]]:
    """Give a list that holds, at the end, the most bytes of its own that the process had beyond those at the start.

    Pages of mapped files are the kernel's, which takes them back when it needs them: they do not count.
    """
    process, done, peak = psutil.Process(), threading.Event(), [0]

    def own() -> int:
        memory = process.memory_info()
        return int(memory.rss - memory.shared)

    before = own()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], own() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield peak
    done.set()
    watcher.join()


if __name__ == "__main__":
    main()
