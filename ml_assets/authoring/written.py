"""Writes the files of a new model into a project, shows what would change, and removes what was written."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from ml_assets.contracts.errors import DataError

RECORDS: Final = PurePosixPath(".ml-assets", "new")


def changes(root: Path, files: Mapping[PurePosixPath, str]) -> str:
    """Return what differs between files and those in the project, as a diff; '' if nothing does."""
    found: list[str] = []
    for path, text in files.items():
        there = root / path
        before = there.read_text(encoding="utf-8").splitlines(keepends=True) if there.exists() else []
        found += difflib.unified_diff(
            before, text.splitlines(keepends=True), f"{path} (in the project)", f"{path} (new)"
        )
    return "".join(found)


def existing(root: Path, files: Mapping[PurePosixPath, str]) -> list[PurePosixPath]:
    """Return the files that are in the project already."""
    return [path for path in files if (root / path).exists()]


def write(root: Path, name: str, files: Mapping[PurePosixPath, str]) -> None:
    """Write files that are not there yet, with a record of them; all or none.

    Raises:
        DataError: a file cannot be written. Those before it are removed again.
    """
    record = {str(path): _digest(text.encode()) for path, text in files.items()}
    done: list[Path] = []
    try:
        for path, text in {**files, RECORDS / f"{name}.json": json.dumps(record, indent=1) + "\n"}.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8", newline="\n") as file:
                done.append(target)
                file.write(text)
    except OSError as error:
        for target in done:
            target.unlink(missing_ok=True)
        raise DataError(f"{error.filename} cannot be written: {error.strerror}. Nothing was written.") from error


def undo(root: Path, name: str) -> tuple[list[str], list[str]]:
    """Remove the files of a new model that are as they were written; return those removed, and those kept.

    Raises:
        DataError: there is no record of the model.
    """
    record = root / RECORDS / f"{name}.json"
    if not record.exists():
        raise DataError(f"there is no record of a model '{name}' that `ml-assets new` wrote: {record} is missing.")
    try:
        written: dict[str, str] = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{record} is not readable: {error}. Remove the files of the model by hand.") from error
    removed, kept = [], []
    for path, digest in written.items():
        target = root / path
        if not target.exists():
            continue
        if _digest(target.read_bytes()) != digest:
            kept.append(path)
            continue
        target.unlink()
        removed.append(path)
        _remove_empty(target.parent, root)
    record.unlink()
    _remove_empty(record.parent, root)
    return removed, kept


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
