"""Facts about the origin of artifacts: git commit, installed distributions, machine memory.

Each is determined once per process, on first use.

    environments/<digest>.json    the installed distributions, once for all manifests that name the digest
"""

import contextlib
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
from typing import Final

from ml_assets.contracts.json_record import Record
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.objects import Objects
from ml_assets.lake.sealing import RESTORE, seal, unseal
from ml_assets.project import ProjectError, find_project

ENVIRONMENTS: Final = "environments"
_MOST_BYTES: Final = 4 * 2**20


@dataclass(frozen=True)
class GitState:
    """The commit of the running code; None if neither a repository nor `ML_ASSETS_COMMIT` provides it."""

    commit: str | None
    is_dirty: bool | None


@functools.cache
def git_state() -> GitState:
    """Return the commit, and whether tracked files differ from it. In an image, it is the commit of the build."""
    if built_from := os.environ.get("ML_ASSETS_COMMIT"):
        return GitState(built_from.removesuffix("-dirty"), built_from.endswith("-dirty"))
    try:
        root = find_project().root
        commit = _git(root, "rev-parse", "HEAD")
        return GitState(commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no")))
    except (ProjectError, FileNotFoundError, subprocess.CalledProcessError):
        return GitState(None, None)


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, encoding="utf-8", errors="replace"
    ).stdout.strip()


@dataclass(frozen=True)
class EnvironmentChange:
    """A fact or a package that differs between two environments; a package that is not installed has no version."""

    name: str
    was: str | None
    is_now: str | None
    is_package: bool = False


class Environment(Record):
    """The installed distributions, with the digest that manifests contain."""

    digest: str
    python: str
    implementation: str
    platform: str
    distributions: dict[str, str]

    def changes(self, now: "Environment") -> list[EnvironmentChange]:
        """Return what differs in another environment: facts first, then packages, each by name."""
        facts = [
            EnvironmentChange(name, getattr(self, name), getattr(now, name))
            for name in ("implementation", "platform", "python")
        ]
        packages = [
            EnvironmentChange(name, self.distributions.get(name), now.distributions.get(name), is_package=True)
            for name in sorted({*self.distributions, *now.distributions})
        ]
        return [it for it in (*facts, *packages) if it.was != it.is_now]


@functools.cache
def current_environment() -> Environment:
    """Return the environment of this process."""
    details = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "distributions": dict(sorted((d.metadata["Name"].lower(), d.version) for d in metadata.distributions())),
    }
    text = json.dumps(details, sort_keys=True).encode()
    digest = hashlib.blake2b(text, digest_size=16, usedforsecurity=False).hexdigest()
    return Environment.model_validate({"digest": digest, **details})


def store_environment(lake: Objects) -> str:
    """Write this process's environment to a lake if it is not there, and return its digest.

    Raises:
        LakeError: the lake cannot be written.
    """
    here = current_environment()
    with contextlib.suppress(FileExistsError):
        lake.create(lake.path(ENVIRONMENTS, f"{here.digest}.json"), seal(here))
    return here.digest


def load_environment(lake: Objects, digest: str | None) -> Environment:
    """Return a stored environment.

    Raises:
        MissingArtifactError: it is not in the lake.
        CorruptArtifactError: it is damaged, or another environment's.
    """
    path = lake.path(ENVIRONMENTS, f"{digest}.json")
    found = unseal(lake.read(path, limit=_MOST_BYTES), Environment, where=path, what="the record of an environment")
    if found.digest != digest:
        raise CorruptArtifactError(f"{path} is the record of environment {found.digest}; expected {digest}. {RESTORE}")
    return found


def memory_bytes() -> int:
    """Return the memory of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
