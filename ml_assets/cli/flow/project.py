"""Loads the project that a command works on: declarations, contracts, definitions, Dagster's home, dbt's manifest."""

import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

import ml_assets
from ml_assets.cli.flow.left_runs import end_left_runs
from ml_assets.contracts.table import TableContract
from ml_assets.contracts.yaml_lines import problems
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.project import ProjectError, find_project
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest

if TYPE_CHECKING:
    from ml_assets.assembly import Overrides

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
    return read_all(find_project().declarations)


def read_table_contracts() -> dict[str, TableContract]:
    """Return the contracts of the project's tables, from dbt's prepared manifest.

    Raises:
        ContractError: a contract has an error.
    """
    folder = find_project().dbt
    return read_contracts(read_manifest(folder), folder)


def load_definitions(overrides: "Overrides") -> dg.Definitions:
    """Return what the project's definitions.py defines as `defs`, built with a command's own lake or loggers.

    Raises:
        ProjectError: there is no such file, it fails by itself, or it defines no `defs`.
    """
    from ml_assets.assembly import overriding

    path = find_project().definitions
    if not path.is_file():
        raise ProjectError(
            f"{path} is missing; expected the file that calls ml_assets.build. `ml-assets init` writes one."
        )
    if str(path.parent) not in sys.path:  # its own packages, such as `resources` and `sensors`
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("definitions", path)
    if spec is None or spec.loader is None:
        raise ProjectError(f"{path} cannot be imported; expected a Python file.")
    module = importlib.util.module_from_spec(spec)
    with overriding(overrides):
        try:
            spec.loader.exec_module(module)
            found = getattr(module, "defs", None)
            found = found() if callable(found) else found
        except Exception as error:
            if (place := _place_in_project(error, find_project().root)) is None:
                raise
            raise ProjectError(f"{place}: {type(error).__name__}: {error}. Correct the project's own code.") from error
    if not isinstance(found, dg.Definitions):
        raise ProjectError(f"{path} defines no `defs`; expected Definitions, or a function under @dagster.definitions.")
    return found


def _place_in_project(error: Exception, folder: Path) -> str | None:
    """Return the file and line of the project's own code in which an error was raised; None if it was elsewhere."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = [it for it in traceback.extract_tb(error.__traceback__) if not it.filename.startswith("<frozen")]
    path, line = Path(frames[-1].filename), frames[-1].lineno
    is_installed = path.is_relative_to(Path(ml_assets.__file__).parent) or "site-packages" in path.parts
    return f"{path}:{line}" if path.is_relative_to(folder) and not is_installed else None
