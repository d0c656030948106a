"""The engine beside a host project's definitions: names, selections, IO managers, and one run over both."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.names import IO_MANAGER, MANAGED, PREFIX
from tests.flights import DBT_PROJECT, DEFS, ROOT, build

HOST = Path(__file__).parent / "host_project"
PAGE = (ROOT / "docs" / "existing-project.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def location(manifest: Mapping[str, Any]) -> dg.Definitions:
    return build(manifest=manifest)


def test_every_name_that_must_be_unique_in_a_code_location_has_the_prefix(location: dg.Definitions) -> None:
    repository = location.get_repository_def()
    assets = {key.to_python_identifier() for key in repository.asset_graph.get_all_asset_keys()}
    named = [*location.sensors, *location.schedules, *location.jobs]
    ops = {op.name for job in location.jobs for op in job.all_node_defs if isinstance(op, dg.OpDefinition)}
    ops |= {it.op.name for it in location.assets if isinstance(it, dg.AssetsDefinition)} - assets

    assert [] == [
        name for name in (*location.resources, *(it.name for it in named), *ops) if not name.startswith(PREFIX)
    ]


def test_every_asset_has_the_tag_and_is_stored_by_the_engines_io_manager(location: dg.Definitions) -> None:
    made = [it for it in location.assets if isinstance(it, dg.AssetsDefinition)]
    reported = [it for it in location.assets if isinstance(it, dg.AssetSpec)]
    found = {
        spec.key: (it.get_io_manager_key_for_asset_key(spec.key), MANAGED in spec.tags.items())
        for it in made
        for spec in it.specs
    }

    assert dict.fromkeys(found, (IO_MANAGER, True)) == found
    assert [dg.AssetKey("ml_assets_overview")] == [it.key for it in reported if MANAGED in it.tags.items()]


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a host project reports about the code location that the documentation shows, and about a run in it."""
    folder = tmp_path_factory.mktemp("host") / "project"
    shutil.copytree(HOST, folder)
    shutil.copytree(DEFS, folder / "defs")
    shutil.copytree(DBT_PROJECT, folder / "dbt_project", symlinks=True)
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (folder / "definitions.py").write_text(re.sub("^   ", "", block, flags=re.MULTILINE), encoding="utf-8")
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "ML_ASSETS_LAKE": str(folder / "lake"), "ML_ASSETS_PROJECT": str(folder),
    }  # fmt: skip
    command = [sys.executable, "report.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_host_with_packages_and_resources_of_the_same_names_materializes_with_the_engine_in_one_run(
    merged: dict[str, Any],
) -> None:
    assert ["raw/airlines", "reports/carriers", "tables/stg_airlines"] == merged["materialized"]
    assert ["reports/carriers"] == merged["by the host's IO manager"]
    assert 16 == merged["carriers"]


def test_no_sensor_or_schedule_of_the_engine_selects_an_asset_of_the_host(merged: dict[str, Any]) -> None:
    assert {name: [] for name in merged["selected"]} == merged["selected"]
    assert {"ml_assets_updates", "ml_assets_drift", "ml_assets_arrivals", "ml_assets_daily_landing"} <= {
        *merged["selected"]
    }
