"""A search of the shop's model by several processes, and what watches them.

Expectations stay out; they stand in the tests of this folder and of `tests.postgres`.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Tuning
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.training.tuning import NUMBER
from ml_assets.models.plan import ModelPlan
from ml_assets.models.shared_search import SharedSearch
from ml_assets.models.training import search_settings
from ml_assets.workers.processes import Processes
from tests.stages.shop import Trained, context_of, plan_of

TUNING = {"trials": 6, "max_rounds": 60, "early_stopping_rounds": 10, "workers": 2}


@dataclass
class Watched:
    """A search, the commands of its workers, and its messages."""

    plan: ModelPlan
    context: dg.AssetExecutionContext
    search: SharedSearch
    trained: Trained
    commands: list[str] = field(default_factory=list)
    kept: list[pl.DataFrame] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def run(self, *, previous: pl.DataFrame | None = None, trials: int | None = None) -> tuple[Tuning, dict[str, Any]]:
        return self.search.run(
            self.trained.training_set,
            search_settings(self.plan, self.trained.importances, trials=trials),
            previous=previous,
            on_trial=lambda trials, _: self.kept.append(trials),
        )


def watched(
    trained: Trained, folder: Path, monkeypatch: pytest.MonkeyPatch, *, tuning: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None, lose: bool = False,
) -> Watched:  # fmt: skip
    """Return a search that is ready to run; if requested, the first worker is killed during a trial."""
    plan = plan_of(tuning={**TUNING, **(tuning or {})}, training={"threads": 1, **(training or {})})
    lake = Lake(str(folder / "lake"))
    ledger = StepLedger(lake)
    ledger.use([Input.of(lake.put("returns/training_set", None, trained.training_set, Origin()))])
    context = context_of()
    found = Watched(plan, context, SharedSearch(plan, context, ledger, "1234", beat=1, silent=2), trained)
    monkeypatch.setattr(context.log, "warning", found.warnings.append)
    _watch(found, monkeypatch, lose=lose)
    return found


def _watch(found: Watched, monkeypatch: pytest.MonkeyPatch, *, lose: bool) -> None:
    start, look = Processes.start, Processes.look
    killed: list[int] = []

    def started(self: Processes, worker: int, attempt: int, memory: str | None) -> None:
        start(self, worker, attempt, memory)
        found.commands.append(" ".join(self._command))

    def looked(self: Processes, worker: int) -> Any:
        if lose and not killed and worker == 0 and _begun(self):
            # Both are at work, so the one that is killed has a trial.
            killed.append(worker)
            os.kill(self._running[worker].pid, signal.SIGKILL)
            self._running[worker].wait()
        return look(self, worker)

    def _begun(place: Processes) -> bool:
        return running(place) >= len(place._running)

    monkeypatch.setattr(Processes, "start", started)
    monkeypatch.setattr(Processes, "look", looked)


def running(place: Processes) -> int:
    """Return how many trials of the processes' study run."""
    import optuna

    from ml_assets.workers.studies import open_storage, studies_url

    given = dict(zip(place._command, place._command[1:], strict=False))
    storage = open_storage(given["--file"] if "--file" in given else studies_url() or "")
    study = optuna.load_study(study_name=given["--study"], storage=storage)
    states = [trial.state.name for trial in study.get_trials(deepcopy=False) if NUMBER in trial.user_attrs]
    storage.engine.dispose()
    return states.count("RUNNING")


Watching = Callable[..., Watched]
