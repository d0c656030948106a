import subprocess
import sys

import dagster as dg

from ml_assets.kubernetes.executor import run_or_pod
from tests.flights import build
from tests.kubernetes.pretended import ROOT

LAPTOP = """
import sys
import dagster as dg
from dagster._core.executor.in_process import InProcessExecutor
from dagster._core.executor.init import InitExecutorContext
from dagster._core.definitions.job_base import InMemoryJob
from ml_assets.kubernetes.executor import run_or_pod

@dg.job
def nothing():
    pass

with dg.DagsterInstance.ephemeral() as instance:
    config = {"retries": {"enabled": {}}}
    made = run_or_pod.executor_creation_fn(InitExecutorContext(InMemoryJob(nothing), run_or_pod, config, instance))
assert isinstance(made, InProcessExecutor), made
assert made.retries.enabled
sys.exit("kubernetes" in sys.modules or "dagster_k8s" in sys.modules)
"""


def test_on_a_laptop_it_is_the_in_process_executor_and_kubernetes_is_not_imported() -> None:
    assert 0 == subprocess.run([sys.executable, "-c", LAPTOP], cwd=ROOT, check=False).returncode


def test_a_code_location_runs_its_steps_with_it_by_default() -> None:
    assert build.__kwdefaults__ is not None
    assert run_or_pod is build.__kwdefaults__["executor"]
    assert {*dg.in_process_executor.config_schema.as_field().config_type.fields} == {
        *run_or_pod.config_schema.as_field().config_type.fields
    }
