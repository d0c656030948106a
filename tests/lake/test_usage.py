"""What a step uses: CPU of itself and of its children, its own peak of memory, and what its pod was given."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ml_assets.declaration.compute import Compute
from ml_assets.lake import usage
from ml_assets.lake.manifest import PodResources
from ml_assets.lake.origin import peak_memory_bytes
from ml_assets.lake.usage import POD_MEMORY, POD_MILLICORES, Meter, note_child, pod_resources
from ml_assets.machine import system_limits
from ml_assets.machine.gpu_usage import GpuSampler
from ml_assets.models import pod_tags

MIB = 2**20
BUSY = "import time\nuntil = time.process_time() + 0.1\nwhile time.process_time() < until: pass"
OWN = Compute(cpu="1500m", memory="2Gi", gpu=2, gpu_type="NVIDIA-H100-80GB-HBM3")


def printed(code: str) -> list[float]:
    """Run code in a process of its own, because the threads of other tests use CPU and free memory; return its JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return [float(it) for it in json.loads(done.stdout)]


def test_cpu_of_the_process_and_its_children_is_counted_once() -> None:
    own, childs, rest = printed(f"""
import json, subprocess, sys
from ml_assets.lake.usage import Meter
meter = Meter()
exec({BUSY!r})
own = meter.take().cpu_seconds
subprocess.run([sys.executable, "-S", "-c", {BUSY!r}], check=True)
print(json.dumps([own, meter.take().cpu_seconds, meter.take().cpu_seconds]))
""")

    assert min(own, childs) >= 0.1
    assert rest < 0.05


def test_usage_reported_by_another_process_counts_as_a_childs() -> None:
    meter = Meter()
    before = meter.take()
    note_child(cpu_seconds=7.0, peak_bytes=10**12)

    used = meter.take()

    assert 7.0 <= (used.cpu_seconds or 0) < 8.0
    assert (used.peak_memory_bytes or 0) >= 10**12 > (before.peak_memory_bytes or 0)
    meter = Meter()
    assert (meter.take().peak_memory_bytes or 0) < 10**12


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a process's peak")
def test_the_peak_of_memory_is_the_steps_own_and_not_that_of_one_before_it() -> None:
    start, high, after = printed(f"""
import json
from ml_assets.lake.usage import Meter
meter = Meter()
start = meter.take().peak_memory_bytes
held = bytearray(b"x") * {96 * MIB}  # every page of it is written
del held
high = meter.take().peak_memory_bytes
meter = Meter()
print(json.dumps([start, high, meter.take().peak_memory_bytes]))
""")

    assert high - start >= 90 * MIB
    assert high - after >= 80 * MIB


def test_where_the_kernel_takes_no_such_wish_the_peak_is_that_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_FORGET", tmp_path / "none" / "clear_refs")
    meter = Meter()

    assert peak_memory_bytes() == meter.take().peak_memory_bytes


def test_outside_a_cluster_no_resources_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    assert PodResources() == pod_resources(pod_tags.pod_tags(OWN))


@pytest.fixture
def in_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend a pod whose container has no limit of memory."""
    limit = tmp_path / "memory.max"
    limit.write_text("max\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(system_limits, "_LIMITS", (limit,))
    for name in (POD_MILLICORES, POD_MEMORY):
        monkeypatch.delenv(name, raising=False)
    return limit


def test_a_step_with_its_own_pod_has_the_declared_resources(in_pod: Path) -> None:
    assert in_pod.exists()
    assert PodResources(cpu=1.5, memory_bytes=2 * 2**30, gpus=2, gpu_type="NVIDIA-H100-80GB-HBM3") == pod_resources(
        pod_tags.pod_tags(OWN)
    )


def test_a_step_in_the_runs_pod_has_the_resources_of_the_downward_api(
    in_pod: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_pod.exists()
    assert PodResources(gpus=0) == pod_resources({})
    monkeypatch.setenv(POD_MILLICORES, "500")
    monkeypatch.setenv(POD_MEMORY, str(2**30))

    assert PodResources(cpu=0.5, memory_bytes=2**30, gpus=0) == pod_resources({})


def test_a_pod_that_got_more_memory_after_it_ran_out_was_given_its_limit(in_pod: Path) -> None:
    in_pod.write_text(f"{64 * MIB}\n")

    assert 64 * MIB == pod_resources(pod_tags.pod_tags(OWN)).memory_bytes


def test_the_label_of_gpus_is_the_one_that_pods_are_placed_by() -> None:
    config = json.loads(pod_tags.pod_tags(OWN)[usage.POD])

    assert usage.GPU_TYPE == pod_tags.GPU_TYPE
    assert usage.GPU_TYPE in config["pod_spec_config"]["node_selector"]


# ---------------------------------------------------------------- GPUs


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: str) -> None:
    """Put an `nvidia-smi` first on the path that prints these lines repeatedly, as the real one does."""
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + "exec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def busy_seconds(*, samples: int) -> tuple[float | None, float]:
    """Return how long a step on two GPUs used them, and how long it took."""
    meter = Meter(PodResources(gpus=2))
    deadline = time.monotonic() + 60
    sampler = meter._gpus
    while sampler is not None and len(sampler._samples) < samples and time.monotonic() < deadline:
        time.sleep(0.005)
    cost = meter.take()
    return cost.gpu_seconds, cost.seconds


def test_gpus_were_busy_for_the_mean_of_their_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, "50", "100", "0", "50")

    busy, seconds = busy_seconds(samples=4)

    assert busy == pytest.approx(0.5 * 2 * seconds, abs=1e-5)


def test_a_gpu_without_figures_does_not_count_as_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, "[N/A]", "100")

    assert busy_seconds(samples=1)[0] is None


def test_without_nvidia_smi_the_gpu_usage_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert busy_seconds(samples=0)[0] is None


def test_the_sampler_of_an_attempt_that_failed_ends_with_its_meter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, "50")
    meter = Meter(PodResources(gpus=1))
    sampler = meter._gpus
    assert isinstance(sampler, GpuSampler)

    meter = Meter()

    assert sampler._process.returncode is not None
    assert meter.take().gpu_seconds is None
