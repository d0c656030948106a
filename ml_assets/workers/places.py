"""Chooses where a step's workers run: in pods if runs are Kubernetes jobs, else as processes of this machine."""

import importlib
from pathlib import Path

from dagster import AssetExecutionContext

from ml_assets.kubernetes.executor import is_kubernetes
from ml_assets.workers.crew import Work, WorkerPool
from ml_assets.workers.processes import Processes

CLUSTER_SECONDS = 5.0
"""How often the state of pods is polled."""

HERE_SECONDS = 0.2


def are_pods(context: AssetExecutionContext) -> bool:
    """Return whether a step's workers are pods, which is the case if dagster-k8s launched its run."""
    return is_kubernetes(context.instance.run_launcher)


def worker_pool(context: AssetExecutionContext, work: Work, *, folder: Path) -> WorkerPool:
    """Return the pool for the workers of a step. Output of processes is written to a folder."""
    if not are_pods(context):
        return Processes(work, folder)
    # Imported by name: a stage's code version covers what its code imports, and importing dagster-k8s takes 0.7 s.
    pods = importlib.import_module("ml_assets.workers.pods")
    step = context.get_step_execution_context()
    place: WorkerPool = pods.Pods(
        context.instance.run_launcher, context.run, work,
        step_key=step.step.key, step_attempt=step.previous_attempt_count,
    )  # fmt: skip
    return place
