"""`ml-assets doctor`: checks everything that the project depends on, and explains how to fix problems."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from ml_assets.project import find_project

if TYPE_CHECKING:
    from ml_assets.declaration.reading import Declared
    from ml_assets.doctor.checks import Check, Finding
    from ml_assets.doctor.cluster import GpuNeed


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("doctor", help="check everything that the project depends on, and how to fix it")
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.set_defaults(function=doctor)


def doctor(arguments: argparse.Namespace) -> int:
    """Run all checks and print the findings; return 1 if something is wrong."""
    from ml_assets.alerts.alert import Redactor
    from ml_assets.cli.console.progress import Progress
    from ml_assets.doctor.checks import SECONDS, STATES, examine

    wanted = checks()
    Progress(sys.stderr).log(f"checking {', '.join(wanted)}; this takes {SECONDS:g} seconds at most")
    clean = Redactor((), os.environ)
    found = []
    for finding in examine(wanted):
        found.append(finding.rewritten(clean))
        if not arguments.json:
            _print(found[-1])
    if arguments.json:
        _print_json(found)
    else:
        print(", ".join(f"{sum(one.state == state for one in found)} {state}" for state in STATES))
    return 1 if any(one.state == "wrong" for one in found) else 0


def checks() -> "dict[str, Check]":
    """Return the checks by name. Slow imports happen here, before the time limits start."""
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.doctor import cluster, instance, lake, machine, order
    from ml_assets.lake.resource import LakeResource
    from ml_assets.settings import SettingsError, lake_url, profile

    try:
        url, is_production = lake_url(), profile() == "production"
    except SettingsError:  # reported by the check of the settings
        url, is_production = "", False
    project = find_project()
    home = os.environ.get("DAGSTER_HOME") or str(project.dagster_home)
    found: dict[str, Check] = {
        "settings": machine.settings,
        "distributions": partial(machine.installed_distributions, project.root / "requirements.lock"),
        "room": partial(machine.room, url),
    }
    if not cluster.launches_pods(home):
        found["memory"] = machine.memory
    if url:
        resource = LakeResource(url=url)
        found |= {
            "lake": partial(lake.lake, resource),
            "promotion log": partial(lake.promotion_logs, resource),
            "order": partial(order.order, resource),
        }
    return found | {
        "warehouse": partial(machine.warehouse, project.dbt),
        "dagster": partial(instance.dagster_instance, home, is_production=is_production),
        "cluster": partial(cluster.cluster, home, gpus(read_declarations())),
    }


def gpus(declared: "Declared") -> "list[GpuNeed]":
    """Return the distinct GPU requirements of the declared stages."""
    from ml_assets.doctor.cluster import GpuNeed

    declared_compute = [
        *((f"{model.name}/{stage}", compute) for model in declared.models for stage, compute in model.compute.items()),
        *(("raw", one.compute) for one in declared.raw),
        *(("tables", one.compute) for one in declared.tables),
    ]
    return [
        GpuNeed(stage, compute.gpu, compute.gpu_resource, compute.gpu_type)
        for stage, compute in declared_compute
        if compute is not None and compute.gpu
    ]


def _print(finding: "Finding") -> None:
    """Print a finding for the terminal."""
    print(f"{finding.state:<11} {finding.check}: {finding.text}", flush=True)
    if finding.fix:
        print(f"{'':<11} fix: {finding.fix}", flush=True)


def _print_json(found: "Sequence[Finding]") -> None:
    well = all(one.state != "wrong" for one in found)
    print(json.dumps({"is_healthy": well, "findings": [asdict(one) for one in found]}, indent=1))
