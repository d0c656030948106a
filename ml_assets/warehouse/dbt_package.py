"""Links the engine's dbt package (macros, materializations, generic tests) into a project's `dbt_packages`.

It is a link and not a copy, so that it points to the new package after an upgrade of the engine. `packages.yml` cannot
be used: dbt writes the absolute path of a local package into `package-lock.yml`, which is committed.
"""

import contextlib
import importlib.resources
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ml_assets.lake.errors import WarehouseError

PACKAGE: Final = Path(str(importlib.resources.files("ml_assets"))).resolve() / "dbt"
"""The package's folder in the installed engine."""

LINK: Final = Path("dbt_packages", "ml_assets")
"""The package's path in a project."""


def is_linked(project_dir: Path) -> bool:
    """Return whether a project has this engine's package: a link to it, or an equal copy."""
    link = project_dir / LINK
    try:
        if link.is_symlink():
            return link.readlink() == PACKAGE
        return link.is_dir() and _contents(link) == _contents(PACKAGE)
    except OSError:  # another process is replacing it
        return False


def link_package(project_dir: Path) -> None:
    """Link the package into a project unless it is linked already. Copy it if the system does not support links.

    Broken links, links to another engine, and different copies are replaced. Several processes may do this
    concurrently, even while dbt runs on the project.

    Raises:
        WarehouseError: the project's folder is not writable.
    """
    link = project_dir / LINK
    for left in (3, 2, 1, 0):
        if is_linked(project_dir):
            return
        try:
            _replace(link)
        except OSError as error:
            if left or is_linked(project_dir):  # another process may have been faster
                continue
            raise WarehouseError(
                f"the dbt package of ml-assets cannot be linked into {link}: {error}. Make {link.parent} writable, or "
                "run `ml-assets parse` where it is writable, for example when the image is built."
            ) from error


def _replace(link: Path) -> None:
    # dbt treats every folder beside the link as a package, except those whose names begin with two underscores.
    new, former = (link.with_name(f"__{link.name}_{uuid.uuid4().hex}") for _ in range(2))
    try:
        link.parent.mkdir(exist_ok=True)
        _link_or_copy(new)
        is_copy = link.is_dir() and not link.is_symlink()
        if is_copy or (link.is_symlink() and not new.is_symlink()):  # replacing a link by a link is atomic
            with contextlib.suppress(FileNotFoundError):  # another process has just moved it
                link.rename(former)
        new.replace(link)
    finally:
        for path in (new, former):
            if path.is_symlink():
                path.unlink()
            elif path.exists():
                shutil.rmtree(path)


def _link_or_copy(new: Path) -> None:
    try:
        new.symlink_to(PACKAGE, target_is_directory=True)
    except OSError:  # Windows without permission to create links, or a file system without links
        shutil.copytree(PACKAGE, new)


def package_files() -> Iterator[Path]:
    """Yield the files of the package, ordered by name."""
    yield from sorted(path for path in PACKAGE.rglob("*") if path.is_file())


def _contents(package: Path) -> dict[Path, bytes]:
    return {path.relative_to(package): path.read_bytes() for path in package.rglob("*") if path.is_file()}


def dispatch_problem(project: object) -> str:
    """Return why dbt would not call the package's `get_where_subquery`; '' if it would.

    Args:
        project: the content of dbt_project.yml.
    """
    name = project.get("name") if isinstance(project, dict) else None
    found = project.get("dispatch") if isinstance(project, dict) else None
    for it in found if isinstance(found, list) else []:
        order = it.get("search_order") if isinstance(it, dict) and it.get("macro_namespace") == "dbt" else None
        if isinstance(order, list) and "ml_assets" in order[: order.index("dbt") if "dbt" in order else None]:
            return ""
    return (
        "dispatch does not name ml_assets before dbt, so tests of a table by day would read more than the days of the "
        f"run; add: dispatch: [{{macro_namespace: dbt, search_order: [{name}, ml_assets, dbt]}}]"
    )
