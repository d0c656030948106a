"""The same work as `benchmarks.plain`, as runs of the Dagster graph into a lake; what `benchmarks.overhead` measures.

Not here: raw tables, dbt, features and labels. The lake (`ML_ASSETS_LAKE`) contains them.
"""

import argparse
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.adapters.dagster import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    IMPLICIT_ASSET_JOB_NAME,
)
from ml_assets.assembly import build
from ml_assets.cli.console.progress import Progress
from ml_assets.cli.flow.project import open_instance
from ml_assets.contracts.artifacts.training import Model
from ml_assets.declaration.reading import read_all
from ml_assets.lake.resource import LakeResource
from ml_assets.orchestration.location import Overrides, overriding
from resources.deployment import resources
from sensors.deployment import SENSORS
from tests.adapters.dagster import ReconstructableRepository

ROOT = Path(__file__).resolve().parent.parent
TRAINING = ("training_set", "importances", "tuning", "model", "evaluation", "champion")
MONITORING = ("predictions", "drift", "performance")
PRELOAD = (
    "benchmarks.orchestrated", "lightgbm", "matplotlib.figure", "ml_assets.logic.plots.evaluation",
    "optuna", "pandera.polars",
    "pyarrow.parquet",
)  # fmt: skip
PROCESSES = 2


def _location(executor: dg.ExecutorDefinition) -> dg.Definitions:
    progress = Progress(Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    with overriding(Overrides(loggers=progress.loggers())):
        return build(ROOT, resources=resources, sensors=SENSORS, executor=executor)


def in_process() -> dg.Definitions:
    """Return the graph with all steps in one process."""
    return _location(dg.in_process_executor)


def spawn() -> dg.Definitions:
    """Return the graph with a fresh Python for each step."""
    return _location(dg.multiprocess_executor.configured({"max_concurrent": PROCESSES, "start_method": {"spawn": {}}}))


def forkserver() -> dg.Definitions:
    """Return the graph with a fork of a process that has imported everything for each step."""
    method = {"forkserver": {"preload_modules": [*PRELOAD]}}
    return _location(dg.multiprocess_executor.configured({"max_concurrent": PROCESSES, "start_method": method}))


EXECUTORS: Mapping[str, Callable[[], dg.Definitions]] = {
    "in_process": in_process, "spawn": spawn, "forkserver": forkserver,
}  # fmt: skip


def main() -> None:
    """Run training, then monitoring over the test window; print the hash of the model's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("as_of", type=date.fromisoformat)
    parser.add_argument("--executor", choices=[*EXECUTORS], default="in_process")
    arguments = parser.parse_args()
    name, as_of = arguments.model, arguments.as_of
    first = as_of - timedelta(days=read_all(ROOT / "defs").model(name).split.test_days - 1)
    config = {"ops": {f"{name}__training_set": {"config": {"as_of": str(as_of)}}}}
    days = {ASSET_PARTITION_RANGE_START_TAG: str(first), ASSET_PARTITION_RANGE_END_TAG: str(as_of)}
    run = _runner(arguments.executor)
    run([dg.AssetKey([name, stage]) for stage in TRAINING], config, {})
    run([dg.AssetKey([name, stage]) for stage in MONITORING], {}, days)
    lake = LakeResource().connect()
    booster = lake.get(lake.find(f"{name}/model"), Model).booster
    print(hashlib.blake2b(booster.encode(), digest_size=16).hexdigest())


def _runner(executor: str) -> Callable[[Sequence[dg.AssetKey], Mapping[str, Any], Mapping[str, str]], None]:
    job = in_process().resolve_implicit_global_asset_job_def() if executor == "in_process" else None
    # By the name that child processes import, which `__main__` is not.
    location = ReconstructableRepository.for_module("benchmarks.orchestrated", executor, str(ROOT))

    def run(keys: Sequence[dg.AssetKey], config: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        whole = {"loggers": {"console": {}}, **config}
        with open_instance() as found:
            if job is not None:
                job.execute_in_process(instance=found, asset_selection=[*keys], run_config=whole, tags={**tags})
                return
            with dg.execute_job(
                location.get_reconstructable_job(IMPLICIT_ASSET_JOB_NAME),
                instance=found,
                asset_selection=[*keys],
                run_config=whole,
                tags={**tags},
                raise_on_error=True,
            ) as result:
                if not result.success:
                    raise SystemExit(1)

    return run


if __name__ == "__main__":
    main()
