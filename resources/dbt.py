"""dbt's manifest, prepared from the project's files whenever they have changed.

Running dbt's models stays out; see `resources.warehouse`.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from resources.dbt_server import Dbt
from resources.errors import WarehouseError

_SUFFIXES = {".sql", ".yml", ".yaml", ".md", ".csv"}


def prepare_manifest(project_dir: Path) -> bool:
    """Parse the project if its files differ from those last parsed; tell whether that was so.

    Raises:
        WarehouseError: dbt cannot parse it, which says why; or a file is not UTF-8.
    """
    target = project_dir / "target"
    stamp = target / "parsed_from"
    found = digest_of(project_dir)
    if (target / "manifest.json").exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == found:
        return False
    if wrong := [*_not_utf8(project_dir)]:
        raise WarehouseError("\n".join(wrong))
    said: list[str] = []
    with Dbt(project_dir) as dbt:
        code = dbt.parse(target, said.append)
    if code:
        raise WarehouseError(f"dbt cannot parse {project_dir}:\n" + "\n".join(said))
    stamp.write_text(found, encoding="utf-8")
    return True


def digest_of(project_dir: Path) -> str:
    """Return the digest of the files that dbt parses."""
    digest = hashlib.blake2b(digest_size=16, usedforsecurity=False)
    for path in _files(project_dir):
        digest.update(f"{path.relative_to(project_dir)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(project_dir: Path) -> Iterator[Path]:
    for path in sorted(project_dir.rglob("*")):
        inside = path.relative_to(project_dir)
        if path.suffix in _SUFFIXES and path.is_file() and inside.parts[0] not in {"target", "logs"}:
            yield path


def _not_utf8(project_dir: Path) -> Iterator[str]:
    """Yield the files that dbt would fail on without saying where."""
    for path in _files(project_dir):
        data = path.read_bytes()
        try:
            data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            yield f"{path}:{line}: it has bytes that are not UTF-8; save the file in UTF-8."
