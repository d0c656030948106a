"""What is done about a pod that does not start or dies: what its step's tags say, and what follows from them.

What the pod asks for stands in `dagster-k8s/config`, which dagster-k8s reads.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final, Self

from ml_assets.kubernetes.diagnosis import Kind
from ml_assets.kubernetes.quantity import bytes_of, doubled

POD: Final = "dagster-k8s/config"
"""The tag of a step that gets a pod of its own; all others run in the run's process."""
POLICY: Final = "ml_assets/pod"


@dataclass(frozen=True)
class PodPolicy:
    """What is done about a pod that does not start or dies.

    Attributes:
        memory: what its first attempt gets.
        memory_ceiling: what it may get after it ran out of memory; none: it is not tried again.
        retries: how often a lost pod is replaced.
        start_minutes: how long it may wait for an image or a node.
    """

    memory: str | None = None
    memory_ceiling: str | None = None
    retries: int = 2
    start_minutes: float = 10

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Self:
        """Return what a step's tags say; the usual where they say nothing."""
        return cls(**json.loads(tags.get(POLICY, "{}")))

    def text(self) -> str:
        """Return it as a tag's value."""
        return json.dumps(asdict(self))

    @property
    def start(self) -> timedelta:
        """How long a pod may wait for an image or a node."""
        return timedelta(minutes=self.start_minutes)

    def memory_after(self, before: Sequence[str]) -> str | None:
        """Return the memory of the next attempt, after those that were lost for these reasons; none: as declared."""
        if self.memory is None or self.memory_ceiling is None or "PodOutOfMemory" not in before:
            return None
        return doubled(self.memory, times=before.count("PodOutOfMemory"), ceiling=self.memory_ceiling)

    def again(self, kind: Kind, before: Sequence[str]) -> str | None:
        """Return how a step is tried again, in a sentence; nothing if it is not.

        Args:
            kind: why its pod did not do it.
            before: why earlier attempts were tried again.
        """
        if kind == "RunPodLost":  # bounded by how often the run itself is resumed
            return "It is tried again."
        if kind == "PodLost" and before.count(kind) < self.retries:
            return f"It is tried again as it was, {before.count(kind) + 1} of {self.retries} times."
        if kind == "PodOutOfMemory" and self.memory is not None and self.memory_ceiling is not None:
            had = self.memory_after(before) or self.memory
            if bytes_of(had) < bytes_of(self.memory_ceiling):
                more = self.memory_after([*before, kind])
                return f"It is tried again with {more}; its ceiling is {self.memory_ceiling}."
        return None

    def why_not(self, kind: Kind) -> str:
        """Return why a step is not tried again, and what would help, where the diagnosis itself does not say so."""
        if kind == "PodLost":
            return f"Its {self.retries} retries are used up; raise 'retries' of the stage's compute."
        if kind == "PodOutOfMemory" and self.memory_ceiling is not None:
            return f"That is its ceiling; raise 'memory_ceiling' of the stage's compute from {self.memory_ceiling}."
        if kind == "PodOutOfMemory":
            return "Declare more 'memory' in the stage's compute, or a 'memory_ceiling' to have it retried with more."
        return ""
