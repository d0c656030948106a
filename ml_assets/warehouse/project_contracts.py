"""Reads the contracts of a dbt project's tables from its prepared manifest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.inherited_types import with_inherited_types
from ml_assets.contracts.row_sql import SqlProblems
from ml_assets.contracts.table import TableContract
from ml_assets.landing.row_sql import sql_problems_once


def read_manifest(project_dir: Path) -> Mapping[str, Any]:
    """Return dbt's manifest, which `ml-assets parse` prepares, with the types that columns have from other tables.

    Raises:
        DataError: the manifest does not exist.
    """
    path = project_dir / "target" / "manifest.json"
    try:
        manifest: Mapping[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"dbt's manifest {path} is missing; prepare it with: ml-assets parse.") from error
    return with_inherited_types(manifest)


def read_contracts(manifest: Mapping[str, Any], project_dir: Path) -> dict[str, TableContract]:
    """Return the contracts in dbt's YAML.

    Raises:
        ContractError: they have errors. All are listed, with file and line.
    """

    def read(path: str) -> str | None:
        file = project_dir.parent / path
        return file.read_text(encoding="utf-8") if file.is_file() else None

    return contracts_from_dbt(manifest, read=read, sql_problems=sql_problems_of(project_dir), folder=project_dir.name)


def sql_problems_of(project_dir: Path) -> SqlProblems:
    """Return what validates expressions over the rows of sources, and remembers the valid ones in dbt's `target`."""
    checked = project_dir / "target" / "row_sql_checked"
    return lambda expressions: sql_problems_once(expressions, checked)
