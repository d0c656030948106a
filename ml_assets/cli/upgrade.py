"""`ml-assets upgrade`: rewrites the project's declarations for the installed version of ml-assets."""

import argparse
import codecs
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.project import find_project

if TYPE_CHECKING:
    from ml_assets.declaration.upgrade import Upgraded


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("upgrade", help="rewrite the declarations for the installed version of ml-assets")
    command.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something would change")
    command.set_defaults(function=upgrade)


def upgrade(arguments: argparse.Namespace) -> int:
    """Rewrite all declarations, or none if one of them cannot be read; print each change and its reason.

    Returns:
        1 if `--check` finds a change, otherwise 0.

    Raises:
        DeclarationError: declarations cannot be read; every error is listed.
    """
    from ml_assets.contracts.words import counted
    from ml_assets.declaration.parts import VERSION
    from ml_assets.declaration.schema import PATH

    folder = find_project().declarations
    changed = {path: found for path, found in _upgraded(folder).items() if found.revisions}
    if (outdated := _outdated_schema(folder)) is not None:
        if not arguments.check:
            shutil.copyfile(PATH, outdated)
        print(f"{outdated}: replaced by the JSON Schema of the installed version. Editors check declarations with it.")
    for path, found in changed.items():
        if not arguments.check:
            _write(path, found.text)
        for revision in found.revisions:
            print(f"{path}:{revision.line}: {revision.change}. {revision.reason}")
    files = len(changed) + (outdated is not None)
    if not files:
        print(f"nothing to change: every declaration has version {VERSION}")
    elif arguments.check:
        print(f"{counted(files, 'file')} would change; rewrite with: ml-assets upgrade")
    else:
        print(f"{counted(files, 'file')} rewritten for version {VERSION}")
    return 1 if files and arguments.check else 0


def _upgraded(folder: Path) -> dict[Path, "Upgraded"]:
    """Return every declaration under a folder, upgraded.

    Raises:
        DeclarationError: some cannot be read; every error is listed.
    """
    from ml_assets.contracts.yaml_lines import YamlError, text_of
    from ml_assets.declaration.reading import DeclarationError
    from ml_assets.declaration.upgrade import upgrade_declaration

    upgraded, errors = {}, []
    for path in sorted(folder.glob("**/defs.yaml")):
        try:
            upgraded[path] = upgrade_declaration(text_of(path.read_bytes()), where=str(path))
        except YamlError as error:
            errors.append(f"{path}:{error.line}: {error.problem}.")
        except DeclarationError as error:
            errors.append(str(error))
    if errors:
        raise DeclarationError("\n".join(errors))
    return upgraded


def _outdated_schema(folder: Path) -> Path | None:
    """Return the project's copy of the JSON Schema if it has one that differs from the installed version's."""
    from ml_assets.declaration.schema import PATH

    copy = folder / PATH.name
    return copy if copy.is_file() and copy.read_bytes() != PATH.read_bytes() else None


def _write(path: Path, text: str) -> None:
    """Replace a file's text in one step; its byte order mark and its permissions stay."""
    target = path.resolve()
    mark = codecs.BOM_UTF8 if target.read_bytes().startswith(codecs.BOM_UTF8) else b""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_bytes(mark + text.encode())
        shutil.copymode(target, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
