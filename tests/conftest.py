"""Fixtures that cost something: a pretended S3, dbt's manifest, and one whole run of the flow.

Frames and records stay out; see `tests.builders`.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

# As the command sets it: LightGBM's threads otherwise spin while they wait for a busy core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# How long an example takes depends on who shares the cores; it says nothing about the code.
settings.register_profile("ml-assets", deadline=None)
settings.load_profile("ml-assets")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all of pytest's workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[str], Mapping[str, Any]]]:
    """Make a bucket in a pretended S3 and give the options a lake needs to reach it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "key": "key",
        "secret": "secret",
        "endpoint_url": f"http://{host}:{port}",
        "client_kwargs": {"region_name": "us-east-1"},
    }

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
    from ml_assets.definitions import DBT_PROJECT, read_manifest
    from resources.dbt import prepare_manifest

    with FileLock(shared / "manifest.lock"):
        prepare_manifest(DBT_PROJECT)
        return read_manifest(DBT_PROJECT)


@pytest.fixture(scope="session")
def flown(shared: Path, manifest: Mapping[str, Any]) -> Path:
    """A lake in which the whole flow ran once, raw to card, over six weeks of real flights; never write to it.

    It takes half a minute, so whichever worker comes first runs it and the others wait.
    """
    from resources.lake_resource import LakeResource
    from tests.builders import flights_declared, project

    lake, said = shared / "flown", shared / "flown.txt"
    with FileLock(shared / "flown.lock"):
        if not said.exists():
            shutil.rmtree(lake, ignore_errors=True)
            with project(LakeResource(url=str(lake)), flights_declared(), manifest=manifest) as whole:
                said.write_text("\n".join(whole.run()), encoding="utf-8")
    return lake


@pytest.fixture
def own_flown(flown: Path, tmp_path: Path) -> Path:
    """A copy of the lake in which the flow ran, to write to."""
    return Path(shutil.copytree(flown, tmp_path / "lake"))
