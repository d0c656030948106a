"""What it costs to hold a table of 5 million rows and 20 columns against its contract, and how much memory.

Reading features, asset checks and quarantine stay out: `check_table` alone, over one Parquet file.

    python -m benchmarks.contracts [--pandas PYTHON]

Beside it stand the same rules written by hand as one polars query over the same file, and pandera over rows in memory.
pandera's pandas validation needs pandas, which is not in the lock: give the interpreter of another environment
(`python -m venv other && other/bin/pip install pandas pandera pyarrow`). Each measurement is a process of its own, in
turn; imports are not counted. Memory is what the check adds to a process that has just checked a small table.
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import psutil

from benchmarks.pandera_schema import to_pandera
from ml_assets.contracts.checking import check_table
from ml_assets.contracts.table import Column, ContractRecord, Relationship, TableContract

HERE = Path(__file__).resolve()
BY_HAND_BAR = 1.5
PANDERA_BAR = 0.2
SHOPS, PRODUCTS = tuple(f"shop {n}" for n in range(12)), 1_000
CONTRACT = TableContract(
    "orders",
    (
        Column("order_id", pl.Int64(), is_nullable=False),
        Column("ordered_at", pl.Datetime("us"), is_nullable=False),
        Column("day", pl.Date(), is_nullable=False),
        Column("customer", pl.Int64(), is_nullable=False, minimum=0),
        Column("product", pl.Int64(), relationship=Relationship("products", "product")),
        Column("shop", pl.String(), is_nullable=False, accepted_values=SHOPS),
        Column("channel", pl.String(), accepted_values=("web", "phone", "counter")),
        Column("note", pl.String()),
        Column("is_gift", pl.Boolean(), is_nullable=False),
        *(Column(f"count_{n}", pl.Int64(), is_nullable=False, minimum=0, maximum=1_000) for n in range(5)),
        *(Column(f"share_{n}", pl.Float64(), minimum=0, maximum=1) for n in range(6)),
    ),
    key=("order_id",),
)


def main() -> None:
    """Make the file, measure every side in turn, print medians and the ratios of pairs."""
    arguments = _arguments()
    if arguments.side:
        print(json.dumps(_measured(arguments.side, arguments.folder)))
        return
    with tempfile.TemporaryDirectory(prefix="contracts-") as name:
        folder = Path(name)
        three_columns = make(folder, arguments.rows, arguments.seed)
        sides: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(arguments.repeat):
            for side, measured in sides.items():
                measured.append(_side(side, folder, arguments.pandas))
    for side, (label, _) in SIDES.items():
        seconds = median(one["seconds"] for one in sides[side])
        megabytes = [one["megabytes"] for one in sides[side] if "megabytes" in one]
        memory = f"{median(megabytes):6.0f} MB" if megabytes else " " * 9
        print(f"{label:<42} {seconds:6.2f} s {memory}  median of {arguments.repeat}")
    library = "pandas" if arguments.pandas else "polars, for want of pandas (see --pandas)"
    print(f"from the file, beside by hand: {_ratio(sides['file'], sides['by_hand']):.2f} (bar: {BY_HAND_BAR})")
    beside = _ratio(sides["in_memory"], sides["pandera"])
    print(f"in memory, beside pandera on {library}: {beside:.2f} (bar: {PANDERA_BAR}, on pandas)")
    worst = max(one["megabytes"] for one in sides["streamed"])
    print(f"memory without uniqueness: {worst:.0f} MB at most (bar: three columns, {three_columns:.0f} MB)")


def _ratio(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> float:
    """Return the median of the pairs."""
    return median(one["seconds"] / other["seconds"] for one, other in zip(ours, theirs, strict=True))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pandas", metavar="PYTHON", help="an interpreter that has pandas, pandera and pyarrow")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make(folder: Path, rows: int, seed: int) -> float:
    """Write rows that keep the contract, and what they point to; return the size in memory of three columns, in MB."""
    random = np.random.default_rng(seed)
    frame = pl.DataFrame([_values(column, rows, random) for column in CONTRACT.columns])
    frame.write_parquet(folder / "orders.parquet")
    frame.head(1_000).write_parquet(folder / "few.parquet")
    pl.DataFrame({"product": range(PRODUCTS)}, schema={"product": pl.Int64}).write_parquet(folder / "products.parquet")
    (folder / "contract.json").write_text(ContractRecord.of(CONTRACT).model_dump_json(), encoding="utf-8")
    return frame.estimated_size("mb") * 3 / frame.width


def _values(column: Column, rows: int, random: np.random.Generator) -> pl.Series:
    if column.name == "order_id":
        values = pl.Series(random.permutation(rows))
    elif column.accepted_values is not None:
        values = pl.Series(column.accepted_values).gather(random.integers(0, len(column.accepted_values), rows))
    elif column.dtype == pl.Float64:
        values = pl.Series(random.random(rows))
    elif column.dtype == pl.Datetime("us"):
        values = pl.Series(random.integers(0, 10**15, rows))
    else:
        most = {"product": PRODUCTS, "note": 50, "is_gift": 2, "day": 365, "customer": 10**6}
        values = pl.Series(random.integers(0, most.get(column.name, 1_001), rows))
    if column.is_nullable:
        values = values.set(pl.Series(random.random(rows) < 0.05), None)
    if column.dtype == pl.Date:
        values = values.cast(pl.Int32)
    return values.cast(column.dtype).alias(column.name)


def _check(rows: pl.DataFrame | pl.LazyFrame, contract: TableContract, products: pl.DataFrame | pl.LazyFrame) -> None:
    report = check_table(rows, contract, others={"products": products})
    if report.blocking:
        raise ValueError("\n".join(report.sentence(it) for it in report.blocking))


def _file(folder: Path, file: str, contract: TableContract = CONTRACT) -> Callable[[], None]:
    rows, products = pl.scan_parquet(folder / file), pl.scan_parquet(folder / "products.parquet")
    return functools.partial(_check, rows, contract, products)


def _streamed(folder: Path, file: str) -> Callable[[], None]:
    return _file(folder, file, replace(CONTRACT, key=()))


def _by_hand(folder: Path, file: str) -> Callable[[], None]:
    """Count what breaks each rule, as a person would write it for this table."""
    col = pl.col
    rows, products = pl.scan_parquet(folder / file), pl.read_parquet(folder / "products.parquet")["product"]
    never_missing = ("order_id", "ordered_at", "day", "customer", "shop", "is_gift", *(f"count_{n}" for n in range(5)))
    query = rows.select(
        *(col(name).null_count().alias(f"{name} is missing") for name in never_missing),
        doubled=pl.len() - col("order_id").n_unique(),
        customer=(col("customer") < 0).sum(),
        product=(col("product").is_not_null() & ~col("product").is_in(products.implode())).sum(),
        shop=(~col("shop").is_in(SHOPS)).sum(),
        channel=(~col("channel").is_in(["web", "phone", "counter"])).sum(),
        **{f"count_{n}": (~col(f"count_{n}").is_between(0, 1_000)).sum() for n in range(5)},
        **{f"share_{n}": (~col(f"share_{n}").is_between(0, 1)).sum() for n in range(6)},
    )

    def work() -> None:
        assert not any(query.collect(engine="streaming").row(0))

    return work


def _in_memory(folder: Path, file: str) -> Callable[[], None]:
    rows, products = pl.read_parquet(folder / file), pl.read_parquet(folder / "products.parquet")
    return functools.partial(_check, rows, CONTRACT, products)


def _pandera(folder: Path, file: str) -> Callable[[], None]:
    rows = pl.read_parquet(folder / file)
    schema = to_pandera(CONTRACT, others={"products": pl.read_parquet(folder / "products.parquet")})

    def work() -> None:
        schema.validate(rows, lazy=True)

    return work


SIDES: dict[str, tuple[str, Callable[[Path, str], Callable[[], None]]]] = {
    "file": ("check_table, from the file", _file),
    "by_hand": ("by hand, from the file", _by_hand),
    "in_memory": ("check_table, rows in memory", _in_memory),
    "pandera": ("pandera, rows in memory", _pandera),
    "streamed": ("check_table, from the file, no uniqueness", _streamed),
}


def _side(side: str, folder: Path, pandas: str | None) -> dict[str, float]:
    """Return what one side took in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.contracts", "--side", side, "--folder", str(folder)]
    if side == "pandera" and pandas:
        command = [pandas, str(HERE.with_name("pandera_on_pandas.py")), str(folder)]
    done = subprocess.run(command, cwd=HERE.parent.parent, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stdout}{done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _measured(side: str, folder: Path) -> dict[str, float]:
    prepare = SIDES[side][1]
    prepare(folder, "few.parquet")()  # code is loaded, threads are started
    work = prepare(folder, "orders.parquet")
    with _peak() as peak:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "megabytes": peak[0] / 2**20}


@contextmanager
def _peak() -> Iterator[list[int]]:
    """Give a list that holds, at the end, the most bytes that the process had beyond what it had at the start."""
    process, done, peak = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield peak
    done.set()
    watcher.join()


if __name__ == "__main__":
    main()
