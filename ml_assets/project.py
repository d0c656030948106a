"""Finds the project that a command or a code location works on: a folder whose pyproject.toml has [tool.ml-assets]."""

import contextlib
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROJECT: Final = "ML_ASSETS_PROJECT"
"""The environment variable that names a project's folder. If unset, the project is searched for upward from the cwd."""


class ProjectError(RuntimeError):
    """No project was found, or its pyproject.toml cannot be read."""


PLACES: Final = {"definitions": "definitions.py", "defs": "defs", "dbt_project": "dbt_project"}
"""The settings of `[tool.ml-assets]`, each a path from the project's folder, with their defaults."""


@dataclass(frozen=True)
class Project:
    """The locations of a project's parts. `[tool.ml-assets]` may name those that a host project keeps elsewhere."""

    root: Path

    @property
    def definitions(self) -> Path:
        """The file that builds the code location."""
        return self._place("definitions")

    @property
    def declarations(self) -> Path:
        """The folder of the declarations, one subfolder each."""
        return self._place("defs")

    @property
    def dbt(self) -> Path:
        """The dbt project."""
        return self._place("dbt_project")

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

    def add_to_path(self) -> None:
        """Let Python import the packages beside definitions.py, such as `resources`, `sensors` and your own steps."""
        folder = str(self.definitions.parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)

    def _place(self, part: str) -> Path:
        return self.root / _places(self.root).get(part, PLACES[part])


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


def add_project_to_path() -> None:
    """Let Python import the packages of the current project, if there is one: an estimator of your own is in them."""
    with contextlib.suppress(ProjectError):  # a service needs the lake only
        find_project().add_to_path()


def declared_place(path: str) -> str:
    """Return where a path in a declaration leads: a relative one starts at the project's folder."""
    if "://" in path or Path(path).is_absolute():
        return path
    try:
        return str(find_project().root / path)
    except ProjectError:  # declarations without a project, as in a test: they start where the process works
        return path


def _is_project(folder: Path) -> bool:
    return _table(folder) is not None


def _places(root: Path) -> Mapping[str, str]:
    """Return the paths that the project's `[tool.ml-assets]` sets.

    Raises:
        ProjectError: a setting is unknown, or is no relative path.
    """
    settings = _table(root)
    if settings is None:  # a folder that is named by an argument, as in a test
        return {}
    where = f"{root / 'pyproject.toml'}: [tool.ml-assets]"
    for name, value in settings.items():
        if name not in PLACES:
            raise ProjectError(f"{where} has the unknown setting {name!r}; expected one of {', '.join(PLACES)}.")
        if not isinstance(value, str) or not value or Path(value).is_absolute():
            raise ProjectError(
                f"{where} sets {name} = {value!r}; expected a path from the project's folder, as in "
                f'{name} = "src/shop/{PLACES[name]}".'
            )
    return settings


def _table(folder: Path) -> dict[str, Any] | None:
    path = folder / "pyproject.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} is not valid TOML: {error}. Correct it.") from error
    tool = content.get("tool", {})
    table = tool.get("ml-assets") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None
