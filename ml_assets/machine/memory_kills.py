"""Detects processes that the kernel killed for memory, and ends the pod of such a process.

Under cgroup v2, Kubernetes has the kernel kill the whole container. Under v1 the kernel kills only the process that
uses the most memory, such as dbt's, and the step would fail as if its code were wrong. `end_pod` makes both cases the
same, so that the next pod gets more memory (see `ml_assets.kubernetes.diagnosis`).
"""

import os
import sys
from pathlib import Path
from typing import Final

KILLED: Final = "A process of this pod was killed for memory, so the pod was ended"
"""The beginning of a container's termination message."""

_COUNTERS: Final = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
_LAST_MESSAGE: Final = Path("/dev/termination-log")
_SIGKILL_EXIT: Final = 137


def kills() -> int:
    """Return how many processes the kernel has killed for memory in this container; 0 if it does not count them."""
    for counter in _COUNTERS:
        if counter.is_file():
            counts = dict(line.split(maxsplit=1) for line in counter.read_text(encoding="ascii").splitlines())
            return int(counts.get("oom_kill", 0))
    return 0


def end_pod(killed: str) -> None:
    """End this process at once if it is the main process of a dagster-k8s pod; otherwise do nothing.

    Args:
        killed: the process that was killed, in words.
    """
    if not os.environ.get("DAGSTER_RUN_JOB_NAME"):
        return
    message = f"{KILLED}: {killed}."
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - the process ends here, so no logger can flush
    if _LAST_MESSAGE.exists():
        _LAST_MESSAGE.write_text(message, encoding="utf-8")
    os._exit(_SIGKILL_EXIT)  # not a signal: the first process of a container cannot kill itself
