"""Reads the project that a command works on: declarations, contracts, Dagster's home, dbt's manifest."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from ml_assets.contracts.table import TableContract
from ml_assets.contracts.yaml_lines import problems
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.orchestration.left_runs import end_left_runs
from ml_assets.project import find_project
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest

_SETTINGS = """\
# Written by ml-assets on first use; yours to change.
telemetry: {{enabled: false}}
nux: {{enabled: false}}
run_retries: {{enabled: true, max_retries: 3, retry_on_asset_or_op_failure: false}}  # if a process was killed
concurrency:
  runs: {{max_concurrent_runs: {runs}}}  # each may use every core
event_log_storage:
  module: ml_assets.dagster_storage.event_log
  class: BatchingSqliteEventLogStorage
  config: {{base_dir: history/runs}}  # in this folder, so that a copy of it has a history of its own
"""


def dagster_home() -> Path:
    """Return Dagster's home, `DAGSTER_HOME` or the project's `.dagster`; create it if necessary."""
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(find_project().dagster_home)))
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_SETTINGS.format(runs=os.cpu_count() or 1), encoding="utf-8")
    return home


def prepare() -> None:
    """Create Dagster's home, and dbt's manifest if the project has changed since it was parsed."""
    dagster_home()
    prepare_manifest(find_project().dbt, problems)


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """Yield the Dagster instance of this project."""
    dagster_home()
    with dg.DagsterInstance.get() as found:
        end_left_runs(found)
        yield found


def read_declarations() -> Declared:
    """Return the project's declarations.

    Raises:
        DeclarationError: a declaration has an error.
    """
    project = find_project()
    project.add_to_path()  # for the functions that declarations name
    return read_all(project.declarations)


def read_table_contracts() -> dict[str, TableContract]:
    """Return the contracts of the project's tables, from dbt's prepared manifest.

    Raises:
        ContractError: a contract has an error.
    """
    folder = find_project().dbt
    return read_contracts(read_manifest(folder), folder)
