"""What is installed: the wheel, the dependencies that it declares, and the engine without its extras.

A whole project in an environment of the wheel alone: see .ci/wheel.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hatchling.build import build_wheel
from packaging.requirements import Requirement

from ml_assets.extras import PACKAGES
from ml_assets.warehouse.project_contracts import read_contracts
from tests.flights import DBT_PROJECT

ROOT = Path(__file__).parent.parent
ENGINE = ROOT / "ml_assets"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

EXTRA_OF = {
    "ml_assets/adapters/dagster_k8s.py": "k8s",
    "ml_assets/adapters/dagster_postgres.py": "postgres",
    "ml_assets/adapters/uvicorn.py": "serve",
    "ml_assets/alerts/channels.py": "alerts",
    "ml_assets/dagster_storage/event_log_postgres.py": "postgres",
    "ml_assets/doctor/cluster.py": "k8s",
    "ml_assets/estimators/xgboost.py": "xgboost",
    "ml_assets/kubernetes": "k8s",
    "ml_assets/logic/training/distributed.py": "dask",
    "ml_assets/serving": "serve",
    "ml_assets/serving/tracing.py": "otel",
    "ml_assets/workers/dask.py": "dask",
    "ml_assets/workers/pods.py": "k8s",
}
"""The modules and packages that may import what an extra brings."""

USED_WITHOUT_IMPORT = {
    "dagster-dg-cli": "the program `dg`, which reads the entry point",
    "dagster-webserver": "`ml-assets ui` starts it as a module",
    "httptools": "uvicorn imports it",
    "pandas": "LightGBM's Dask integration imports it",
    "scikit-learn": "LightGBM's Dask integration imports it",
    "typer": "of dagster-dg-cli, in a version that prints its help",
    "uvloop": "uvicorn imports it",
    "xgboost": "xgboost-cpu has the same module; macOS has only this package",
}

NEED_AN_EXTRA = {
    "ml_assets.adapters.dagster_k8s",
    "ml_assets.adapters.dagster_postgres",
    "ml_assets.adapters.uvicorn",
    "ml_assets.dagster_storage.event_log_postgres",
    "ml_assets.kubernetes.step_pod",
    "ml_assets.kubernetes.client",
    "ml_assets.kubernetes.cluster",
    "ml_assets.kubernetes.fused",
    "ml_assets.kubernetes.handler",
    "ml_assets.kubernetes.launcher",
    "ml_assets.serving.one_write",
    "ml_assets.workers.pods",
}
"""The modules that cannot be imported without an extra; each other one imports them where it needs them."""

HEAVY = ("dbt", "duckdb", "kubernetes", "lightgbm", "matplotlib", "optuna", "pandas", "pandera", "pyarrow", "s3fs",
         "scipy", "sklearn", "xgboost")  # fmt: skip
"""Libraries that are imported when a step needs them, and not to load the code location."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {normalized(Requirement(one).name) for one in requirements}


def modules() -> Iterator[Path]:
    """Yield the engine's modules; templates are files of other projects."""
    return (path for path in ENGINE.rglob("*.py") if "templates" not in path.parts)


@cache
def imported_by(path: Path) -> set[str]:
    """Return the distributions that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    tops = {name: name.partition(".")[0] for name in found}
    foreign = (name for name, top in tops.items() if top not in {"ml_assets", *sys.stdlib_module_names})
    return {distribution_of(name) for name in foreign}


@cache
def distribution_of(module: str) -> str:
    """Return the distribution of a module; several share the namespace `dbt`."""
    owners = distributions().get(module.partition(".")[0], [])
    if len(owners) > 1:
        files = {f"{module.replace('.', '/')}{end}" for end in (".py", "/__init__.py")}
        owners = [one for one in owners if not files.isdisjoint(map(str, metadata.files(one) or ()))]
    return normalized(owners[0]) if owners else module.partition(".")[0]  # an extra that is not installed


@cache
def distributions() -> dict[str, list[str]]:
    return {top: sorted({*owners}) for top, owners in metadata.packages_distributions().items()}


def test_each_imported_package_is_declared_in_the_dependencies_or_in_the_extra_of_its_module() -> None:
    undeclared = {}
    for path in modules():
        place = path.relative_to(ROOT).as_posix()
        extras = {extra for prefix, extra in EXTRA_OF.items() if place == prefix or place.startswith(f"{prefix}/")}
        declared = names(PROJECT["dependencies"]).union(
            *(names(PROJECT["optional-dependencies"][extra]) for extra in extras)
        )
        if missing := imported_by(path) - declared:
            undeclared[place] = missing

    assert {} == undeclared


def test_each_declared_package_is_imported_or_has_a_reason() -> None:
    extras = PROJECT["optional-dependencies"].values()
    declared = names(PROJECT["dependencies"]).union(*map(names, extras))

    assert set(USED_WITHOUT_IMPORT) == declared - set[str]().union(*map(imported_by, modules()))


def test_the_wheel_has_all_files_of_the_engine_and_no_other_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    files = {
        path.relative_to(ROOT).as_posix()
        for path in ENGINE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        packed = {name for name in wheel.namelist() if not name.startswith(f"ml_assets-{PROJECT['version']}.dist-info")}

    assert files == packed


def test_without_extras_the_project_loads_without_heavy_libraries_and_each_module_imports_but_those_of_an_extra(
    manifest: Mapping[str, Any],
) -> None:
    read_contracts(manifest, DBT_PROJECT)  # as `ml-assets parse`: DuckDB checks new SQL of the contracts once
    blocked = [name for packages in PACKAGES.values() for name in packages]
    places = sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in modules())
    engine = [place.removesuffix("/__init__").replace("/", ".") for place in places if not place.endswith("__main__")]
    code = f"""
import importlib, json, sys
sys.modules.update(dict.fromkeys({blocked}))  # an import of them fails as if they were not installed
from definitions import defs
defs().get_repository_def().load_all_definitions()
heavy = [name for name in {HEAVY} if sys.modules.get(name)]
failed = {{}}
for name in {engine}:
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        failed[name] = str(error)
print(json.dumps([heavy, failed]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)

    heavy, failed = json.loads(done.stdout)
    assert [] == heavy
    assert NEED_AN_EXTRA == failed.keys()
    assert failed["ml_assets.kubernetes.launcher"] == (
        "the run launcher PodLauncher needs the package dagster_k8s, which is not installed. "
        "Install the extra: pip install 'ml-assets[k8s]'"
    )
    assert failed["ml_assets.dagster_storage.event_log_postgres"] == (
        "the event log BatchingPostgresEventLogStorage needs the package dagster_postgres, which is not installed. "
        "Install the extra: pip install 'ml-assets[postgres]'"
    )
