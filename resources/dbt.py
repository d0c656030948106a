"""dbt's manifest, prepared from the project's files whenever they have changed.

Running dbt's models stays out; see `resources.warehouse`.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from resources.errors import WarehouseError

_SUFFIXES = {".sql", ".yml", ".yaml", ".md", ".csv"}


def prepare_manifest(project_dir: Path) -> bool:
    """Parse the project if its files differ from those last parsed; tell whether that was so.

    Raises:
        WarehouseError: dbt cannot parse it; its message is passed on.
    """
    target = project_dir / "target"
    stamp = target / "parsed_from"
    digest = _digest(project_dir)
    if (target / "manifest.json").exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return False
    folder = str(project_dir)
    command = [
        sys.executable, "-m", "dbt.cli.main", "--no-use-colors", "--no-send-anonymous-usage-stats", "parse",
        "--project-dir", folder, "--profiles-dir", folder, "--log-path", str(target / "logs"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=project_dir, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WarehouseError(f"dbt cannot parse {project_dir}:\n{done.stdout}{done.stderr}")
    stamp.write_text(digest, encoding="utf-8")
    return True


def _digest(project_dir: Path) -> str:
    digest = hashlib.blake2b(digest_size=16, usedforsecurity=False)
    for path in sorted(project_dir.rglob("*")):
        inside = path.relative_to(project_dir)
        if path.suffix in _SUFFIXES and path.is_file() and inside.parts[0] not in {"target", "logs"}:
            digest.update(f"{inside}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
