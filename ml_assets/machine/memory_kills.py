"""Processes that the kernel killed for memory, which a pod that has lost one does not outlive.

Kubernetes has the kernel kill a container as a whole under cgroup v2. Under v1 it kills the one process that holds the
most, say dbt's, and the step would fail of it, whose code is not at fault. `end_pod` makes both the same, so that
whoever looks after the pod gives the next one more memory; see `ml_assets.kubernetes.diagnosis`.
"""

import os
import sys
from pathlib import Path
from typing import Final

KILLED: Final = "A process of this pod was killed for memory, so the pod was ended"
"""How a container's last message begins."""

_COUNTERS: Final = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
_LAST_MESSAGE: Final = Path("/dev/termination-log")
_SIGKILL_EXIT: Final = 137


def kills() -> int:
    """Return how many processes the kernel has killed for memory in this container; 0 where it does not count them."""
    for counter in _COUNTERS:
        if counter.is_file():
            counts = dict(line.split(maxsplit=1) for line in counter.read_text(encoding="ascii").splitlines())
            return int(counts.get("oom_kill", 0))
    return 0


def end_pod(who: str) -> None:
    """End this process at once if it is that of a run's or a step's pod, as dagster-k8s starts them; else do nothing.

    Args:
        who: what was killed.
    """
    if not os.environ.get("DAGSTER_RUN_JOB_NAME"):
        return
    message = f"{KILLED}: {who}."
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - nothing else comes after it
    if _LAST_MESSAGE.exists():
        _LAST_MESSAGE.write_text(message, encoding="utf-8")
    os._exit(_SIGKILL_EXIT)  # no signal: the first process of a container cannot kill itself
