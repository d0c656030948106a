"""A search by several workers on one study: its storage, its workers, and the clean-up at its end.

Not here: the distribution of trials (see `ml_assets.logic.training.shared_study`), and a search by one process (see
`ml_assets.models.training`).
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
from pydantic import JsonValue

from ml_assets.contracts.artifacts.training import TrainingSet, Tuning
from ml_assets.declaration.compute import Compute
from ml_assets.kubernetes.policy import PodPolicy
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.logic.training.shared_study import coordinate
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.trials import Trials
from ml_assets.logic.training.tuning import OnTrial, TimeLimit, new_study
from ml_assets.machine.temporary import temporary_folder
from ml_assets.models import tuning_worker
from ml_assets.models.plan import ModelPlan
from ml_assets.models.pod_tags import pod_tags
from ml_assets.settings import SettingsError
from ml_assets.workers.crew import Crew, Work
from ml_assets.workers.places import CLUSTER_SECONDS, HERE_SECONDS, are_pods, worker_pool
from ml_assets.workers.studies import (
    BEAT_SECONDS,
    SILENT_SECONDS,
    STUDIES,
    delete_studies,
    file_url,
    open_storage,
    studies_url,
)

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


def with_tuning_in_run_pod(plan: ModelPlan) -> ModelPlan:
    """Return the plan with tuning in the run's pod, because only that pod may start workers. They get tuning's compute.

    A step's own pod has no access to the cluster's API.
    """
    if plan.declaration.tuning.workers == 1:
        return plan
    compute = {name: one for name, one in plan.declaration.compute.items() if name != "tuning"}
    return replace(plan, declaration=plan.declaration.model_copy(update={"compute": compute}))


@dataclass(frozen=True)
class SharedSearch:
    """A search by the workers that a model declares.

    Attributes:
        identity: distinguishes this search from every other, so that no two share a study.
        beat: seconds between two heartbeats of a running trial.
        silent: seconds without a heartbeat after which a trial is given to another worker.
    """

    plan: ModelPlan
    context: dg.AssetExecutionContext
    ledger: StepLedger
    identity: str
    beat: int = BEAT_SECONDS
    silent: int = SILENT_SECONDS

    def run(
        self, training_set: TrainingSet, search: Search, *, previous: pl.DataFrame | None, on_trial: OnTrial
    ) -> tuple[Tuning, dict[str, JsonValue]]:
        """Search with the declared number of workers; return the result, and the number of workers by device.

        Raises:
            WorkersError: the workers fail.
            SettingsError: workers are pods, and the address of the study is not set.
        """
        trials = Trials.of(training_set, search)
        left = trials.budget - (0 if previous is None else previous.height)
        workers = max(1, min(self.plan.declaration.tuning.workers, left))
        settings = self.plan.declaration
        with temporary_folder("study") as folder, self._storage(folder) as (url, storage, name):
            study = new_study(trials.metric, storage=storage, name=name)
            study.set_user_attr(tuning_worker.SEARCH, search.model_dump(mode="json"))
            study.set_user_attr(tuning_worker.FALLBACK, settings.training.device_fallback)
            tags = pod_tags(settings.compute.get("tuning") or Compute.model_validate({}))
            place = worker_pool(self.context, self._work(url, name, tags), folder=folder)
            policy = PodPolicy.of(tags)
            with Crew(place, workers, policy=policy, log=self.context.log.warning) as crew:
                seconds = settings.tuning.seconds
                limit = None if seconds is None else TimeLimit(seconds, time.monotonic)
                result = coordinate(
                    trials, study, wait=self._wait(crew), workers=workers, previous=previous, limit=limit,
                    on_trial=on_trial,
                )  # fmt: skip
            fell_back = study.user_attrs.get(tuning_worker.FELL_BACK, {})
        return result, {"workers": workers, **fell_back}

    @contextmanager
    def _storage(self, folder: Path) -> Iterator[tuple[str | None, "RDBStorage", str]]:
        """Yield the study's file (if it is one), its storage and its name; delete the study at the end."""
        shared = studies_url()
        if shared is None and are_pods(self.context):
            raise SettingsError(
                f"{STUDIES} is not set; the {self.plan.declaration.tuning.workers} workers of model '{self.plan.name}' "
                "are pods, which share a study in Postgres. Set it to postgresql://user:password@host/database, from a "
                "secret, or declare tuning: {workers: 1}."
            )
        file = None if shared is not None else file_url(folder / "study.db")
        storage = open_storage(shared or file or "", beat=self.beat, silent=self.silent)
        run_id = "" if self.ledger.step is None else self.ledger.step.run_id
        prefix = f"{self.plan.name}/{self.identity}/{run_id}/"
        delete_studies(storage, prefix)
        try:
            yield file, storage, f"{prefix}{uuid.uuid4().hex[:8]}"
        finally:
            delete_studies(storage, prefix)
            storage.engine.dispose()

    def _work(self, file: str | None, study: str, tags: Mapping[str, str]) -> Work:
        ref = self._training_set()
        arguments = [
            "--lake", self.ledger.lake.url, "--training-set", ref.asset, ref.version, "--study", study,
            "--beat", str(self.beat),
            *([] if file is None else ["--file", file]),
        ]  # fmt: skip
        return Work(tuning_worker.__name__, arguments, stdin=self.ledger.lake.options, tags=tags)

    def _training_set(self) -> ArtifactRef:
        asset = self.plan.asset("training_set").to_user_string()
        return next(ref for ref in self.ledger.refs if ref.asset == asset)

    def _wait(self, crew: Crew) -> Callable[[], None]:
        every = CLUSTER_SECONDS if are_pods(self.context) else HERE_SECONDS
        looked = [time.monotonic()]

        def wait() -> None:
            time.sleep(HERE_SECONDS)
            if time.monotonic() - looked[0] >= every:
                crew.check()
                looked[0] = time.monotonic()

        return wait
