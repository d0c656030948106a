"""Loads the code location of a project, built with a lake or loggers of one's own.

Not here: building it (see `ml_assets.assembly`, which a project's definitions.py calls).
"""

import importlib.util
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from ml_assets.lake.resource import LakeResource
from ml_assets.project import ProjectError, find_project


@dataclass(frozen=True, eq=False)
class Overrides:
    """What a command or a test uses instead of the arguments in the project's definitions.py.

    Attributes:
        lake: the lake; the project's if absent.
        loggers: the loggers of runs; Dagster's console if absent.
    """

    lake: LakeResource | None = None
    loggers: Mapping[str, dg.LoggerDefinition] | None = None


_OVERRIDES: ContextVar[Overrides] = ContextVar("overrides", default=Overrides())  # noqa: B039 - it is frozen


def current_overrides() -> Overrides:
    """Return what `build` uses at this moment."""
    return _OVERRIDES.get()


@contextmanager
def overriding(overrides: Overrides) -> Iterator[None]:
    """Apply overrides to every `build` within the context."""
    token = _OVERRIDES.set(overrides)
    try:
        yield
    finally:
        _OVERRIDES.reset(token)


def load_definitions(overrides: Overrides) -> dg.Definitions:
    """Return what the project's definitions.py defines as `defs`, built with a command's own lake or loggers.

    Raises:
        ProjectError: there is no such file, it fails by itself, or it defines no `defs`.
    """
    path = find_project().definitions
    if not path.is_file():
        raise ProjectError(
            f"{path} is missing; expected the file that calls ml_assets.build. `ml-assets init` writes one."
        )
    find_project().add_to_path()
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
    is_installed = path.is_relative_to(Path(__file__).parents[1]) or "site-packages" in path.parts
    return f"{path}:{line}" if path.is_relative_to(folder) and not is_installed else None
