"""`ml-assets upgrade`: rewrites the project's declarations for the installed version of ml-assets."""

import argparse
import codecs
import os
import shutil
from pathlib import Path


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
    from ml_assets.contracts.yaml_lines import YamlError, text_of
    from ml_assets.declaration.parts import VERSION
    from ml_assets.declaration.reading import DeclarationError
    from ml_assets.declaration.upgrade import upgrade_declaration
    from ml_assets.project import find_project

    paths = sorted(find_project().declarations.glob("**/defs.yaml"))
    upgraded, errors = {}, []
    for path in paths:
        try:
            upgraded[path] = upgrade_declaration(text_of(path.read_bytes()), where=str(path))
        except YamlError as error:
            errors.append(f"{path}:{error.line}: {error.problem}.")
        except DeclarationError as error:
            errors.append(str(error))
    if errors:
        raise DeclarationError("\n".join(errors))
    changed = {path: found for path, found in upgraded.items() if found.revisions}
    for path, found in changed.items():
        if not arguments.check:
            _write(path, found.text)
        for revision in found.revisions:
            print(f"{path}:{revision.line}: {revision.change}. {revision.reason}")
    if not changed:
        print(f"nothing to change: every declaration has version {VERSION}")
    elif arguments.check:
        print(f"{counted(len(changed), 'declaration')} would change; rewrite with: ml-assets upgrade")
    else:
        print(f"{counted(len(changed), 'declaration')} rewritten to version {VERSION}")
    return 1 if changed and arguments.check else 0


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
