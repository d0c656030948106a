"""Where a process comes from: git commit, installed distributions, peak memory.

Each is found once a process, and only when first asked for.
"""

import functools
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class GitState:
    """The commit this code was run from; None where neither a repository nor `ML_ASSETS_COMMIT` says it."""

    commit: str | None
    is_dirty: bool | None


@functools.cache
def git_state() -> GitState:
    """Return the commit and whether tracked files differ from it; of an image, what it was built from."""
    if built_from := os.environ.get("ML_ASSETS_COMMIT"):
        return GitState(built_from.removesuffix("-dirty"), built_from.endswith("-dirty"))
    root = Path(__file__).parent.parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return GitState(commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no")))
    except (FileNotFoundError, subprocess.CalledProcessError):
        return GitState(None, None)


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, encoding="utf-8", errors="replace"
    ).stdout.strip()


@functools.cache
def environment() -> tuple[str, dict[str, object]]:
    """Return the digest of what is installed here, and what it was made of."""
    details: dict[str, object] = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "distributions": dict(sorted((d.metadata["Name"].lower(), d.version) for d in metadata.distributions())),
    }
    text = json.dumps(details, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16, usedforsecurity=False).hexdigest(), details


def memory_bytes() -> int:
    """Return the memory of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory_bytes() -> int:
    """Return the most memory this process has held resident, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
