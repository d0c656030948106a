"""Private names of Optuna."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.storages._heartbeat import (
    get_heartbeat_thread,  # sends heartbeats of a trial that runs outside of `Study.optimize`
)
from optuna.trial import FrozenTrial

LIBRARY: Final = "optuna"
CHECKED: Final = "5.0.0"
MEMBERS: Final = {
    "FrozenTrial._trial_id": "identifies a trial in the storage",
    "Study._storage": "the storage, which records the heartbeats of trials",
    "Trial._trial_id": "identifies a trial in the storage",
    "Trial._suggest(name, distribution)": "draws a parameter of any distribution, as `Study.ask` does",
}


def ask(study: Study) -> Trial:
    """Return the next queued trial; if none is queued, a new one. It sends no heartbeats; see `heartbeats`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        return study.ask()


@contextmanager
def heartbeats(study: Study, trial: Trial) -> Iterator[None]:
    """Let a trial send heartbeats while the context is open. It sends none if the storage has no heartbeats.

    `Study.optimize` does so too, but it fails with an AssertionError if the trial was failed while its result is
    stored.
    """
    with get_heartbeat_thread(trial._trial_id, study._storage):
        yield


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> None:
    """Draw a parameter of a trial. `Study.ask` does so too, but it cannot know the number that draws."""
    trial._suggest(name, distribution)


def record_heartbeat(study: Study, trial: FrozenTrial) -> None:
    """Record that a trial's worker is alive. Does nothing if the storage has no heartbeats."""
    record = getattr(study._storage, "record_heartbeat", None)
    if record is not None:
        record(trial._trial_id)
