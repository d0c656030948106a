"""Measures the resources that a step uses, and reads what its pod requested.

Not here: the cost (see `ml_assets.provenance.cost`) and its record (see `ml_assets.lake.manifest.Cost`).

CPU seconds are those of this process and of the children that it waited for. dbt's processes have another parent, so
they report their own (`note_child`). If several steps share a process, they run one after the other, and other threads
of the process count for the running step.

Linux can reset a process's peak memory without privileges, so the peak is the step's own. Without a writable /proc it
is the peak of the process so far, which an earlier step may have caused. The peak of dbt's process is added, although
both peaks need not coincide.
"""

import json
import os
import resource
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ml_assets.kubernetes.policy import POD
from ml_assets.kubernetes.quantity import bytes_of, cores_of
from ml_assets.lake.manifest import Cost, PodResources
from ml_assets.lake.origin import memory_bytes, peak_memory_bytes
from ml_assets.machine.gpu_usage import GpuSampler
from ml_assets.machine.system_limits import container_memory

POD_MILLICORES: Final = "ML_ASSETS_POD_MILLICORES"
"""From the downward API: `requests.cpu` with divisor 1m."""
POD_MEMORY: Final = "ML_ASSETS_POD_MEMORY_BYTES"
"""From the downward API: `requests.memory`."""
GPU_TYPE: Final = "nvidia.com/gpu.product"
"""The same as in `ml_assets.models.pod_tags`, which this package may not import."""

_PLAIN: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_FORGET: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")
_FORGET_PEAK: Final = "5"
_DIGITS: Final = 6


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended and were waited for."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(it.ru_utime + it.ru_stime for it in map(resource.getrusage, whose))


class _ReportedUsage:
    """Usage reported by processes that are not children of this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.cpu_seconds = 0.0
        self.peak_bytes = 0

    def add(self, seconds: float, peak: int) -> None:
        with self._lock:
            self.cpu_seconds += seconds
            self.peak_bytes = max(self.peak_bytes, peak)


_REPORTED: Final = _ReportedUsage()


def note_child(*, cpu_seconds: float, peak_bytes: int) -> None:
    """Count the usage of a process that works for this one but has another parent."""
    _REPORTED.add(cpu_seconds, peak_bytes)


class Meter:
    """Measures the usage of this process from the construction on.

    Attributes:
        requested: the resources of the step's pod.
        began: when the measurement began.
    """

    def __init__(self, requested: PodResources | None = None) -> None:
        self.requested = requested or PodResources()
        self._gpus = GpuSampler.started() if self.requested.gpus else None
        if self._gpus is not None:
            weakref.finalize(self, self._gpus.stop)  # a failed attempt may end without taking its usage
        self._peak_is_own = _forget_peak()
        _REPORTED.peak_bytes = 0
        self._mark()
        self.began = self._since

    def take(self, requested: PodResources | None = None) -> Cost:
        """Return the usage since the last call or the start. The peak memory is always since the start.

        Args:
            requested: the pod's resources, if the start did not get them.
        """
        given = self.requested if requested is None else requested
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
            peak_memory_bytes=own + _REPORTED.peak_bytes,
            gpu_seconds=busy,
            requested=given,
        )

    def _mark(self) -> None:
        self._since = time.perf_counter()
        self._cpu = cpu_seconds() + _REPORTED.cpu_seconds


def pod_resources(tags: Mapping[str, str]) -> PodResources:
    """Return the resources of the pod in which a step runs; empty outside of a cluster.

    The downward API is preferred, because it is right for every pod, including one restarted with more memory.
    Otherwise the tags of a step with its own pod and the container's limit are used.

    Args:
        tags: the step's tags.
    """
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        return PodResources()
    own = json.loads(tags.get(POD, "{}"))
    amounts: Mapping[str, str] = own.get("container_config", {}).get("resources", {}).get("requests", {})
    millicores, memory = _number(POD_MILLICORES), _number(POD_MEMORY)
    declared = amounts.get("cpu")
    return PodResources(
        cpu=millicores / 1000 if millicores else None if declared is None else float(cores_of(declared)),
        memory_bytes=memory or _memory_limit() or (bytes_of(amounts["memory"]) if "memory" in amounts else None),
        gpus=sum(int(amount) for name, amount in amounts.items() if name not in _PLAIN),
        gpu_type=own.get("pod_spec_config", {}).get("node_selector", {}).get(GPU_TYPE),
    )


def _number(name: str) -> int | None:
    """Return a number of the downward API, which reports 0 for resources that the pod did not request."""
    given = os.environ.get(name, "").strip()
    return int(given) if given.isdecimal() and int(given) else None


def _memory_limit() -> int | None:
    """Return this container's memory limit; None if it has none below the machine's memory."""
    limit = container_memory()
    return limit if limit and limit < memory_bytes() else None


def _forget_peak() -> bool:
    """Reset this process's peak memory in Linux; False if that is not supported."""
    if sys.platform != "linux":
        return False
    try:
        _FORGET.write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:  # no /proc, or a read-only one: the caller then uses the peak of the whole process
        return False
    return True


def _peak_bytes() -> int:
    """Return the peak resident memory since the reset. The kernel's other figure is never reset."""
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
