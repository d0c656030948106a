"""A pretended cluster, a Dagster instance that launches runs in it, and runs of the location there.

Each test decides what becomes of its pods.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from tests.adapters.dagster import ReconstructableRepository, execute_run_iterator
from tests.kubernetes.pretended import PretendedCluster, pretended_cluster

LOCATION = Path(__file__).parent / "location.py"
LAUNCHER = {
    "service_account_name": "shop", "instance_config_map": "dagster-instance", "job_namespace": "shop",
    "job_image": "shop:1", "load_incluster_config": False, "env_secrets": ["s3"], "run_memory_ceiling": "4Gi",
    "image_pull_secrets": [{"name": "private"}],
    "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
}  # fmt: skip


@dataclass
class Shop:
    """A location whose runs are jobs of a pretended cluster."""

    cluster: PretendedCluster
    instance: dg.DagsterInstance
    folder: Path

    @property
    def repository(self) -> ReconstructableRepository:
        return ReconstructableRepository.for_file(str(LOCATION), "defs")

    def create(self, *assets: str, **options: Any) -> dg.DagsterRun:
        """Return a run over some assets, as a launcher creates it."""
        job = self.repository.get_reconstructable_job("__ASSET_JOB")
        keys = frozenset(dg.AssetKey(name) for name in assets)
        return self.instance.create_run_for_job(
            job.get_subset(asset_selection=keys).get_definition(),
            asset_selection=keys,
            job_code_origin=job.get_python_origin(),
            **options,
        )

    def work(self, run: dg.DagsterRun, *, resumes: bool = False) -> dg.DagsterRun:
        """Do what a run's pod does, in this process, and return the run as it then is."""
        job = self.repository.get_reconstructable_job(run.job_name)
        list(execute_run_iterator(job, run, self.instance, resume_from_failure=resumes))
        return self.now(run)

    def now(self, run: dg.DagsterRun) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return found

    def messages(self, run: dg.DagsterRun, *kinds: str) -> list[str]:
        """Return the events of some kinds in the run's log, with the errors' messages."""
        found = []
        for entry in self.instance.all_logs(run.run_id):
            event = entry.dagster_event
            if event is None or event.event_type_value not in kinds:
                continue
            error = getattr(event.event_specific_data, "error", None)
            found.append(f"{event.step_key}: {error.message if error else event.message}")
        return found

    @property
    def done(self) -> list[tuple[str, bool]]:
        """The steps that ran, and whether each ran in this process."""
        lines = (self.folder / "done").read_text(encoding="utf-8").splitlines()
        return [(line.split()[0], int(line.split()[1]) == os.getpid()) for line in lines]


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of Dagster's whose databases are made: their schema takes three seconds."""
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}", encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs(limit=1)
        instance.all_instigator_state()
        instance.event_log_storage.get_maximum_record_id()
    return home


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_home: Path) -> Iterator[Shop]:
    monkeypatch.setenv("SHOP", str(tmp_path))
    monkeypatch.setattr("ml_assets.kubernetes.fused.POLL_SECONDS", 0.05)
    monkeypatch.setattr("ml_assets.kubernetes.fused.HEALTH_SECONDS", 0)
    home = Path(shutil.copytree(empty_home, tmp_path / "home"))
    with pretended_cluster(tmp_path) as cluster:
        config = {**LAUNCHER, "kubeconfig_file": str(tmp_path / "kubeconfig"), "dagster_home": str(home)}
        settings = {
            "run_launcher": {"module": "ml_assets.kubernetes.launcher", "class": "PodLauncher", "config": config},
            "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
            "telemetry": {"enabled": False},
        }
        (home / "dagster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield Shop(cluster, instance, tmp_path)
