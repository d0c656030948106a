"""Each kind of file that a lake holds, damaged in each way: a reader, `doctor` or garbage collection names it."""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from ml_assets.alerts.alert import Alert
from ml_assets.alerts.outbox import Outbox
from ml_assets.contracts.artifacts.card import Card
from ml_assets.contracts.decisions import Retraining
from ml_assets.doctor.lake import promotion_logs
from ml_assets.doctor.order import order
from ml_assets.lake.errors import CorruptArtifactError, LakeError
from ml_assets.lake.manifest import ArtifactRef, Cost
from ml_assets.lake.manifests import REMOVED
from ml_assets.lake.origin import current_environment, load_environment
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.sealed_frame import read_frame, write_frame
from ml_assets.lake.sealing import seal
from ml_assets.lake.steps import StepRecord, failures_of, last_attempt, store_failure, store_step
from ml_assets.lake.store import Lake
from ml_assets.provenance.gc.mark import Policy
from ml_assets.provenance.gc.sweep import collect, look
from ml_assets.provenance.lineage import backward, ref_of
from ml_assets.provenance.reproduction import ReproductionVerdict, last_verdict, store_verdict
from tests.alerts.test_outbox import NOTHING, Bell, refuse
from tests.builders import Note, frame, promotion, put, sealed
from tests.damage import KINDS, WAYS, by_kind

NOW = datetime.now(tz=UTC)
LATER = NOW + timedelta(days=200)
MODELS = ("shop", "toys")

AS_IF_NEVER_WRITTEN = (
    "study", "failed attempt", "reproduction", "retraining", "alert to be sent", "try to send an alert",
    "note of a removal",
)  # fmt: skip


@dataclass(frozen=True)
class Rows:
    rows: pl.DataFrame


@dataclass(frozen=True)
class Trained:
    booster: str
    spec: Note
    contract: Note
    reference: pl.DataFrame


@dataclass(frozen=True)
class Evaluated:
    summary: Note
    slices: pl.DataFrame


ARTIFACTS: dict[str, Callable[[int], object]] = {
    "training_set": lambda n: Rows(frame(n)),
    "model": lambda n: Trained(f"tree {n}", Note(text=f"spec {n}"), Note(text=f"contract {n}"), frame(n, n)),
    "evaluation": lambda n: Evaluated(Note(text=f"evaluation {n}"), frame(n)),
    "features__leak_test": lambda n: Note(text=f"leaks {n}"),
    "predictions": frame,
    "card": lambda n: Card(f"<p>{n}</p>"),
}
TABLES = ("raw/orders", "tables/orders", "raw/orders__quarantine", "raw/orders__rejected", "raw/orders__released")


@dataclass
class Filled:
    """A lake and what was put into it."""

    lake: Lake
    made: dict[ArtifactRef, type] = field(default_factory=dict)

    def put(self, asset: str, artifact: object, **options: object) -> ArtifactRef:
        ref = put(self.lake, artifact, asset=asset, **options).ref
        self.made[ref] = type(artifact)
        return ref


def filled(root: Path) -> Filled:
    found = Filled(Lake(str(root)))
    lake = found.lake
    for n in (1, 2, 3):
        put(lake, frame(n), asset="raw/gone")
    found.made[lake.find("raw/gone")] = pl.DataFrame
    collect(lake, Policy(LATER, 0), lambda _: None)
    for table in TABLES:
        for n in (1, 2):
            found.put(table, frame(n), partition=f"2013-01-0{n}")
    for n, model in enumerate(MODELS, start=1):
        refs = {stage: found.put(f"{model}/{stage}", ARTIFACTS[stage](n)) for stage in ("training_set", "model")}
        entry = promotion(1, model=model, champion=refs["model"].version)
        PromotionLog(lake, model).append(entry, number=1)
        head = PromotionLog(lake, model).verified().head
        for stage in ("evaluation", "features__leak_test", "predictions", "card"):
            found.put(
                f"{model}/{stage}", ARTIFACTS[stage](n), parameters={"promotion_log_entry": head and head.model_dump()}
            )
        store_step(lake, StepRecord(run_id=f"run-{n}", step="x", retry_number=0, assets=("y",), started_at=NOW))
        store_failure(lake, f"run-{n}", "x", 0, Cost(seconds=n))
        write_frame(lake, lake.path("studies", model, f"{n:032d}.json"), frame(n))
        store_verdict(lake, verdict(refs["model"]))
        assert RetrainingLog(lake, model).claim(retraining(model))
    environment_of_another(lake)
    for alert in alerts():
        outbox(lake, Bell(before=refuse)).send([alert])
    return found


def environment_of_another(lake: Lake) -> None:
    other = current_environment().model_copy(update={"digest": "f" * 32})
    lake.create(lake.path("environments", f"{'f' * 32}.json"), seal(other))


