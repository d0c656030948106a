"""Workers that are kept going while a step needs them: one that is lost is replaced, one with a fault ends the step.

What a worker is stays out: a process, see `ml_assets.workers.processes`, or a pod, see `ml_assets.workers.pods`.
"""

from collections.abc import Callable
from typing import Literal, Protocol, Self

from ml_assets.kubernetes.diagnosis import Diagnosis
from ml_assets.kubernetes.policy import PodPolicy

Standing = Literal["works", "done"] | Diagnosis
"""How a worker is: at work, ended in order, or what became of it."""


class WorkersError(RuntimeError):
    """The workers of a step cannot do it."""


class Place(Protocol):
    """Where workers run."""

    def start(self, worker: int, attempt: int, memory: str | None) -> None:
        """Start a worker, or start it again.

        Args:
            worker: which one, from 0.
            attempt: how often it was started before.
            memory: what it may use instead of what it is declared with.
        """

    def look(self, worker: int) -> Standing:
        """Return how a worker is."""

    def close(self) -> None:
        """End all that still runs."""


class Crew:
    """So many workers in one place; leaving the context ends them."""

    def __init__(self, place: Place, count: int, *, policy: PodPolicy, say: Callable[[str], None]) -> None:
        self._place = place
        self._policy = policy
        self._say = say
        self._working = {*range(count)}
        self._before: dict[int, list[str]] = {worker: [] for worker in range(count)}

    def __enter__(self) -> Self:
        """Start them all."""
        try:
            for worker in sorted(self._working):
                self._place.start(worker, 0, None)
        except BaseException:
            self._place.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End them all."""
        self._place.close()

    def check(self) -> None:
        """Replace who was lost.

        Raises:
            WorkersError: a worker ended with a fault of its own, or nobody is left and nobody may be replaced.
        """
        for worker in sorted(self._working):
            found = self._place.look(worker)
            if found == "done":
                found = Diagnosis("PodLost", "It ended before the work was done.")
            if isinstance(found, Diagnosis):
                self._replace(worker, found)

    def _replace(self, worker: int, found: Diagnosis) -> None:
        before = self._before[worker]
        again = self._policy.again(found.kind, before)
        if again is not None:
            self._say(f"worker {worker}: {found.sentence} {again}")
            before.append(found.kind)
            self._place.start(worker, len(before), self._policy.memory_after(before))
            return
        self._working.discard(worker)
        sentence = f"worker {worker}: {found.sentence} {self._policy.why_not(found.kind)}".rstrip()
        if found.kind == "PodFailed" or not self._working:
            raise WorkersError(sentence)
        self._say(f"{sentence} {len(self._working)} workers go on without it.")
