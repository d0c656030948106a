"""`ml-assets init FOLDER`: writes a project that runs."""

import argparse
import importlib.metadata
import re
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Final

from ml_assets.contracts.errors import DataError

RESERVED: Final = frozenset({"dbt", "dbt_duckdb", "ml_assets"})
"""dbt packages that every project loads. dbt does not load two packages with the same name."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_LONGEST: Final = 40
_RENDERED: Final = ".jinja"
_HIDDEN: Final = "dot_"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("init", help="write a project that runs, with an example model and its data")
    command.add_argument(
        "folder", metavar="FOLDER", type=Path, help="folder of the project; its name becomes the project's name"
    )
    command.add_argument("--bare", action="store_true", help="write no example model and no data")
    command.set_defaults(function=init)


def init(arguments: argparse.Namespace) -> int:
    """Write the project, and print what to do next."""
    folder: Path = arguments.folder
    files = project_files(project_name(folder), is_bare=arguments.bare)
    write_new(folder, files)
    print(f"wrote a project of {len(files)} files to {folder}")
    steps = [f"cd {folder}", "ml-assets parse" if arguments.bare else "ml-assets run", "ml-assets ui"]
    print("\nNext:\n" + "\n".join(f"  {step}" for step in steps))
    return 0


def project_name(folder: Path) -> str:
    """Return the name of the project in a folder.

    Raises:
        DataError: the folder's name cannot be the name of a Python project and of a dbt project.
    """
    name = folder.resolve().name
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise DataError(
            f"'{name}' cannot be the name of a project; expected at most {_LONGEST} characters: lower-case letters, "
            "digits, and single '-' or '_' between them, from a letter. Choose another folder, for instance 'shop'."
        )
    if _package(name) in RESERVED:
        raise DataError(f"'{name}' is the name of a dbt package that the project needs. Choose another folder.")
    return name


def project_files(name: str, *, is_bare: bool) -> dict[PurePosixPath, bytes]:
    """Return the files of a new project, by their paths in it."""
    from jinja2 import Environment, StrictUndefined

    values = {
        "name": name,
        "package": _package(name),
        "version": importlib.metadata.version("ml-assets"),
        "example": not is_bare,
    }
    # Files of dbt and GitHub use Jinja's own delimiters.
    jinja = Environment(
        block_start_string="[%", block_end_string="%]", variable_start_string="[[", variable_end_string="]]",
        comment_start_string="[#", comment_end_string="#]", undefined=StrictUndefined, trim_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 - the files are not HTML, and the name is checked
    )  # fmt: skip
    package = importlib.resources.files("ml_assets")
    files = {PurePosixPath("defs", "schema.json"): package.joinpath("declaration", "schema.json").read_bytes()}
    for part in ("base", "bare" if is_bare else "example"):
        for path, file in _files_in(package.joinpath("templates", "init", part), PurePosixPath()).items():
            content = file.read_bytes()
            if path.suffix == _RENDERED:
                content = jinja.from_string(content.decode()).render(values).encode()
            files[_written_path(path)] = content
    return files


def write_new(folder: Path, files: Mapping[PurePosixPath, bytes]) -> None:
    """Write files into a folder, none of which may be there.

    Raises:
        DataError: some are there. They are listed, and nothing is written.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file. Choose another folder.")
    if there := [str(path) for path in sorted(files) if (folder / path).exists()]:
        raise DataError(
            f"{folder} already has files of these names, and nothing was written: {', '.join(there)}. "
            "Choose another folder, or move them away."
        )
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)


def _package(name: str) -> str:
    return name.replace("-", "_")


def _written_path(path: PurePosixPath) -> PurePosixPath:
    """Return where a template's file is written: hidden files have a visible name in the engine's wheel."""
    whole = path.with_suffix("") if path.suffix == _RENDERED else path
    return PurePosixPath(*(part.replace(_HIDDEN, ".", 1) if part.startswith(_HIDDEN) else part for part in whole.parts))


def _files_in(folder: Traversable, at: PurePosixPath) -> dict[PurePosixPath, Traversable]:
    found: dict[PurePosixPath, Traversable] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _files_in(entry, at / entry.name)
        else:
            found[at / entry.name] = entry
    return found
