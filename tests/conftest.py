"""Fixtures that cost something: a pretended S3, dbt's manifest, and one whole run of the flow.

Frames and records stay out; see `tests.builders`.
"""

import atexit
import gc
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from ml_assets.lake.store import Lake
    from tests.killing import Undisturbed

# Containers often set PYTHONDONTWRITEBYTECODE. Each of pytest's workers would then rewrite the assertions of all tests
# again, 7 s of CPU, and each process that a test starts would compile the engine again, 1 s.
sys.dont_write_bytecode = False

# Hardly anything that the collection of tests creates is garbage: the collector would look through it for 2 s.
gc.disable()

# A worker ends when its results are sent, without freeing its modules one by one: 2 s, after which DuckDB sometimes
# reports the objects of its own module as leaked. Handlers that are registered later have run by then.
IS_WORKER: Final = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:
    atexit.register(os._exit, 0)

# LightGBM's threads do not spin while they wait: pytest's workers keep all cores busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# As the command sets it, too: one by one, the events of a run take five times as long on SQLite.
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")

# What a shell has set for a real project would send the tests' alerts to its channels and write to its lake.
KEPT: Final = "ML_ASSETS_ALL_FAULTS"
for name in [it for it in os.environ if it.startswith(("ML_ASSETS_", "DAGSTER_HOME")) and it != KEPT]:
    del os.environ[name]

