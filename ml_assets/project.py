"""Finds the project that a command or a code location works on: a folder whose pyproject.toml has [tool.ml-assets]."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROJECT: Final = "ML_ASSETS_PROJECT"
"""The environment variable that names a project's folder. If unset, the project is searched for upward from the cwd."""


class ProjectError(RuntimeError):
    """No project was found, or its pyproject.toml cannot be read."""


@dataclass(frozen=True)
class Project:
    """The locations of a project's parts."""

    root: Path

    @property
    def definitions(self) -> Path:
        """The file that builds the code location."""
        return self.root / "definitions.py"

    @property
    def declarations(self) -> Path:
        """The folder of the declarations, one subfolder each."""
        return self.root / "defs"

    @property
    def dbt(self) -> Path:
        """The dbt project."""
        return self.root / "dbt_project"

    @property
    def workspace(self) -> Path:
        """The file that lists what Dagster's webserver and daemon load."""
        return self.root / "workspace.yaml"

    @property
    def lake(self) -> Path:
        """The default lake."""
        return self.root / ".lake"

    @property
    def dagster_home(self) -> Path:
        """The default Dagster home."""
        return self.root / ".dagster"


_built: Project | None = None


def use_project(root: Path) -> Project:
    """Make the project in a folder the current project of this process, and return it."""
    global _built  # noqa: PLW0603 - a process loads one code location, and its steps must find the project
    _built = Project(root.resolve())
    return _built


def find_project() -> Project:
    """Return the current project: `ML_ASSETS_PROJECT`, else the one passed to `build`, else the nearest folder upward.

    Raises:
        ProjectError: no project was found.
    """
    if named := os.environ.get(PROJECT, "").strip():
        root = Path(named).resolve()
        if not _is_project(root):
            raise ProjectError(
                f"{PROJECT} names {root}, which is not a project: its pyproject.toml has no [tool.ml-assets]. Name the "
                "project's folder, or remove the variable."
            )
        return Project(root)
    if _built is not None:
        return _built
    here = Path.cwd()
    for folder in (here, *here.parents):
        if _is_project(folder):
            return Project(folder)
    raise ProjectError(
        f"no project was found: neither {here} nor a folder above it has a pyproject.toml with [tool.ml-assets]. "
        f"Change to the project's folder, set {PROJECT}, or write a new project with: ml-assets init FOLDER"
    )


def declared_place(path: str) -> str:
    """Return where a path in a declaration leads: a relative one starts at the project's folder."""
    if "://" in path or Path(path).is_absolute():
        return path
    try:
        return str(find_project().root / path)
    except ProjectError:  # declarations without a project, as in a test: they start where the process works
        return path


def _is_project(folder: Path) -> bool:
    path = folder / "pyproject.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} is not valid TOML: {error}. Correct it.") from error
    return "ml-assets" in content.get("tool", {})
