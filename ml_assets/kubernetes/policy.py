"""Decides whether a pod that did not start or was lost is retried, from its step's tags.

The tag `dagster-k8s/config`, which dagster-k8s reads, holds the pod's resources.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final, Self

from ml_assets.kubernetes.diagnosis import Kind
from ml_assets.kubernetes.quantity import bytes_of, doubled

POD: Final = "dagster-k8s/config"
"""The tag of a step that gets its own pod. Steps without it run in the run's process."""
POLICY: Final = "ml_assets/pod"


@dataclass(frozen=True)
class PodPolicy:
    """The retry rules of a step's pod.

    Attributes:
        memory_ceiling: the most memory that a retry may get after an out-of-memory kill; None: no such retry.
        retries: how often a lost pod is replaced.
        queue_timeout_minutes: how long a queue may hold the pod back.
    """

    memory: str | None = None
    memory_ceiling: str | None = None
    retries: int = 2
    start_timeout_minutes: float = 10
    queue_timeout_minutes: float = 24 * 60

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Self:
        """Return the policy in a step's tags, or the default."""
        return cls(**json.loads(tags.get(POLICY, "{}")))

    def text(self) -> str:
        """Return the policy as a tag's value."""
        return json.dumps(asdict(self))

    @property
    def start(self) -> timedelta:
        """How long a pod may wait for an image or a node."""
        return timedelta(minutes=self.start_timeout_minutes)

    @property
    def queue(self) -> timedelta:
        """How long a queue may hold the pod back."""
        return timedelta(minutes=self.queue_timeout_minutes)

    def memory_after(self, before: Sequence[str]) -> str | None:
        """Return the memory of the next attempt, after attempts that ended for these reasons; None: as declared."""
        if self.memory is None or self.memory_ceiling is None or "PodOutOfMemory" not in before:
            return None
        return doubled(self.memory, times=before.count("PodOutOfMemory"), ceiling=self.memory_ceiling)

    def retry_message(self, kind: Kind, before: Sequence[str]) -> str | None:
        """Return a sentence about how a step is retried after a failure and earlier retries; None if it is not."""
        if kind == "RunPodLost":  # bounded by how often the run itself is resumed
            return "It is retried."
        if kind == "PodLost" and before.count(kind) < self.retries:
            return f"It is retried unchanged, retry {before.count(kind) + 1} of {self.retries}."
        if kind == "PodOutOfMemory" and self.memory is not None and self.memory_ceiling is not None:
            had = self.memory_after(before) or self.memory
            if bytes_of(had) < bytes_of(self.memory_ceiling):
                more = self.memory_after([*before, kind])
                return f"It is retried with {more}; its ceiling is {self.memory_ceiling}."
        return None

    def no_retry_message(self, kind: Kind) -> str:
        """Return why a step is not retried, and how to change that; '' if the diagnosis already contains it."""
        if kind == "PodLost":
            return f"Its {self.retries} retries are used up; raise 'retries' of the stage's compute."
        if kind == "PodOutOfMemory" and self.memory_ceiling is not None:
            return f"That is the ceiling; raise 'memory_ceiling' of the stage's compute from {self.memory_ceiling}."
        if kind == "PodOutOfMemory":
            return "Declare more 'memory' in the stage's compute, or a 'memory_ceiling' to have it retried with more."
        return ""
