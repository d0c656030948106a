"""Small frames, records and declarations that several test files share.

Expectations stay out; they stand in the tests.
"""

import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import polars as pl
import pytest
from pydantic import BaseModel, ConfigDict

from ml_assets.cli.console.progress import Progress
from ml_assets.contracts.decisions import Promotion
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import Manifest
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.sealing import seal
from ml_assets.lake.store import Lake, Origin
from ml_assets.orchestration.flow import Flow, Span
from ml_assets.orchestration.runs import InProcess
from tests.event_logs import ephemeral_instance
from tests.flights import DEFS, build

DAY = date(2013, 1, 1)
FLOWN = Days(first=date(2013, 1, 1), last=date(2013, 2, 10))


class Note(BaseModel):
    """A record as small as one can be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    amount: float = 0.0


@dataclass(frozen=True)
class Study:
    """An artifact of all three kinds of parts: a frame, a record and text."""

    table: pl.DataFrame
    note: Note
    story: str


def frame(*rows: int) -> pl.DataFrame:
    """Return a frame of numbers and words."""
    return pl.DataFrame({"n": rows, "word": [f"w{n}" for n in rows]}, schema={"n": pl.Int64, "word": pl.String})


def dated(*days: date, rows: int = 2) -> pl.DataFrame:
    """Return a by-day frame with some rows each day."""
    return pl.DataFrame(
        {"day": [day for day in days for _ in range(rows)], "n": [*range(rows * len(days))]},
        schema={"day": pl.Date, "n": pl.Int64},
    )


def study(*, text: str = "a note", story: str = "once upon a time") -> Study:
    """Return an artifact with every kind of part."""
    return Study(frame(1, 2), Note(text=text, amount=0.1), story)


def put(
    lake: Lake, artifact: object, *, asset: str = "shop/orders", partition: str | None = None, **making: Any
) -> Manifest:
    """Keep an artifact in the lake, with as much of an origin as the test gives."""
    return lake.put(asset, partition, artifact, Origin(**making))


class OneLedger(LakeResource):
    """A lake whose stages share one ledger, so that a test can read what they recorded.

    Dagster copies a resource for every call, so the ledger is found by its name.
    """

    name: str = ""

    def ledger(self) -> StepLedger:
        """Return the ledger."""
        return _LEDGERS.setdefault((self.url, self.name), StepLedger(self.connect()))


_LEDGERS: dict[tuple[str, str], StepLedger] = {}


def days(first: date, count: int) -> list[date]:
    """Return a number of days in a row."""
    return [first + timedelta(days=n) for n in range(count)]


def promotion(number: int, *, champion: str | None = "a" * 32, model: str = "flight_delay") -> Promotion:
    """Return an entry of the promotion log."""
    return Promotion(
        number=number, model=model, action="promote" if champion else "reject", champion=champion,
        challenger=champion or "b" * 32, reasons=("it is better",), decided_at=datetime(2026, 1, 1, tzinfo=UTC),
        decided_by="gate",
    )  # fmt: skip


def files_of(lake: Lake, under: str = "") -> dict[str, bytes]:
    """Return every object of a lake on disk with its bytes."""
    root = Path(lake.url) / under
    return {str(path.relative_to(lake.url)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def forget_promotions(root: Path) -> None:
    """Remove a model's promotion log from a lake on disk, with what names its entries: as if nothing was decided."""
    shutil.rmtree(root / "promotions")
    for asset in ("predictions", "champion"):
        shutil.rmtree(root / "artifacts" / "flight_delay" / asset, ignore_errors=True)


class _Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


def sealed(record: Mapping[str, Any]) -> bytes:
    """Return JSON that ends with its own digest."""
    own = {name: value for name, value in record.items() if name not in {"format_version", "digest"}}
    return seal(_Anything.model_validate(own))


def of_newer_format(text: bytes) -> bytes:
    """Return a sealed text as the next version of the format would write it."""
    body, _, _ = text.replace(b'"format_version": 1', b'"format_version": 2', 1).rpartition(b',\n "digest": "')
    return body + f',\n "digest": "{hashlib.blake2b(body, digest_size=16).hexdigest()}"\n}}\n'.encode()


def overwrite(lake: Lake, path: str, data: bytes) -> None:
    """Write an object as the lake does, and replace the existing one."""
    lake.write(path, lambda file: file.write(data))


