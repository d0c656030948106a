"""What a step uses of the machine that it runs on, and what its pod was given.

What that costs stays out; see `ml_assets.provenance.cost`. How it is kept: `ml_assets.lake.manifest.Cost`.

CPU seconds are those of this process and of the children that it waited for, so a process of dbt's, which has another
parent, tells its own (`note_child`). Where several steps share a process they run one after the other; what its other
threads do meanwhile is the step's.

Linux forgets a process's peak of memory when asked to, without any privilege, so the peak is the step's own. Where it
cannot be asked (no /proc that can be written to) it is the peak of the process so far, which an earlier step may have
caused. What dbt's process held is added to it: they did not necessarily peak together.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ml_assets.kubernetes.policy import POD
from ml_assets.kubernetes.quantity import bytes_of, cores_of
from ml_assets.lake.manifest import Asked, Cost
from ml_assets.lake.origin import memory_bytes, peak_memory_bytes
from ml_assets.machine.gpu_usage import GpuSampler

POD_MILLICORES: Final = "ML_ASSETS_POD_MILLICORES"
"""Of the downward API: `requests.cpu` with divisor 1m."""
POD_MEMORY: Final = "ML_ASSETS_POD_MEMORY_BYTES"
"""Of the downward API: `requests.memory`."""
GPU_TYPE: Final = "nvidia.com/gpu.product"
"""As `ml_assets.models.pod_tags` has it, which nothing here may import."""

_PLAIN: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_FORGET: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")
_FORGET_PEAK: Final = "5"
_DIGITS: Final = 6


def cpu_seconds() -> float:
    """Return the CPU time of this process, and of its children that have ended and were waited for."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(it.ru_utime + it.ru_stime for it in map(resource.getrusage, whose))


class _Told:
    """What processes that are no children of this one have told of themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.cpu_seconds = 0.0
        self.peak_bytes = 0

    def add(self, seconds: float, peak: int) -> None:
        with self._lock:
            self.cpu_seconds += seconds
            self.peak_bytes = max(self.peak_bytes, peak)


_TOLD: Final = _Told()


def note_child(*, cpu_seconds: float, peak_bytes: int) -> None:
    """Count what a process took that works for this one and is another's child."""
    _TOLD.add(cpu_seconds, peak_bytes)


class Meter:
    """What this process uses from one moment to another."""

    def __init__(self) -> None:
        self.asked = Asked()
        self._gpus: GpuSampler | None = None
        self._peak_is_own = False
        self._mark()

    def restart(self, asked: Asked | None = None) -> None:
        """Begin anew: a step begins, and what was not taken of the one before was that of an attempt that failed."""
        if self._gpus is not None:
            self._gpus.stop()
        self.asked = asked or Asked()
        self._gpus = GpuSampler.started() if self.asked.gpus else None
        self._peak_is_own = _forget_peak()
        _TOLD.peak_bytes = 0
        self._mark()

    def take(self, asked: Asked | None = None) -> Cost:
        """Return what was used since the last call, or since the start; the peak of memory is that since the start.

        Args:
            asked: what the pod was given, if the start was not told.
        """
        given = self.asked if asked is None else asked
        seconds, cpu = self._since, self._cpu
        self._mark()
        busy = None
        if self._gpus is not None and given.gpus:
            share = self._gpus.stop()
            busy = None if share is None else round(share * given.gpus * (self._since - seconds), _DIGITS)
            self._gpus = None
        own = _peak_bytes() if self._peak_is_own else peak_memory_bytes()
        return Cost(
            seconds=round(self._since - seconds, _DIGITS),
            cpu_seconds=round(max(0.0, self._cpu - cpu), _DIGITS),
            peak_memory_bytes=own + _TOLD.peak_bytes,
            gpu_seconds=busy,
            asked=given,
        )

    def _mark(self) -> None:
        self._since = time.perf_counter()
        self._cpu = cpu_seconds() + _TOLD.cpu_seconds


def asked_of(tags: Mapping[str, str]) -> Asked:
    """Return what the pod was given in which a step runs; nothing of it is known outside of a cluster.

    What the downward API says is true of every pod, be it the run's or one with more memory than declared after it ran
    out; then come the tags of a step that has a pod of its own, and the container's limit.

    Args:
        tags: the step's.
    """
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        return Asked()
    own = json.loads(tags.get(POD, "{}"))
    amounts: Mapping[str, str] = own.get("container_config", {}).get("resources", {}).get("requests", {})
    millicores, memory = _number(POD_MILLICORES), _number(POD_MEMORY)
    declared = amounts.get("cpu")
    return Asked(
        cpu=millicores / 1000 if millicores else None if declared is None else float(cores_of(declared)),
        memory_bytes=memory or _memory_limit() or (bytes_of(amounts["memory"]) if "memory" in amounts else None),
        gpus=sum(int(amount) for name, amount in amounts.items() if name not in _PLAIN),
        gpu_type=own.get("pod_spec_config", {}).get("node_selector", {}).get(GPU_TYPE),
    )


def _number(name: str) -> int | None:
    """Return a number of the downward API, which says 0 of what the pod did not ask for."""
    given = os.environ.get(name, "").strip()
    return int(given) if given.isdecimal() and int(given) else None


def _memory_limit() -> int | None:
    """Return this container's limit of memory; None where it has none."""
    for path in _LIMITS:
        if path.is_file():
            text = path.read_text(encoding="ascii").strip()
            return int(text) if text.isdecimal() and int(text) < memory_bytes() else None
    return None


def _forget_peak() -> bool:
    """Have Linux measure this process's peak of memory from now on; False where it does not take that."""
    if sys.platform != "linux":
        return False
    try:
        _FORGET.write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:  # no /proc, or one that cannot be written to: the caller then says what the whole process held
        return False
    return True


def _peak_bytes() -> int:
    """Return the most that was resident since it was forgotten; the kernel's other figure never forgets."""
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