# How long an example takes depends on other processes on the cores, not on the code.
settings.register_profile("ml-assets", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ml-assets")


TOGETHER: Final = (
    ("tests/test_flow.py", "tests/stages/test_bad_input.py", "tests/cli/test_reproduce.py", "tests/cli/test_replay.py",
     "tests/provenance/test_replay.py", "tests/cli/test_promotion.py", "tests/cli/test_gc.py", "tests/test_resume.py",
     "tests/automation/test_retraining_flow.py", "tests/cli/test_simulate.py", "tests/cli/test_reproduce_inexact.py"),
    ("tests/dbt_project/", "tests/test_leaks.py", "tests/warehouse/test_rebuild.py",
     "tests/warehouse/test_dbt_server.py"),
    ("tests/test_killed.py", "tests/test_s3_down.py", "tests/automation/test_updates_flow.py",
     "tests/test_golden_flow.py"),
    ("tests/test_golden.py",),
    ("tests/stages/checks/test_table_checks.py",),
    ("tests/stages/test_champion.py", "tests/stages/test_model_stages.py", "tests/stages/test_monitoring.py"),
    ("tests/test_golden_0_1_0.py",),
    ("tests/logic/pages/test_card.py", "tests/models/test_former_champion.py"),
    ("tests/logic/training/test_importances.py",),
    ("tests/postgres/", "tests/cli/flow/test_dagster_server.py"),
)  # fmt: skip
"""Files that share what is dear to make, and so a worker; the longest begin first.

pytest-xdist's own groups do nothing under pytest 9.2, whose node ids its suffixes no longer reach.
"""


LONG: Final = (
    "tests/automation/test_arrivals.py::test_a_thousand_days",
    "tests/automation/test_arrivals.py::test_each_content_of_a_day", "tests/automation/test_landing_order.py",
    "tests/automation/test_retraining_events.py", "tests/automation/test_retraining_flow.py",
    "tests/automation/test_updates.py", "tests/automation/test_updates_flow.py",
    "tests/cli/flow/test_dagster_server.py", "tests/cli/test_main.py::test_a_step_that_fails_ends_the_run",
    "tests/cli/test_replay.py", "tests/cli/test_reproduce.py", "tests/cli/test_reproduce_inexact.py",
    "tests/cli/test_simulate.py", "tests/dbt_project/test_dbt_project.py", "tests/kubernetes/test_fused.py",
    "tests/lake/test_order.py", "tests/lake/test_promotion_log.py::test_of_fifty_concurrent_promotions",
    "tests/lake/test_s3_faults.py", "tests/models/test_shared_search.py", "tests/postgres/test_daemon.py",
    "tests/postgres/test_studies.py", "tests/provenance/gc/test_sweep.py", "tests/provenance/test_replay.py",
    "tests/serving/test_conformance.py::test_schemathesis", "tests/serving/test_soak.py",
    "tests/stages/checks/test_table_checks.py", "tests/stages/test_bad_input.py",
    "tests/stages/test_code_of_training.py", "tests/test_distribution.py::test_without_extras",
    "tests/test_existing_project.py", "tests/test_flow.py", "tests/test_for_each.py", "tests/test_golden_flow.py",
    "tests/test_grains.py", "tests/test_host.py", "tests/test_hours.py",
    "tests/test_init_project.py", "tests/test_killed.py",
    "tests/test_leaks.py", "tests/test_resume.py", "tests/test_s3_down.py", "tests/warehouse/test_dbt_server.py",
    "tests/warehouse/test_rebuild.py",
)  # fmt: skip
"""Files and tests that run whole flows, or dbt or a writer many times: through kills and outages, on other hosts, again
from manifests. They take half of the time, and have the marker `long`: `make test-long` runs them."""


def _group_of(nodeid: str) -> int:
    return next((n for n, files in enumerate(TOGETHER) if nodeid.startswith(files)), len(TOGETHER))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long tests, and let what takes longest begin first."""
    for item in items:
        if item.nodeid.startswith(LONG):
            item.add_marker("long")
    items.sort(key=lambda item: (_group_of(item.nodeid), not item.nodeid.startswith(LONG)))


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name bytes by their argument: archives hold the time they were made at, and all workers must name tests alike."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_finish() -> None:
    """Spare the garbage collector the modules and the thousands of tests, which all stay, and some of its looks."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


def pytest_unconfigure() -> None:
    """Let the garbage collector see all objects: otherwise DuckDB reports its own as leaked when the process ends."""
    if not IS_WORKER:
        gc.unfreeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Rewrite the assertions of tests that have changed once, before the workers start: each would rewrite all, 7 s."""
    from tests.adapters.pytest import (
        PYC_TAIL,
        AssertionState,
        _read_pyc,
        _rewrite_test,
        _write_pyc,
        get_cache_dir,
        try_makedirs,
    )

    state = AssertionState(config, "rewrite")
    for path in Path(__file__).parent.rglob("test_*.py"):
        folder = get_cache_dir(path)
        cached = folder / f"{path.stem}{PYC_TAIL}"
        if _read_pyc(path, cached) is None and try_makedirs(folder):
            digest, code = _rewrite_test(path, config)
            _write_pyc(state, code, digest, cached)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each group of files to one worker, and all other tests to any free worker."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group = _group_of(nodeid)
            return nodeid if group == len(TOGETHER) else str(group)

    config.option.loadscopereorder = False
    return Scheduler(config, log)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all of pytest's workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test find the modules of a project that another one loaded: loading puts it on the path of Python."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="session", autouse=True)
def no_waiting() -> Iterator[None]:
    """Spare the thousands of small writes of a flow the wait for the disk: no test pulls the plug."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fdatasync", id)
        patch.setattr("os.fsync", id)
        yield


@pytest.fixture(scope="session", autouse=True)
def migrations_read_once() -> Iterator[None]:
    """Spare every Dagster instance the import of Dagster's migrations, 89 files: 0.15 s, and hundreds are created."""
    from alembic.script import ScriptDirectory

    read: dict[str | None, ScriptDirectory] = {}
    from_config = ScriptDirectory.from_config

    def remembered(config: Any) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in read:
            read[folder] = from_config(config)
        return read[folder]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", remembered)
        yield


@pytest.fixture(scope="session", autouse=True)
def render() -> Iterator[Callable[..., Any]]:
    """Let plots be drawn but not rendered, which takes half of a small flow's time; return what renders them.

    The flow of `flown` and the tests of plots and pages render them: see `rendered`.
    """
    from matplotlib.figure import Figure

    from tests.builders import nothing_rendered

    real = Figure.savefig
    with nothing_rendered():
        yield real