def flights_declared(
    *,
    task: Literal["binary", "regression", "multiclass"] = "binary",
    days: Days = FLOWN,
    raw: Mapping[str, Mapping[str, Any]] | None = None,
    **changes: Any,
) -> Declared:
    """Return the example's declarations over a few weeks and with hardly any budget.

    `raw` replaces fields of the declared sources; `changes` replaces fields of the model, over those set here.
    """
    whole = read_all(DEFS)
    target = {"binary": "is_late", "regression": "arrival_delay_minutes", "multiclass": "delay_class"}[task]
    metric = {"binary": "roc_auc", "regression": "rmse", "multiclass": "multi_log_loss"}[task]
    of_task = {} if task == "binary" else {"within": None, "operating_point": None}
    given = whole.model("flight_delay").model_dump(mode="json")
    small: dict[str, Any] = {
        "name": {"binary": "flight_delay", "regression": "flight_minutes", "multiclass": "flight_class"}[task],
        "task": task,
        "days": days.model_dump(mode="json"),
        "labels": {**given["labels"], "target": target},
        "split": {"validation_days": 7, "test_days": 14},
        "importances": {"rows": 1000, "folds": 2},
        "tuning": {"metric": metric, "trials": 2, "max_rounds": 40, "early_stopping_rounds": 5},
        "evaluation": {**given["evaluation"], **of_task, "metric": metric, "baselines": [["origin", "dest"]]},
        "gate": {"margin": 0.005, "min_rows": 500},
        "leak_test": {"samples": 0},
    }
    model = ModelDeclaration.model_validate({**given, **small, **changes})
    sources = whole.raw[0].model_dump(mode="json")
    for name, fields in (raw or {}).items():
        sources["tables"][name] |= fields
    return Declared(
        models=(model,),
        raw=(RawDeclaration.model_validate({**sources, "days": days.model_dump(mode="json")}),),
        tables=(TablesDeclaration(days=days),),
    )


@dataclass(frozen=True)
class Project:
    """One code location over a lake, ready to run."""

    declared: Declared
    lake: LakeResource
    defs: dg.Definitions
    instance: dg.DagsterInstance
    log: io.StringIO

    @property
    def model(self) -> ModelDeclaration:
        """The one declared model."""
        return self.declared.models[0]

    @property
    def flow(self) -> Flow:
        """The flow of the model, as the command runs it."""
        return Flow(self.defs, self.declared, self.model, self.lake.connect(), InProcess(self.defs, self.instance))

    def run(self, *, as_of: str | None = None, first: str | None = None, last: str | None = None) -> list[str]:
        """Run the whole flow as the command does, and return its output.

        Raises:
            AssertionError: a run failed.
        """
        lines: list[str] = []
        assert self.flow.run(Span.of(self.model, as_of=as_of, first=first, last=last), lines.append), (
            self.log.getvalue()
        )
        return lines

    def materialize(
        self, *assets: str, over: tuple[str, str] | None = None, config: Mapping[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets in one run, over a range of days where they have days."""
        tags = {} if over is None else {"dagster/asset_partition_range_start": over[0],
                                        "dagster/asset_partition_range_end": over[1]}  # fmt: skip
        ops = {name.replace("/", "__"): {"config": dict(values)} for name, values in (config or {}).items()}
        return self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(name.split("/")) for name in assets],
            tags=tags,
            run_config={"ops": ops, "loggers": {"console": {}}},
            raise_on_error=False,
        )


@contextmanager
def project(lake: LakeResource, declared: Declared, **building: Any) -> Iterator[Project]:
    """Give a code location whose runs are forgotten afterwards."""
    progress = Progress(io.StringIO())
    with ephemeral_instance() as instance:
        defs = build(lake=lake, declared=declared, loggers=progress.loggers(), **building)
        yield Project(declared, lake, defs, instance, progress.stream)


def _blank(_: object, file: io.StringIO, **__: object) -> None:
    file.write('<svg viewBox="0 0 1 1"></svg>')


@contextmanager
def nothing_rendered() -> Iterator[None]:
    """Let plots be put together as ever, but not rendered: that takes half of a small flow's time.

    It is matplotlib that is replaced, so the stages keep their code versions.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", _blank)
        yield


def failure(result: dg.ExecuteInProcessResult) -> tuple[str, str]:
    """Return the step that failed first, and the message of the error that its code raised.

    Raises:
        AssertionError: nothing failed.
    """
    failed = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert failed, "no step failed"
    error = failed[0].step_failure_data.error
    assert error is not None
    while error.cls_name.startswith("Dagster") and error.cause is not None:
        error = error.cause
    return str(failed[0].step_key), error.message
