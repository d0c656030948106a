"""Private names of Optuna."""

from typing import Final

from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

LIBRARY: Final = "optuna"
CHECKED: Final = "5.0.0"
MEMBERS: Final = {
    "FrozenTrial._trial_id": "identifies a trial in the storage",
    "Study._storage": "the storage, which records the heartbeats of trials",
    "Trial._suggest(name, distribution)": "draws a parameter of any distribution, as `Study.ask` does",
}


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> None:
    """Draw a parameter of a trial. `Study.ask` does so too, but it cannot know the number that draws."""
    trial._suggest(name, distribution)


def record_heartbeat(study: Study, trial: FrozenTrial) -> None:
    """Record that a trial's worker is alive. Does nothing if the storage has no heartbeats."""
    record = getattr(study._storage, "record_heartbeat", None)
    if record is not None:
        record(trial._trial_id)
