"""dbt's manifest, prepared from the project's files whenever they have changed.

Running dbt's models stays out; see `resources.warehouse`.
"""

import hashlib
from pathlib import Path

from resources.dbt_server import Dbt
from resources.errors import WarehouseError

_SUFFIXES = {".sql", ".yml", ".yaml", ".md", ".csv"}


def prepare_manifest(project_dir: Path) -> bool:
    """Parse the project if its files differ from those last parsed; tell whether that was so.

    Raises:
        WarehouseError: dbt cannot parse it; its message is passed on.
    """
    target = project_dir / "target"
    stamp = target / "parsed_from"
    found = digest_of(project_dir)
    if (target / "manifest.json").exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == found:
        return False
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
    for path in sorted(project_dir.rglob("*")):
        inside = path.relative_to(project_dir)
        if path.suffix in _SUFFIXES and path.is_file() and inside.parts[0] not in {"target", "logs"}:
            digest.update(f"{inside}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
