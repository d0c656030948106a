"""`ml-assets doctor`: checks everything that the project depends on, and explains how to fix problems."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml_assets.contracts.words import counted

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
    import os
    import sys

    from ml_assets.alerts.resource import Redactor
    from ml_assets.cli.console.progress import Progress
    from ml_assets.doctor.checks import SECONDS, examine

    looked_at = checks()
    names = ", ".join(check.name for check in looked_at)
    Progress(sys.stderr).log(f"checking {names}; this takes {SECONDS:g} seconds at most")
    clean = Redactor((), os.environ)
    found = []
    for finding in examine(looked_at):
        found.append(finding.rewritten(clean))
        if not arguments.json:
            _print(found[-1])
    if arguments.json:
        _print_json(found)
    else:
        count = {state: sum(one.state == state for one in found) for state in ("ok", "warning", "wrong")}
        print(f"{count['ok']} ok, {counted(count['warning'], 'warning')}, {count['wrong']} wrong")
    return 1 if any(one.state == "wrong" for one in found) else 0


def checks() -> "list[Check]":
    """Return the checks. Slow imports happen here, before the time limits start."""
    import os
    from functools import partial

    import duckdb  # noqa: F401 - see above

    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.contracts.artifacts import Promotion
    from ml_assets.doctor import cluster, instance, lake, machine, order, records
    from ml_assets.doctor.checks import Check
    from ml_assets.lake.resource import LakeResource
    from ml_assets.project import find_project
    from ml_assets.settings import SettingsError, lake_url

    try:
        url = lake_url()
    except SettingsError:  # reported by the check of the settings
        url = ""
    declared = read_declarations()
    home = os.environ.get("DAGSTER_HOME") or str(find_project().dagster_home)
    if url.startswith("s3://"):
        import s3fs  # noqa: F401 - see above
    return [
        Check("settings", machine.settings),
        Check("python", machine.installed),
        Check("dask", partial(machine.distributed_training, models_over_workers(declared))),
        Check("dbt manifest", partial(machine.manifest, find_project().dbt)),
        Check("room", partial(machine.room, url)),
        *([Check("lake", partial(lake.lake, LakeResource(url=url)))] if url else []),
        *([Check("promotion log", partial(lake.promotion_logs, LakeResource(url=url), Promotion))] if url else []),
        *([Check("records", partial(records.records, LakeResource(url=url)))] if url else []),
        *([Check("order", partial(order.order, LakeResource(url=url)))] if url else []),
        Check("warehouse", lake.warehouse),
        Check("dagster", partial(instance.dagster_instance, home)),
        Check("cluster", partial(cluster.cluster, home, gpus(declared))),
    ]


def models_over_workers(declared: "Declared") -> list[str]:
    """Return the models that are declared to train over several workers."""
    return [model.name for model in declared.models if model.training.workers > 1]


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
    print(f"{finding.state:<8} {finding.check}: {finding.text}", flush=True)
    if finding.fix:
        print(f"{'':<8} fix: {finding.fix}", flush=True)


def _print_json(found: "Sequence[Finding]") -> None:
    import json
    from dataclasses import asdict

    well = all(one.state != "wrong" for one in found)
    print(json.dumps({"is_healthy": well, "findings": [asdict(one) for one in found]}, indent=1))
