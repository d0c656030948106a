"""Prepares dbt's manifest when files of the project or of the engine's package have changed.

Not here: running dbt's models (see `ml_assets.warehouse.warehouse`).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import yaml

from ml_assets.lake.errors import WarehouseError
from ml_assets.warehouse.dbt_package import LINK, PACKAGE, dispatch_problem, link_package, package_files
from ml_assets.warehouse.dbt_server import Dbt

_YAML = {".yml", ".yaml"}
_SUFFIXES = {*_YAML, ".sql", ".md", ".csv"}


class YamlProblem(Protocol):
    """A problem of a YAML text, and its line."""

    line: int
    problem: str


def prepare_manifest(project_dir: Path, problems: Callable[[str], Iterable[YamlProblem]] = lambda _: ()) -> bool:
    """Link the engine's package, and parse the project if its files have changed. Return whether they have.

    Args:
        project_dir: the project.
        problems: finds problems of a YAML text that dbt would not find, or would report without a line.

    Raises:
        WarehouseError: the project does not exist, dbt cannot parse it, a file is not UTF-8 or has a problem, or the
            package cannot be linked.
    """
    if not (project_dir / "dbt_project.yml").exists():
        raise WarehouseError(
            f"there is no dbt project in {project_dir}: dbt_project.yml is missing. Restore the folder, or "
            "name another one as 'dbt_project' under [tool.ml-assets] in pyproject.toml."
        )
    link_package(project_dir)
    target = project_dir / "target"
    stamp = target / "parsed_from"
    found = project_digest(project_dir)
    if (target / "manifest.json").exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == found:
        return False
    if wrong := [*_wrong(project_dir, problems)]:
        raise WarehouseError("\n".join(wrong))
    output: list[str] = []
    with Dbt(project_dir) as dbt:
        code = dbt.parse(target, output.append)
    if code:
        raise WarehouseError(f"dbt cannot parse {project_dir}:\n" + "\n".join(output))
    stamp.write_text(found, encoding="utf-8")
    return True


def project_digest(project_dir: Path) -> str:
    """Return a digest of the files that dbt parses."""
    digest = hashlib.blake2b(digest_size=16, usedforsecurity=False)
    files = {path.relative_to(project_dir): path for path in _files(project_dir)}
    files |= {LINK / path.relative_to(PACKAGE): path for path in package_files()}
    for name, path in files.items():
        digest.update(f"{name}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(project_dir: Path) -> Iterator[Path]:
    """Yield the project's files, without those of the engine's package, which may be linked or copied."""
    for path in sorted(project_dir.rglob("*")):
        inside = path.relative_to(project_dir)
        if inside.parts[0] in {"target", "logs"} or inside.parts[: len(LINK.parts)] == LINK.parts:
            continue
        if path.suffix in _SUFFIXES and path.is_file():
            yield path


def _wrong(project_dir: Path, problems: Callable[[str], Iterable[YamlProblem]]) -> Iterator[str]:
    for path in _files(project_dir):
        data = path.read_bytes()
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            yield f"{path}:{line}: it has bytes that are not UTF-8; save the file in UTF-8."
            continue
        if path.suffix in _YAML:
            found = [f"{path}:{it.line}: {it.problem}." for it in problems(text)]
            yield from found
            if path == project_dir / "dbt_project.yml" and not found and (wrong := _dispatch_problem(text)):
                yield f"{path}: {wrong}."


def _dispatch_problem(text: str) -> str:
    try:
        return dispatch_problem(yaml.safe_load(text))
    except yaml.YAMLError:  # dbt reports it
        return ""