@pytest.fixture(scope="module")
def rendered(render: Callable[..., Any]) -> Iterator[None]:
    """Render plots in a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", render)
        yield


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[str], Mapping[str, Any]]]:
    """Make a bucket in a simulated S3 and give the options a lake needs to reach it."""
    import boto3

    from tests.s3_server import start_s3_server

    server, address = start_s3_server()
    options = {"key": "key", "secret": "secret", "endpoint_url": address, "client_kwargs": {"region_name": "us-east-1"}}

    def bucket(name: str) -> Mapping[str, Any]:
        client = boto3.client(
            "s3", endpoint_url=options["endpoint_url"], region_name="us-east-1", aws_access_key_id="key",
            aws_secret_access_key="secret",
        )  # fmt: skip
        client.create_bucket(Bucket=name)
        client.close()
        return options

    yield bucket
    server.stop()


@pytest.fixture(scope="session")
def manifest(shared: Path) -> Mapping[str, Any]:
    """dbt's manifest of the project, parsed if it has changed."""
    from ml_assets.warehouse.dbt_manifest import prepare_manifest
    from ml_assets.warehouse.project_contracts import read_manifest
    from tests.flights import DBT_PROJECT

    with FileLock(shared / "manifest.lock"):
        prepare_manifest(DBT_PROJECT)
        return read_manifest(DBT_PROJECT)


@pytest.fixture(scope="session")
def flown(shared: Path, manifest: Mapping[str, Any], render: Callable[..., Any]) -> Path:
    """A lake in which the whole flow ran once, raw to card, over six weeks of real flights; never write to it.

    It takes twenty seconds, so whichever worker comes first runs it and the others wait.
    """
    from ml_assets.lake.resource import LakeResource
    from tests.builders import flights_declared, project
    from tests.entered import entered_by_assets

    lake, said = shared / "flown", shared / "flown.txt"
    with FileLock(shared / "flown.lock"):
        if not said.exists():
            shutil.rmtree(lake, ignore_errors=True)
            with project(LakeResource(url=str(lake)), flights_declared(), manifest=manifest) as whole:
                with pytest.MonkeyPatch.context() as patch, entered_by_assets() as entered:
                    patch.setattr("matplotlib.figure.Figure.savefig", render)
                    lines = whole.run()
                found = {name: sorted(its) for name, its in entered.items()}
                (shared / "entered.json").write_text(json.dumps(found), encoding="utf-8")
                said.write_text("\n".join(lines), encoding="utf-8")
    return lake


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, manifest: Mapping[str, Any]) -> "Undisturbed":
    """The small flow, run once for all modules of a worker; the manifest is what it is built from."""
    from tests.killing import undisturbed_flow

    return undisturbed_flow(tmp_path_factory.getbasetemp() / "undisturbed")


@pytest.fixture
def unrendered() -> Iterator[None]:
    """Spare a test of a module with `rendered` the rendering."""
    from tests.builders import nothing_rendered

    with nothing_rendered():
        yield


@pytest.fixture
def own_flown(flown: Path, tmp_path: Path) -> Path:
    """A copy of the lake in which the flow ran, to write to."""
    return Path(shutil.copytree(flown, tmp_path / "lake"))


@pytest.fixture
def instance() -> Iterator["DagsterInstance"]:
    """An instance of Dagster whose runs are forgotten afterwards."""
    from tests.event_logs import ephemeral_instance

    with ephemeral_instance() as one:
        yield one


_BUCKETS = itertools.count()


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["Lake"]:
    """A lake of storage tests, on a folder and on a pretended S3."""
    from ml_assets.lake.store import Lake

    if request.param == "folder":
        yield Lake(str(tmp_path / "lake"))
        return
    bucket = f"lake-{os.getpid()}-{next(_BUCKETS)}"
    yield Lake(f"s3://{bucket}/deep/root", request.getfixturevalue("s3")(bucket))


@pytest.fixture
def folder(tmp_path: Path) -> "Lake":
    """A lake on a folder."""
    from ml_assets.lake.store import Lake

    return Lake(str(tmp_path / "lake"))
