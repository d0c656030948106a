"""Supervises the workers of a step: replaces lost ones, and ends the step if one fails.

Not here: the workers themselves. They are processes (see `ml_assets.workers.processes`) or pods (see
`ml_assets.workers.pods`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from ml_assets.kubernetes.diagnosis import Diagnosis
from ml_assets.kubernetes.policy import PodPolicy

WorkerState = Literal["running", "done"] | Diagnosis
"""A worker runs, ended successfully, or has a diagnosis of its failure."""


@dataclass(frozen=True)
class Work:
    """How a worker is started.

    Attributes:
        module: the Python module that it runs.
        arguments: its command-line arguments, visible to all users.
        stdin: what a process reads from its standard input. A pod has it in its environment, like a step's pod.
        tags: the tags that declare its pod; see `ml_assets.models.pod_tags`.
    """

    module: str
    arguments: Sequence[str]
    stdin: Mapping[str, Any]
    tags: Mapping[str, str]


class WorkersError(RuntimeError):
    """The workers of a step failed and cannot be replaced."""


class WorkerPool(Protocol):
    """Starts, watches and stops the workers of a step."""

    def start(self, worker: int, attempt: int, memory: str | None) -> None:
        """Start a worker, or restart it.

        Args:
            worker: its number, from 0.
            attempt: how often it was started before.
            memory: replaces the declared memory.
        """

    def look(self, worker: int) -> WorkerState:
        """Return the state of a worker."""

    def close(self) -> None:
        """Stop all workers that still run."""


class Crew:
    """Keeps a number of workers running. Leaving the context stops them."""

    def __init__(self, place: WorkerPool, count: int, *, policy: PodPolicy, log: Callable[[str], None]) -> None:
        self._place = place
        self._policy = policy
        self._log = log
        self._working = {*range(count)}
        self._before: dict[int, list[str]] = {worker: [] for worker in range(count)}

    def __enter__(self) -> Self:
        """Start all workers."""
        try:
            for worker in sorted(self._working):
                self._place.start(worker, 0, None)
        except BaseException:
            self._place.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all workers."""
        self._place.close()

    def check(self) -> None:
        """Replace lost workers.

        Raises:
            WorkersError: a worker failed by its own fault, or no worker is left and none may be replaced.
        """
        for worker in sorted(self._working):
            found = self._place.look(worker)
            if found == "done":
                found = Diagnosis("PodLost", "It ended before the work was finished.")
            if isinstance(found, Diagnosis):
                self._replace(worker, found)

    def _replace(self, worker: int, found: Diagnosis) -> None:
        before = self._before[worker]
        again = self._policy.retry_message(found.kind, before)
        if again is not None:
            self._log(f"worker {worker}: {found.sentence} {again}")
            before.append(found.kind)
            self._place.start(worker, len(before), self._policy.memory_after(before))
            return
        self._working.discard(worker)
        sentence = f"worker {worker}: {found.sentence} {self._policy.no_retry_message(found.kind)}".rstrip()
        if found.kind == "PodFailed" or not self._working:
            raise WorkersError(sentence)
        self._log(f"{sentence} {len(self._working)} workers continue.")
