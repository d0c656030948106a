"""Where a step's workers run: in pods where runs are Kubernetes jobs, else as processes of this machine.

What workers do stays out.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import AssetExecutionContext

from ml_assets.kubernetes.executor import is_kubernetes
from ml_assets.workers.crew import Place
from ml_assets.workers.processes import Processes

CLUSTER_SECONDS = 5.0
"""How often a cluster is asked what became of pods."""

HERE_SECONDS = 0.2


@dataclass(frozen=True)
class Work:
    """What a worker is started with.

    Attributes:
        module: what it runs.
        arguments: what it is given, for everybody to see.
        told: what a process reads from its standard input; a pod has it in its environment, as a step's pod has.
        tags: what its pod asks for.
    """

    module: str
    arguments: Sequence[str]
    told: Mapping[str, Any]
    tags: Mapping[str, str]


def are_pods(context: AssetExecutionContext) -> bool:
    """Whether a step's workers are pods: whether dagster-k8s launched its run."""
    return is_kubernetes(context.instance.run_launcher)


def place_of(context: AssetExecutionContext, work: Work, *, folder: Path) -> Place:
    """Return where the workers of a step run; what processes say goes to a folder."""
    if not are_pods(context):
        return Processes(work.module, work.arguments, told=work.told, folder=folder)
    # By name: a stage's code version imports what its code imports, and dagster-k8s costs 0.7 s.
    pods = importlib.import_module("ml_assets.workers.pods")
    step = context.get_step_execution_context()
    place: Place = pods.Pods(
        context.instance.run_launcher,
        context.run,
        step_key=step.step.key,
        step_attempt=step.previous_attempt_count,
        module=work.module,
        arguments=work.arguments,
        tags=work.tags,
    )
    return place