def verdict(ref: ArtifactRef) -> ReproductionVerdict:
    return ReproductionVerdict(
        model=ref.asset.split("/")[0], version=ref.version, start="raw", is_equal=True, outcomes=(), environment="e",
        seconds=1.0, decided_at=NOW,
    )  # fmt: skip


def retraining(model: str) -> Retraining:
    return Retraining(
        model=model, as_of=date(2013, 1, 1), number=1, cause="drift", sentence="It has drifted.", champion="a" * 32,
        requested_at=NOW, requested_by="drift",
    )  # fmt: skip


def alerts() -> list[Alert]:
    return [
        Alert(kind="run_failed", subject=model, title=model, body="It failed.", key=f"run/{model}", occurred_at=NOW)
        for model in MODELS
    ]


def outbox(lake: Lake, bell: Bell) -> Outbox:
    return Outbox(
        lake, [bell], redact=NOTHING, per_hour=20, base_url="", log=logging.getLogger("damaged"), clock=lambda: LATER
    )


def _messages(found: Filled, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """Yield what readers, `doctor` and garbage collection say of a lake."""
    lake, resource = Lake(found.lake.url), LakeResource(url=found.lake.url)
    models = [ref for ref in found.made if ref.asset.endswith("/model")]
    readers: list[Callable[[], object]] = [
        *(partial(lake.get, ref, kind) for ref, kind in found.made.items()),
        *(partial(lake.removal, ref) for ref in _refs_removed(lake)),
        *(PromotionLog(lake, model).verified for model in MODELS),
        *(partial(last_attempt, lake, run, "y") for run in ("run-1", "run-2")),
        *(partial(list, failures_of(lake, run)) for run in ("run-1", "run-2")),
        *(partial(load_environment, lake, digest) for digest in (current_environment().digest, "f" * 32)),
        *(partial(read_frame, lake, lake.path(path)) for path in lake.tree(lake.url) if path.startswith("studies/")),
        *(partial(last_verdict, lake, ref.asset.split("/")[0], ref.version) for ref in models),
        *(partial(RetrainingLog(lake, model).newest, 5) for model in MODELS),
        partial(outbox(lake, Bell()).send, []),
        partial(look, lake, Policy(NOW)),
        partial(collect, lake, Policy(NOW), lambda _: None),
    ]
    for read in readers:
        try:
            read()
        except LakeError as error:
            yield str(error)
    lineage = backward(lake, _refs_removed(lake))
    yield from (f"{ref_of(key)}: {node.problem}" for key, node in lineage.nodes.items() if node.state != "removed")
    for check in (partial(promotion_logs, resource), partial(order, resource)):
        yield from (finding.text for finding in check() if finding.state != "ok")
    yield from (str(record.exc_info) for record in caplog.records)


def _refs_removed(lake: Lake) -> list[ArtifactRef]:
    folders = {path.rpartition("/")[0] for path in lake.tree(lake.path(REMOVED))}
    return [ArtifactRef(asset="raw/gone", version=folder.rpartition("/")[2]) for folder in folders]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A lake that holds each kind of file at least twice."""
    return filled(tmp_path_factory.mktemp("whole") / "lake")


def copy_of(whole: Filled, root: Path) -> Filled:
    return Filled(Lake(str(shutil.copytree(whole.lake.url, root))), whole.made)


def test_every_kind_of_file_is_there_and_nothing_is_wrong(
    whole: Filled, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = by_kind(whole.lake.tree(whole.lake.url))

    assert {*KINDS} - {"lock", "record of another artifact"} == {*found}
    assert {} == {kind: paths for kind, paths in found.items() if len(paths) < 2}
    assert [] == [*_messages(copy_of(whole, tmp_path / "lake"), caplog)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", sorted({*KINDS} - {"lock", "record of another artifact", "alert"}))
def test_a_damaged_file_is_noticed(
    whole: Filled, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, way: str
) -> None:
    # Of the record of an alert only the name is used.
    found = copy_of(whole, tmp_path / "lake")
    first, second = by_kind(found.lake.tree(found.lake.url))[kind][:2]
    path, other = Path(found.lake.path(first)), Path(found.lake.path(second))
    data = WAYS[way](path.read_bytes(), other.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)

    text = "\n".join(_messages(found, caplog))

    if way == "deleted" and kind in AS_IF_NEVER_WRITTEN:
        assert "" == text
        return
    named = (first, *(part[:12] for part in first.split("/")[1:-1] if len(part) > 4))
    assert any(name in text for name in named), (first, text)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in {"deleted", "replaced by another"}])
def test_garbage_collection_does_not_begin_over_a_damaged_lock(tmp_path: Path, way: str) -> None:
    lake = Lake(str(tmp_path))
    holder = {"host": "here", "pid": 1, "since": NOW.isoformat(), "id": "a"}
    lake.create(lake.path("locks/gc/000001.json"), WAYS[way](sealed(holder), b"") or b"")

    with pytest.raises(CorruptArtifactError, match=r"locks/gc/000001\.json"):
        collect(lake, Policy(NOW), lambda _: None)
