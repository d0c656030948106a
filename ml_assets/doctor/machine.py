"""Checks this machine: Python, installed packages, dbt's manifest, disk, memory, and environment variables."""

import ctypes
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from ml_assets.doctor.checks import Finding, State
from ml_assets.doctor.production import production_problems
from ml_assets.extras import install_command, missing_packages
from ml_assets.project import find_project
from ml_assets.settings import SettingsError, profile
from ml_assets.warehouse.dbt_manifest import project_digest
from ml_assets.warehouse.dbt_package import LINK, PACKAGE, is_linked

_LEAST_DISK, _LITTLE_DISK = 0.5e9, 5e9
_LEAST_MEMORY, _LITTLE_MEMORY = 0.5e9, 2e9
_CGROUP: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_OLDEST: Final = (3, 11)
_SHOWN: Final = 5


def settings() -> Iterator[Finding]:
    """Yield whether all settings of the profile are set."""
    try:
        where = profile()
    except SettingsError as error:
        yield Finding("settings", "wrong", str(error), "Correct it, or unset it.")
        return
    problems = [*production_problems()] if where == "production" else []
    for problem in problems:
        text, _, fix = problem.rpartition(". ")
        yield Finding("settings", "wrong", f"{text}.", fix) if text else Finding("settings", "wrong", problem)
    if not problems:
        yield Finding("settings", "ok", f"the profile is {where}; all its settings are set.")
    if where == "production" and not os.environ.get("DAGSTER_EVENT_BATCH_SIZE"):
        yield Finding(
            "settings", "warning", "DAGSTER_EVENT_BATCH_SIZE is not set, so events are written one by one.",
            "Set it to 500 for the daemon, the code location and the run pods.",
        )  # fmt: skip
    if where == "production" and not os.environ.get("OMP_WAIT_POLICY"):
        yield Finding(
            "settings", "warning", "OMP_WAIT_POLICY is not set, so LightGBM's threads spin while they wait.",
            "Set it to PASSIVE for the run pods.",
        )  # fmt: skip


def installed() -> Iterator[Finding]:
    """Yield whether Python and the installed packages match the lock file."""
    version = platform.python_version()
    if sys.version_info[:2] < _OLDEST:
        yield Finding("python", "wrong", f"Python is {version}; expected 3.11 or newer.", "Install a newer Python.")
    else:
        yield Finding("python", "ok", f"Python is {version}.")
    yield _locked(find_project().root / "requirements.lock")
    if sys.platform == "linux":
        yield _openmp()


def _locked(lock: Path) -> Finding:
    """Return whether the installed packages are those of the lock file."""
    from packaging.requirements import Requirement

    if not lock.is_file():
        return Finding(
            "distributions", "warning", f"there is no {lock}, so the installed packages cannot be compared.",
            "Run from a checkout, or from the image.",
        )  # fmt: skip
    lines = (line.removesuffix("\\").strip() for line in lock.read_text(encoding="utf-8").splitlines())
    wanted = [Requirement(line) for line in lines if line[:1].isalnum()]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate()]
    odd = [text for one in wanted if (text := _difference(one.name, str(one.specifier).removeprefix("==")))]
    if not odd:
        return Finding("distributions", "ok", f"all {len(wanted)} distributions match {lock.name}.")
    shown = ", ".join(odd[:_SHOWN]) + (f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else "")
    return Finding(
        "distributions", "wrong", f"different from {lock.name}: {shown}.", f"pip install --no-deps -r {lock}"
    )


def _difference(name: str, version: str) -> str:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    return "" if found == version else f"{name} is {found} instead of {version}"


def _openmp() -> Finding:
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return Finding(
            "libgomp", "wrong", "libgomp.so.1 cannot be loaded, but LightGBM needs it.",
            "Install Debian's libgomp1 (libgomp elsewhere).",
        )  # fmt: skip
    return Finding("libgomp", "ok", "libgomp.so.1 loads, as LightGBM needs it.")


def distributed_training(models: Sequence[str]) -> Iterator[Finding]:
    """Yield whether the packages of distributed training are installed.

    Args:
        models: those that declare it.
    """
    if not models:
        return
    if missing := missing_packages("dask"):
        yield Finding(
            "dask", "wrong",
            f"{', '.join(models)} trains over several workers, which needs the packages {', '.join(missing)}; they are "
            "not installed.",
            install_command("dask"),
        )  # fmt: skip
    else:
        yield Finding("dask", "ok", f"the packages with which {', '.join(models)} trains over workers are installed.")


def manifest(project_dir: Path) -> Iterator[Finding]:
    """Yield whether dbt's manifest exists and is current, and whether dbt finds the engine's package."""
    target = project_dir / "target"
    stamp = target / "parsed_from"
    if not (target / "manifest.json").is_file():
        yield Finding(
            "dbt manifest", "wrong", "it does not exist, so the code location cannot load.", "ml-assets parse"
        )  # fmt: skip
    elif not stamp.is_file() or stamp.read_text(encoding="utf-8") != project_digest(project_dir):
        yield Finding("dbt manifest", "wrong", "it is older than the project's files.", "ml-assets parse")
    else:
        yield Finding("dbt manifest", "ok", "it matches the project's files.")
    if not is_linked(project_dir):
        yield Finding(
            "dbt package", "wrong", f"{project_dir / LINK} does not link to {PACKAGE}, so dbt finds no macros.",
            "ml-assets parse",
        )  # fmt: skip


def room(lake: str) -> Iterator[Finding]:
    """Yield whether disks and memory have enough room for a run.

    Args:
        lake: the lake's address, checked if it is a folder; empty if it is unknown.
    """
    folders = {"scratch": Path(tempfile.gettempdir())}
    if lake and "://" not in lake:
        folders["lake"] = next(one for one in (Path(lake), *Path(lake).absolute().parents) if one.exists())
    for name, folder in folders.items():
        free = shutil.disk_usage(folder).free
        text = f"{free / 1e9:,.1f} GB free for the {name} ({folder})."
        yield Finding(
            "disk", _state(free, _LEAST_DISK, _LITTLE_DISK), text,
            "" if free >= _LITTLE_DISK else "Free some space" + (", or set TMPDIR." if name == "scratch" else "."),
        )  # fmt: skip
    memory = _memory()
    yield Finding(
        "memory", _state(memory, _LEAST_MEMORY, _LITTLE_MEMORY), f"{memory / 1e9:,.1f} GB available.",
        "" if memory >= _LITTLE_MEMORY else "Give this machine or pod more; training the example needs about 1 GB.",
    )  # fmt: skip


def _state(amount: float, least: float, little: float) -> State:
    return "wrong" if amount < least else "warning" if amount < little else "ok"


def _memory() -> float:
    """Return the available bytes: the free memory, or the container's limit if it is lower."""
    import psutil

    limits = [Path(name).read_text(encoding="ascii").strip() for name in _CGROUP if Path(name).is_file()]
    return float(min([psutil.virtual_memory().available, *(int(text) for text in limits if text.isdecimal())]))
