"""Writes `project.tar.xz`: a small project of `ml-assets init` with its lake, as release 0.1.0 writes them.

    .venv/bin/python -m tests.golden_0_1_0.write

It was run with 0.1.0, and refuses to run with any later version: the archive shows what that release wrote. The lake
holds two trainings, a promotion and a rejection by the gate, a promotion and a rollback by a person, quarantined rows,
and the record of a retraining that a sensor requested.
"""

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from ml_assets.cli.init import project_files, write_new
from ml_assets.contracts.decisions import Retraining
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.store import Lake

VERSION: Final = "0.1.0"
ARCHIVE: Final = Path(__file__).parent / "project.tar.xz"
MODEL: Final = "rental_demand"
LAST: Final = "2011-07-10"
AS_OF: Final = ("2011-07-02", "2011-07-09")

_ROOT: Final = Path(__file__).parent.parent.parent
_SMALLER: Final = {
    "last: 2011-08-31": f"last: {LAST}",
    "split: {validation_days: 14, test_days: 21}": "split: {validation_days: 7, test_days: 14}",
    "trials: 6, max_rounds: 300": "trials: 4, max_rounds: 200",
    "min_rows: 300, min_slice_rows: 100": "min_rows: 200, min_slice_rows: 50",
    "leak_test: {samples: 30}": "leak_test: {samples: 5, acknowledged: [typical_rentals]}",
    "partition_by: {column: dteday}": "partition_by: {column: dteday}\n      quarantine: 0.5",
}
"""Texts of the declarations, and what makes the project small."""


def write_project(folder: Path) -> None:
    """Write the example of `ml-assets init` with fewer days, and with one row that breaks a rule."""
    write_new(folder, project_files(folder.name, is_bare=False))
    for path in folder.glob("defs/*/defs.yaml"):
        text = path.read_text(encoding="utf-8")
        for old, new in _SMALLER.items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    (folder / "data" / "rentals_next_days.csv").unlink()
    data = folder / "data" / "rentals.csv"
    data.write_text("".join(_rows(data.read_text(encoding="utf-8"))), encoding="utf-8")


def _rows(text: str) -> Iterator[str]:
    header, *rows = text.splitlines(keepends=True)
    yield header
    at, hour = header.split(",").index("dteday"), header.split(",").index("hum")
    for number, row in enumerate(rows):
        values = row.split(",")
        if values[at] > LAST:
            continue
        if number == 30:
            values[hour] = "7.5"  # a humidity above 100 %
        yield ",".join(values)


def _run(folder: Path, *arguments: str, codes: Sequence[int] = (0,)) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ML_ASSETS_")}
    command = [sys.executable, "-m", "ml_assets.cli.main", *arguments]
    done = subprocess.run(
        command, cwd=folder, check=False, env={**environment, "PYTHONPATH": str(_ROOT)}, stdin=subprocess.DEVNULL
    )
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}; expected one of {codes}.")


def write_lake(folder: Path) -> None:
    """Run the model as of two days, promote and roll back by hand, and record a request for a retraining."""
    for day in AS_OF:
        _run(folder, "run", MODEL, "--as-of", day, codes=(0, 1))  # 1: the gate rejects the challenger
    lake = Lake(str(folder / ".lake"))
    first, second = PromotionLog(lake, MODEL).entries()
    _run(folder, "promote", MODEL, second.challenger, "--why", "its labels are newer", "--by", "ada")
    _run(folder, "rollback", MODEL, "--why", "the first model is preferred", "--by", "ada")
    RetrainingLog(lake, MODEL).claim(
        Retraining(
            model=MODEL, as_of=date.fromisoformat(AS_OF[1]), number=1, cause="drift",
            sentence="2 of the last 3 judged days are over their drift limits.", figures={"days over": 2.0},
            champion=first.challenger, requested_at=datetime(2026, 11, 1, tzinfo=UTC), requested_by="drift",
        )
    )  # fmt: skip


def archive(folder: Path) -> None:
    """Store the project without what is built again: dbt's folders and Dagster's database."""
    left = {".dagster", "target", "logs", "dbt_packages", "__pycache__", ".github"}

    def entry(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if not left.isdisjoint(Path(info.name).parts):
            return None
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(ARCHIVE, "w:xz", preset=9) as file:
        file.add(folder, arcname="shop", filter=entry)


def main() -> None:
    """Write the archive.

    Raises:
        SystemExit: the installed version is not 0.1.0, or a command failed.
    """
    found = importlib.metadata.version("ml-assets")
    if found != VERSION:
        raise SystemExit(f"the installed version is {found}; expected {VERSION}, which wrote the archive.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "shop"
        write_project(folder)
        write_lake(folder)
        archive(folder)


if __name__ == "__main__":
    main()
