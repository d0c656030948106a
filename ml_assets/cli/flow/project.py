"""The project a command works on: Dagster's home, dbt's manifest, the code location.

Commands themselves stay out.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from ml_assets.assembly_resources import ROOT
from ml_assets.cli.flow.left_runs import end_left_runs
from ml_assets.components import DBT_PROJECT
from ml_assets.contracts.yaml_lines import problems
from ml_assets.warehouse.dbt_manifest import prepare_manifest

_SETTINGS = """\
# Written by ml-assets on first use; yours to change.
telemetry: {{enabled: false}}
nux: {{enabled: false}}
concurrency:
  runs: {{max_concurrent_runs: {runs}}}  # each may use every core
event_log_storage:
  module: ml_assets.dagster_storage.event_log
  class: BatchingSqliteEventLogStorage
  config: {{base_dir: history/runs}}  # in this folder, so that a copy of it has a history of its own
"""


def dagster_home() -> Path:
    """Return Dagster's home, `DAGSTER_HOME` or `.dagster` of this project, made if need be."""
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(ROOT / ".dagster")))
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_SETTINGS.format(runs=os.cpu_count() or 1), encoding="utf-8")
    return home


def prepare() -> None:
    """Make Dagster's home, and dbt's manifest where the project has changed since it was parsed."""
    dagster_home()
    prepare_manifest(DBT_PROJECT, problems)


@contextmanager
def instance() -> Iterator[dg.DagsterInstance]:
    """Give the instance of this project."""
    dagster_home()
    with dg.DagsterInstance.get() as found:
        end_left_runs(found)
        yield found
