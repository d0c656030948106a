"""Today's code reads a project and a lake that release 0.1.0 wrote; see `tests/golden_0_1_0/write.py`."""

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_series_equal

import ml_assets
from ml_assets.cli.flow.project import prepare, read_declarations
from ml_assets.cli.main import main
from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.monitoring import DailyDrift, DailyPerformance
from ml_assets.contracts.artifacts.training import Importances, Model, Tuning
from ml_assets.contracts.artifacts.training import TrainingSet as StoredTrainingSet
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.leaks import LeakTestRecord
from ml_assets.lake.content import content_version, parts_of
from ml_assets.lake.manifest import Manifest
from ml_assets.lake.order import MANIFEST_NAME
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.store import Lake
from ml_assets.names import prefixed
from ml_assets.orchestration.location import Overrides, load_definitions
from ml_assets.project import PROJECT
from ml_assets.provenance.lineage import backward
from tests.golden_0_1_0.write import ARCHIVE, AS_OF, MODEL

TRAINING: Final = {"training_set", "importances", "tuning", "model", "evaluation", "champion"}
MOST_BYTES: Final = 2**20


_SAFELY: Mapping[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python 3.11.4 and later can refuse paths outside of the folder."""


def own_modules() -> list[str]:
    """Return the imported modules of a project's own packages."""
    return [name for name in sys.modules if name.split(".")[0] in {"resources", "sensors"}]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project, upgraded to today's declarations."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(ARCHIVE) as file:
        file.extractall(folder, **_SAFELY)  # noqa: S202 - this repository's own archive
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROJECT, str(folder / "shop"))
        patch.setenv("ML_ASSETS_LAKE", str(folder / "shop" / ".lake"))
        patch.setenv("DAGSTER_HOME", str(folder / "home"))
        for name in ("OMP_WAIT_POLICY", "DAGSTER_EVENT_BATCH_SIZE"):
            patch.setenv(name, os.environ.get(name, "500"))
        patch.setattr("ml_assets.project._built", None)
        for name in own_modules():  # this repository's, which have the same names
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(folder / "shop")
        assert 0 == main(["upgrade"])
        prepare()
        yield folder / "shop"
        for name in own_modules():  # those of the archive
            del sys.modules[name]


@pytest.fixture
def lake(project: Path) -> Lake:
    return Lake(str(project / ".lake"))


def champion_of(lake: Lake) -> Promotion:
    return PromotionLog(lake, MODEL).verified().entries[-1]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert 0 == main([*arguments])
    return capsys.readouterr().out


def keys_of(tick: Any) -> set[str]:
    """Return the assets that a tick of a sensor or a schedule requests."""
    return {key.to_user_string() for it in tick.run_requests or () for key in it.asset_selection or ()}


def test_the_archive_is_small() -> None:
    assert ARCHIVE.stat().st_size < MOST_BYTES


def test_the_declarations_are_read(project: Path) -> None:
    declared = read_declarations()

    assert (MODEL, "regression", "mae") == (declared.only_model().name, declared.only_model().task, "mae")
    assert {"rentals", "holidays"} == {name for raw in declared.raw for name in raw.tables}


