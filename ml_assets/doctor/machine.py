"""Checks this machine: settings, installed packages, disk, memory, and dbt's connection to its warehouse."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from ml_assets.doctor.checks import Finding, State
from ml_assets.doctor.production import production_problems
from ml_assets.machine.system_limits import container_memory
from ml_assets.machine.temporary import temporary_folder
from ml_assets.settings import SettingsError, profile
from ml_assets.warehouse.dbt_lake import VARIABLE

_LEAST_DISK, _LITTLE_DISK = 0.5e9, 5e9
_LEAST_MEMORY, _LITTLE_MEMORY = 0.5e9, 2e9
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


def installed_distributions(lock: Path) -> Iterator[Finding]:
    """Yield whether the installed packages are those of the lock file."""
    from packaging.requirements import Requirement

    if not lock.is_file():
        yield Finding("distributions", "not checked", f"there is no {lock}.", "Run from a checkout, or from the image.")
        return
    lines = (line.removesuffix("\\").strip() for line in lock.read_text(encoding="utf-8").splitlines())
    wanted = [Requirement(line) for line in lines if line[:1].isalnum()]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate()]
    odd = [text for one in wanted if (text := _difference(one.name, str(one.specifier).removeprefix("==")))]
    if not odd:
        yield Finding("distributions", "ok", f"all {len(wanted)} distributions match {lock.name}.")
        return
    shown = ", ".join(odd[:_SHOWN]) + (f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else "")
    fix = f"pip install --no-deps -r {lock}"
    yield Finding("distributions", "wrong", f"different from {lock.name}: {shown}.", fix)


def _difference(name: str, version: str) -> str:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    return "" if found == version else f"{name} is {found} instead of {version}"


def room(lake: str) -> Iterator[Finding]:
    """Yield whether disks have enough room for a run.

    Args:
        lake: the lake's address, checked if it is a folder; empty if it is unknown.
    """
    folders = {"scratch": Path(tempfile.gettempdir())}
    if lake and "://" not in lake:
        folders["lake"] = next(one for one in (Path(lake), *Path(lake).absolute().parents) if one.exists())
    for name, folder in folders.items():
        free = shutil.disk_usage(folder).free
        text = f"{free / 1e9:,.1f} GB free for the {name} ({folder})."
        fix = "Free some space" + (", or set TMPDIR." if name == "scratch" else ".")
        yield Finding("disk", _state(free, _LEAST_DISK, _LITTLE_DISK), text, "" if free >= _LITTLE_DISK else fix)


def memory() -> Iterator[Finding]:
    """Yield whether there is enough memory for a run."""
    free = _memory()
    fix = "" if free >= _LITTLE_MEMORY else "Give this machine or pod more; training the example needs about 1 GB."
    yield Finding("memory", _state(free, _LEAST_MEMORY, _LITTLE_MEMORY), f"{free / 1e9:,.1f} GB available.", fix)


def _state(amount: float, least: float, little: float) -> State:
    return "wrong" if amount < least else "warning" if amount < little else "ok"


def _memory() -> float:
    """Return the available bytes: the free memory, or the container's limit if it is lower."""
    import psutil

    available, limit = psutil.virtual_memory().available, container_memory()
    return float(available if limit is None else min(available, limit))


def warehouse(project_dir: Path) -> Iterator[Finding]:
    """Yield what `dbt debug` reports about the connection to the warehouse."""
    folders = ["--project-dir", str(project_dir), "--profiles-dir", str(project_dir)]
    with temporary_folder("doctor") as scratch:
        bindings = scratch / "bindings.json"
        bindings.write_text(json.dumps({"scratch": str(scratch), "sources": {}, "models": {}}), encoding="utf-8")
        done = subprocess.run(
            [
                sys.executable, "-c", "from dbt.cli.main import cli; cli()", "debug", "--connection", *folders,
                "--log-path", str(scratch), "--log-level-file", "none", "--no-use-colors",
                "--no-send-anonymous-usage-stats",
            ],
            env={**os.environ, VARIABLE: str(bindings)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode == 0:
        yield Finding("warehouse", "ok", "dbt connects to it.")
        return
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    reason = next((line for line in lines if line.startswith(">")), lines[-1] if lines else "no output")
    yield Finding(
        "warehouse", "wrong", f"dbt cannot connect to it: {reason.lstrip('>')}",
        f"Check profiles.yml and the variables that it reads; then: dbt debug --connection {' '.join(folders)}",
    )  # fmt: skip
