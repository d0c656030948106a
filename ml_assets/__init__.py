"""Declare a table and a target. Get a model that trains, proves itself, predicts, is monitored and retrains itself.

The public names are imported when they are first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_assets.assembly import build, lake_resources
    from ml_assets.automation.standard import standard_automation
    from ml_assets.components.declared import Automation, DbtTables, Model, RawTables
    from ml_assets.contracts.boosting_parameters import Range
    from ml_assets.contracts.estimator import EncodedRows, Estimator, FitContext
    from ml_assets.contracts.gate_result import GateResult
    from ml_assets.kubernetes.executor import run_or_pod
    from ml_assets.lake.resource import LakeResource
    from ml_assets.models.plan import Plans
    from ml_assets.notebook.artifacts import load_artifact, load_training_set, open_lake
    from ml_assets.notebook.candidate import try_features
    from ml_assets.notebook.champion import load_champion
    from ml_assets.notebook.versions import compare_versions
    from ml_assets.warehouse.unit_tests import failed_unit_tests

__all__ = (
    "Automation", "DbtTables", "EncodedRows", "Estimator", "FitContext", "GateResult", "LakeResource", "Model", "Plans",
    "Range", "RawTables", "build", "compare_versions", "failed_unit_tests", "lake_resources", "load_artifact",
    "load_champion", "load_training_set", "open_lake", "run_or_pod", "standard_automation", "try_features",
)  # fmt: skip
_MODULES = {
    "Automation": "components.declared", "DbtTables": "components.declared", "EncodedRows": "contracts.estimator",
    "Estimator": "contracts.estimator", "FitContext": "contracts.estimator", "GateResult": "contracts.gate_result",
    "LakeResource": "lake.resource", "Model": "components.declared", "load_artifact": "notebook.artifacts",
    "load_champion": "notebook.champion", "load_training_set": "notebook.artifacts", "open_lake": "notebook.artifacts",
    "try_features": "notebook.candidate", "compare_versions": "notebook.versions", "Plans": "models.plan",
    "Range": "contracts.boosting_parameters",
    "RawTables": "components.declared", "build": "assembly", "failed_unit_tests": "warehouse.unit_tests",
    "lake_resources": "assembly", "run_or_pod": "kubernetes.executor", "standard_automation": "automation.standard",
}  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401 - public names have any type
    if name not in _MODULES:
        raise AttributeError(f"module 'ml_assets' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ml_assets.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