def test_the_log_is_verified_and_the_command_shows_it(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    entries = PromotionLog(lake, MODEL).verified().entries
    text = printed(capsys, "champion", MODEL)

    assert [("promote", "gate"), ("reject", "gate"), ("promote", "ada"), ("rollback", "ada")] == [
        (it.action, it.decided_by) for it in entries
    ]
    assert "the first model is preferred" in text
    assert f"{MODEL}: {entries[0].challenger} is the champion, since " in text


def test_the_record_of_a_requested_retraining_is_read(lake: Lake) -> None:
    [record] = RetrainingLog(lake, MODEL).newest(9)

    assert (AS_OF[1], "drift", "drift") == (str(record.as_of), record.cause, record.requested_by)


def test_every_manifest_is_read_and_the_lineage_of_the_champion_is_complete(lake: Lake) -> None:
    root = lake.path("artifacts")
    paths = [f"{root}/{it}" for it in lake.tree(root) if MANIFEST_NAME.fullmatch(it.rsplit("/", 1)[-1])]
    manifests = [Manifest.read(lake.read(path), path) for path in paths]
    assert len(manifests) > 100

    days = [
        ref for asset in ("predictions", "drift", "performance") for ref in lake.newest(f"{MODEL}/{asset}").values()
    ]
    lineage = backward(lake, [lake.find(f"{MODEL}/champion"), *days])

    assert [] == [*lineage.problems]
    assert {"present"} == {node.state for node in lineage.nodes.values()}


def test_the_champion_scores_its_stored_rows_as_then(lake: Lake) -> None:
    champion = champion_of(lake).champion
    own = ml_assets.load_artifact(MODEL, "predictions").filter(pl.col("model_version") == champion)
    again = ml_assets.load_champion(MODEL).predict(own.select("features").unnest("features"))

    assert own.height > 24
    assert_series_equal(own["score"], again["score"], abs_tol=1e-12, rel_tol=0)


def test_the_training_set_of_the_champion_is_built_again_in_a_notebook(lake: Lake) -> None:
    stored: StoredTrainingSet = ml_assets.load_artifact(MODEL, "training_set", version="champion")

    found = ml_assets.load_training_set(MODEL, stored.summary.as_of)

    assert content_version(parts_of(stored)) == content_version(parts_of(found))


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        ("training_set", StoredTrainingSet), ("importances", Importances), ("tuning", Tuning), ("model", Model),
        ("evaluation", Evaluation), ("drift", DailyDrift), ("performance", DailyPerformance),
        ("features__leak_test", LeakTestRecord),
    ],
)  # fmt: skip
def test_every_kind_of_artifact_is_read(lake: Lake, stage: str, kind: type) -> None:
    for ref in lake.newest(f"{MODEL}/{stage}").values():
        assert isinstance(lake.get(ref, kind), kind)


def test_trace_and_quarantine_show_what_is_stored(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "trace", MODEL)
    assert "champion now, since" in text
    assert "raw/rentals" in text

    [aside] = json.loads(printed(capsys, "quarantine", "--json"))
    assert ("raw/rentals", 1) == (aside["table"], aside["rows"])


def test_explain_names_the_champion(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(printed(capsys, "explain", MODEL).split())

    assert f"{MODEL}: the champion is {champion_of(lake).champion}, trained as of {AS_OF[0]}" in text


def test_an_engine_that_computes_otherwise_updates_tables_and_trains_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("asset", "raw", "tables"):
        monkeypatch.setattr(f"ml_assets.stages.{module}.code_version", lambda _: "of a later release")
    definitions = load_definitions(Overrides())
    repository = definitions.get_repository_def()
    given: dict[str, Any] = {"repository_def": repository, "resources": definitions.resources}

    requested: dict[str, set[str]] = {}
    with dg.DagsterInstance.ephemeral() as instance:
        for name in ("updates", "drift", "performance", "watch"):
            with dg.build_sensor_context(instance, **given) as context:
                requested[name] = keys_of(repository.get_sensor_def(prefixed(name)).evaluate_tick(context))
        # A schedule's context accepts only instances that other processes can open.
        monkeypatch.setattr(dg.ScheduleEvaluationContext, "instance", instance)
        with dg.build_schedule_context(scheduled_execution_time=datetime.now(tz=UTC), **given) as context:
            floor = repository.get_schedule_def(prefixed("retraining_floor"))
            requested["floor"] = keys_of(floor.evaluate_tick(context))

    updated = requested.pop("updates")
    assert "tables/stg_rentals" in updated
    assert set() == updated & {f"{MODEL}/{stage}" for stage in TRAINING}
    assert {"drift": set(), "performance": set(), "watch": set(), "floor": set()} == requested


def test_the_promotion_log_continues(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(project / ".lake", tmp_path / "lake", copy_function=os.link)
    monkeypatch.setenv("ML_ASSETS_LAKE", str(tmp_path / "lake"))
    lake = Lake(str(tmp_path / "lake"))
    before = PromotionLog(lake, MODEL).verified()
    other = next(it.challenger for it in before.entries if it.challenger != before.entries[-1].champion)

    printed(capsys, "promote", MODEL, other, "--why", "a newer release promotes it", "--by", "bob")

    entries = PromotionLog(lake, MODEL).verified().entries
    assert before.head is not None
    assert (before.head.number + 1, before.head.digest, other) == (
        entries[-1].number, entries[-1].previous_digest, entries[-1].champion
    )  # fmt: skip
