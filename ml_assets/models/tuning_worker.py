"""A worker of a shared study, which reads the training set from the lake and runs trials until none are left.

The tuning step starts it as a process or a pod (see `ml_assets.models.shared_search`). Secrets reach it through the
environment or standard input, never through arguments. It does not import Dagster.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from ml_assets.contracts.artifacts.training import TrainingSet
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.logic.training.shared_study import work
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.trials import Trials
from ml_assets.logic.training.tuning import pruner
from ml_assets.machine.devices import used_device
from ml_assets.project import ProjectError, find_project
from ml_assets.workers.studies import open_storage, studies_url

SEARCH = "search"
"""The user attribute of the study that holds the `Search`, as JSON has it."""

FALLBACK = "device_fallback"
"""The study's user attribute with the fallback device."""

FELL_BACK = "fell_back"
"""The study's user attribute in which a worker records the fallback device that it used, and why."""

PATIENCE = 120.0
"""Seconds without a heartbeat of the step after which a worker ends."""


def main(arguments: Sequence[str]) -> int:
    """Run trials until none are left."""
    import optuna

    parser = argparse.ArgumentParser(description="Run trials of a shared study.")
    parser.add_argument("--lake", required=True, help="the lake's address")
    parser.add_argument("--training-set", nargs=2, metavar=("ASSET", "VERSION"), required=True)
    parser.add_argument("--study", required=True, help="its name")
    parser.add_argument(
        "--file", help="the SQLAlchemy address of the study's SQLite database (default: ML_ASSETS_STUDIES)"
    )
    parser.add_argument("--beat", type=int, required=True, help="seconds between two heartbeats")
    given = parser.parse_args(arguments)
    lake = Lake(given.lake, json.loads(sys.stdin.read() or "{}"))
    url = given.file or studies_url()
    if url is None:
        parser.error("the address of the study is missing; give --file, or set ML_ASSETS_STUDIES")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=given.study, storage=open_storage(url, beat=given.beat), pruner=pruner())
    with suppress(ProjectError):  # its metric may be a function of the project
        find_project().add_to_path()
    search = Search.model_validate(study.user_attrs[SEARCH])
    asset, version = given.training_set
    training = lake.get(ArtifactRef(asset=asset, version=version), TrainingSet)
    used = used_device(search.device, fallback=study.user_attrs[FALLBACK], model=training.summary.model)
    if used.fell_back is not None:
        study.set_user_attr(FELL_BACK, used.facts())
    trials = Trials.of(training, search.model_copy(update={"device": used.device}))
    ran = work(trials, study, clock=time.monotonic, sleep=time.sleep, patience=PATIENCE)
    sys.stdout.write(f"{ran} trials run\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
